package projections

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// due asks with trust of a minute that is asked about after half of it.
func due(v *Views, ms int64, limit int) messages.DueWork {
	return v.Due(minute(), t0+ms, duration/2, limit)
}

func spellDue(d messages.DueWork) string {
	var list []string
	for _, c := range d.Certificates {
		list = append(list, "certificate "+string(c.Certificate[:4]))
	}
	for _, a := range d.Attachments {
		list = append(list, "attachment "+string(a.Thing))
	}
	for _, c := range d.Lapsed {
		list = append(list, fmt.Sprintf("close %s %s", c.Thing, c.Reason))
	}
	return fmt.Sprint(list)
}

func TestDue(t *testing.T) {
	a := "certificate " + string(certA[:4])
	renew := "[" + a + " attachment pump-7]"
	for _, c := range []struct {
		name  string
		given func(h *history)
		ms    int64
		want  string
	}{
		{"young", nil, duration/2 - 1, "[]"},
		{"half of the trust duration has passed", nil, duration / 2, renew},
		{"nobody is connected", func(h *history) { h.closed(pump, 1, 2) }, 5 * duration, "[]"},
		{"only the attachment is old", func(h *history) { h.verified(certA, 9) }, duration / 2, "[attachment pump-7]"},
		{"only the certificate is old", func(h *history) { h.attached(pump, certA, 9) }, duration / 2, "[" + a + "]"},
		{"trust has ended", nil, duration, "[" + a + " attachment pump-7 close pump-7 CLOSE_TRUST_LAPSED close pump-7 CLOSE_TRUST_LAPSED]"},
		{"expired", func(h *history) { h.verified(certA, expiry-9); h.attached(pump, certA, expiry-9) }, expiry + 1,
			"[close pump-7 CLOSE_CERTIFICATE_EXPIRED close pump-7 CLOSE_CERTIFICATE_EXPIRED]"},
		{"opened on a certificate that was refused while it was opened", func(h *history) { h.refused(certA, 2); h.opened(pump, certA, 2, 3) }, 5,
			"[close pump-7 CLOSE_CERTIFICATE_REFUSED]"},
		{"opened on an attachment that was withdrawn", func(h *history) { h.withdrawn(pump, certA, 2); h.opened(pump, certA, 2, 3) }, 5,
			"[close pump-7 CLOSE_ATTACHMENT_WITHDRAWN]"},
		{"parity: lapsed trust is not felt", parity, duration, renew},
		{"parity: a refused certificate is not felt", func(h *history) { parity(h); h.refused(certA, 2) }, duration / 2, "[attachment pump-7]"},
		{"parity: the end of the certificate is", func(h *history) { parity(h); h.verified(certA, expiry-9); h.attached(pump, certA, expiry-9) }, expiry + 1,
			"[close pump-7 CLOSE_CERTIFICATE_EXPIRED close pump-7 CLOSE_CERTIFICATE_EXPIRED]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := connected()
			if c.given != nil {
				c.given(h)
			}
			if got := spellDue(due(folded(h), c.ms, 8)); got != c.want {
				t.Errorf("due %s, want %s", got, c.want)
			}
		})
	}
}

// TestVoidedTrustIsRenewedAtOnce: it does not wait until it is old.
func TestVoidedTrustIsRenewedAtOnce(t *testing.T) {
	v := folded(connected())
	trust := minute()
	trust.SinceMs = t0 + 5
	if got := v.Due(trust, t0+6, duration/2, 8); len(got.Certificates) != 1 || len(got.Attachments) != 1 {
		t.Errorf("due %s", spellDue(got))
	}
}

// TestDueAfterTheClockWasSetBack: what was handed out in a time that is still to come is
// handed out again, to be asked about and to be closed.
func TestDueAfterTheClockWasSetBack(t *testing.T) {
	v := folded(connected())
	const ahead = 100 * duration
	if got := due(v, ahead, 8); len(got.Certificates) != 1 || len(got.Attachments) != 1 || len(got.Lapsed) == 0 {
		t.Fatalf("due %s", spellDue(got))
	}
	if got := due(v, ahead+1, 8); spellDue(got) != spellDue(messages.DueWork{}) {
		t.Fatalf("due again %s", spellDue(got))
	}
	v.Restrict(messages.StreamClock, &messages.ClockReanchored{FormerTrustMs: t0 + ahead + 1, AuthenticatedMs: t0 + 5}, messages.Instant{TrustMs: t0 + 5})
	if got := due(v, 5, 8); len(got.Certificates) != 1 || len(got.Attachments) != 1 || len(got.Lapsed) == 0 {
		t.Errorf("the clock was set back, and due is %s", spellDue(got))
	}
}

// TestDueTakesTurns: what was handed out waits before it is handed out again, so that a
// few that get no answer do not keep the others from being asked about.
func TestDueTakesTurns(t *testing.T) {
	h := &history{}
	const n = 10
	for i := range n {
		id := messages.CertificateIDOf([]byte{byte(i)})
		thing := messages.ThingName(fmt.Sprintf("thing-%d", i))
		h.verified(id, int64(i))
		h.attached(thing, id, int64(i))
		h.opened(thing, id, i, int64(i))
	}
	v := folded(h)
	now := duration/2 + n
	var turns []messages.CertificateID
	for range n / 2 {
		for _, c := range due(v, now, 2).Certificates {
			turns = append(turns, c.Certificate)
		}
	}
	want := make([]messages.CertificateID, n)
	for i := range n {
		want[i] = messages.CertificateIDOf([]byte{byte(i)})
	}
	if !slices.Equal(turns, want) {
		t.Errorf("the turns are %.4s, want the oldest first and each once: %.4s", turns, want)
	}
	if got := due(v, now, 100); len(got.Certificates)+len(got.Attachments) != 0 && len(got.Attachments) != n {
		t.Errorf("handed out again at once: %s", spellDue(got))
	}
	if got := due(v, now+duration/8, 100); len(got.Certificates) != n {
		t.Errorf("after a while %d are handed out again, want %d", len(got.Certificates), n)
	}
}

// TestDueIsComplete holds the agenda against a look at every session, with all handed
// out as often as it takes.
func TestDueIsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		v := folded(h)
		var now int64
		if n := len(h.records); n > 0 {
			now = h.records[n-1].At.TrustMs
		}
		before := min(now, t0)
		now += rapid.Int64Range(tellAgainMs, expiry).Draw(t, "later")
		trust := messages.Trust{DurationMs: rapid.Int64Range(8, 3*duration).Draw(t, "duration"), SinceMs: v.VoidedMs()}
		age := rapid.Int64Range(1, trust.DurationMs).Draw(t, "age")
		v.Due(minute(), before, duration, 0) // other rules, a while ago
		got := v.Due(trust, now, age, 1000)

		lapsed := map[string]bool{}
		for _, c := range got.Lapsed {
			lapsed[string(c.Thing)+"/"+string(c.Certificate)] = true
		}
		asked := map[string]bool{}
		for _, c := range got.Certificates {
			asked[string(c.Certificate)] = true
		}
		for _, c := range got.Attachments {
			asked[string(c.Thing)+"/"+string(c.Certificate)] = true
		}
		ended := map[string]bool{} // one order closes all sessions of a pair
		for _, th := range v.things {
			for _, s := range th.sessions {
				pair := string(s.Thing) + "/" + string(s.Certificate)
				ended[pair] = ended[pair] || !v.trusted(s, trust, now)
			}
		}
		for _, th := range v.things {
			for _, s := range th.sessions {
				pair := string(s.Thing) + "/" + string(s.Certificate)
				if want := ended[pair]; lapsed[pair] != want {
					t.Fatalf("%s is to be closed: %v, want %v", pair, lapsed[pair], want)
				}
				if s.pending != nil { // the registrar asks
					continue
				}
				for key, b := range map[string]*basis{string(s.Certificate): &s.cert.basis, pair: &s.attached.basis} {
					ms := b.confirmedMs.Load()
					if want := ms != never && (ms < trust.SinceMs || now-ms >= age); asked[key] != want {
						t.Fatalf("%s, confirmed %d ago of %d, is to be asked about: %v, want %v", key, now-ms, age, asked[key], want)
					}
				}
			}
		}
	})
}

// crowd is live sessions of n devices.
func crowd(n int) *Views {
	h := &history{}
	h.config(`{"performance":{"maxActiveAuthTokens":2000000}}`, 0)
	for i := range n {
		id := messages.CertificateIDOf([]byte(fmt.Sprint(i)))
		thing := messages.ThingName(fmt.Sprintf("thing-%d", i))
		ms := int64(i) % (duration / 2)
		h.verified(id, ms)
		h.attached(thing, id, ms)
		h.opened(thing, id, i, ms)
	}
	return folded(h)
}

// BenchmarkDue is the keeper's look at 100,000 live sessions, each tick of a second:
// 10 ms are the most it may take.
func BenchmarkDue(b *testing.B) {
	v := crowd(100_000)
	ms := duration / 2
	b.ReportAllocs()
	for b.Loop() {
		ms += 10
		due(v, ms, 32)
	}
}

// TestTheSameLogIsDueInTheSameOrder: where several are due at the same moment, too. A clock
// that is set back voids all at once, in no order.
func TestTheSameLogIsDueInTheSameOrder(t *testing.T) {
	h := &history{}
	for i := range 20 {
		thing, id := messages.ThingName(fmt.Sprintf("pump-%d", i)), messages.CertificateIDOf([]byte{byte(i)})
		h.verified(id, 100)
		h.attached(thing, id, 100)
		h.opened(thing, id, i, 100)
	}
	h.add(messages.StreamClock, 200, &messages.ClockReanchored{FormerTrustMs: t0 + 200, AuthenticatedMs: t0 + 50})
	first := ""
	for range 5 {
		got := ""
		for v := folded(h); ; {
			list := due(v, 60, 3)
			if len(list.Certificates) == 0 {
				break
			}
			got += spellDue(list)
		}
		if first == "" {
			first = got
		}
		if got != first || got == "" {
			t.Fatalf("due %s, and then %s", first, got)
		}
	}
}

// TestNextDue: nothing is listed before the moment that was told, and something then.
func TestNextDue(t *testing.T) {
	v := folded(connected())
	due(v, 1, 8)
	next := v.NextDueMs() - t0
	if before := due(v, next-1, 8); spellDue(before) != "[]" {
		t.Errorf("due at %d: %s", next-1, spellDue(before))
	}
	if at := due(v, next, 8); len(at.Certificates) != 1 {
		t.Errorf("due at %d: %s", next, spellDue(at))
	}
	if got := folded(&history{}).NextDueMs(); got != math.MaxInt64 {
		t.Errorf("nothing is live: %d", got)
	}
}
