package projections

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// drawEvent adds one event to h that an entity could have decided, or nearly: folds take
// whatever is in the log.
func drawEvent(t *rapid.T, h *history, ms int64) {
	thing := rapid.SampledFrom([]messages.ThingName{pump, valve}).Draw(t, "thing")
	id := rapid.SampledFrom([]messages.CertificateID{certA, certB}).Draw(t, "certificate")
	n := rapid.IntRange(1, 6).Draw(t, "session")
	stream := messages.DeviceStream(thing)
	switch rapid.IntRange(0, 22).Draw(t, "event") {
	case 0, 1:
		h.verified(id, ms)
	case 2:
		h.refused(id, ms)
	case 3, 4:
		h.attached(thing, id, ms)
	case 5:
		h.withdrawn(thing, id, ms)
	case 6, 7, 8:
		h.opened(thing, id, len(h.records)+100, ms) // a digest is never used again
	case 9:
		h.closed(thing, n, ms)
	case 10:
		h.add(stream, ms, &messages.DeviceQuarantined{Reason: "r"})
	case 11:
		h.add(stream, ms, &messages.DeviceReleased{})
	case 12:
		h.add(stream, ms, &messages.DeviceForgotten{})
	case 13:
		h.policy(allow(string(thing), "a"), ms)
	case 14:
		h.add(messages.StreamClock, ms, &messages.TrustVoided{BeforeMs: t0 + ms - 5})
	case 16:
		back := rapid.Int64Range(0, duration).Draw(t, "ahead")
		h.add(messages.StreamClock, ms-back, &messages.ClockReanchored{
			FormerTrustMs: t0 + ms, AuthenticatedMs: t0 + ms - back, VoidAfterMs: t0 + ms - back - rapid.Int64Range(0, duration).Draw(t, "stamped wrongly"),
		})
	case 17, 18:
		h.pending(thing, id, ms)
	case 19, 20:
		h.pendingOpened(thing, id, len(h.records)+100, ms)
	case 21:
		h.add(stream, ms, &messages.PendingWithdrawn{CertificateId: string(id)})
	case 22:
		h.add(stream, ms, &messages.DeviceRegistered{CertificateId: string(id), Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED})
	case 15:
		h.config(rapid.SampledFrom([]string{`{"sessions":{"closeOnRevoke":false}}`, `{}`}).Draw(t, "config"), ms)
	}
}

func drawHistory(t *rapid.T) *history {
	h := connected()
	ms := int64(2)
	for range rapid.IntRange(0, 60).Draw(t, "events") {
		ms += rapid.Int64Range(0, duration/4).Draw(t, "later")
		drawEvent(t, h, ms)
	}
	return h
}

// TestFoldingAgainChangesNothing: what was folded once is passed by, wherever the
// repetition begins.
func TestFoldingAgainChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		v := folded(h)
		want := export(v)
		v.Apply(h.records[rapid.IntRange(0, len(h.records)).Draw(t, "from"):])
		if got := export(v); got != want {
			t.Fatalf("folded again:\n%s\nonce:\n%s", got, want)
		}
	})
}

// TestReplayIsLive (reliability spec, D2): what restricts acts early, and again when it
// is durable, and after a restart from the log everything is as it was.
func TestReplayIsLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		live := New(nil)
		live.Live(Hooks{})
		for i := range h.records {
			rec := &h.records[i]
			e, err := messages.DecodeEvent(rec)
			if err != nil {
				t.Fatal(err)
			}
			if early := rec.Kind.Class() == messages.Restricts || rec.Kind == messages.KindPolicyReplaced || rec.Kind == messages.KindClockReanchored; early && rapid.Bool().Draw(t, "early") {
				live.Restrict(rec.Stream, e, rec.At)
			}
			live.Apply(h.records[i : i+1])
			consistent(t, live)
		}
		if got, want := export(live), export(folded(h)); got != want {
			t.Fatalf("live:\n%s\nreplayed:\n%s", got, want)
		}
	})
}

// consistent holds the read models against each other.
func consistent(t *rapid.T, v *Views) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sessions, sessionsWith, pendings, attachments, watched := 0, 0, 0, 0, map[*basis]int{}
	for name, th := range v.things {
		for i, s := range th.sessions {
			if s.thing != th || int(s.places[ofThing]) != i {
				t.Fatalf("session %s is not where it should be with %s", s.Digest.Short(), name)
			}
			sessions++
			if s.pending != nil {
				watched[&s.pending.basis]++
				if _, there := v.ofPending[s]; !there || s.Thing != name || s.Dead() || v.table.find(s.Digest) != s {
					t.Fatalf("pending session %s of %s is half there", s.Digest.Short(), name)
				}
				pendings++
				continue
			}
			watched[&s.cert.basis]++
			watched[&s.attached.basis]++
			if s.cert.sessions[s.places[ofCertificate]] != s || s.Thing != name || s.Dead() || v.table.find(s.Digest) != s {
				t.Fatalf("session %s of %s is half there", s.Digest.Short(), name)
			}
		}
		if th.pending != v.pending[name] || th.pending != nil && th.pending.confirmedMs.Load() == never {
			t.Fatalf("%s is half pending", name)
		}
		for _, at := range th.attachments {
			if c := at.certificate; at.thing != th || v.certificates[c.id] != c || c.holders[at.held] != at {
				t.Fatalf("%s and %.6s disagree about their attachment", name, c.id)
			}
			attachments++
		}
	}
	for id, c := range v.certificates {
		if attachments -= len(c.holders); c.id != id {
			t.Fatalf("certificate %.6s calls itself %.6s", id, c.id)
		}
		sessionsWith += len(c.sessions)
	}
	if attachments != 0 || sessionsWith != sessions-pendings {
		t.Fatalf("%d attachments more with the things than with the certificates; %d sessions there, %d here", attachments, sessions-pendings, sessionsWith)
	}
	if n := v.table.count() - len(v.components); n != sessions {
		t.Fatalf("%d sessions in the table, %d with the things", n, sessions)
	}
	if pendings != len(v.ofPending) {
		t.Fatalf("%d pending sessions with the things, %d in all", pendings, len(v.ofPending))
	}
	for b, n := range watched {
		if b.watch == nil || b.watch.sessions != n {
			t.Fatalf("%d sessions rest on a basis whose watch says %+v", n, b.watch)
		}
	}
	if len(v.agenda.ends) != len(watched) || len(v.agenda.certificates)+len(v.agenda.attachments) != len(watched) {
		t.Fatalf("%d are watched, the agenda holds %d", len(watched), len(v.agenda.ends))
	}
}

// TestUnreadableRecordsRefuseTheirEntity: nobody vouches for what cannot be read, and
// everybody else goes on.
func TestUnreadableRecordsRefuseTheirEntity(t *testing.T) {
	spoil := func(h *history, stream messages.StreamID, kind messages.Kind) {
		r := h.add(stream, 5, &messages.AccessDenied{})
		h.records[r.Seq-1].Kind, h.records[r.Seq-1].Body = kind, []byte{0xff, 0xff, 0xff}
	}
	for _, c := range []struct {
		name         string
		stream       messages.StreamID
		kind         messages.Kind
		pump, others bool // allowed after it
	}{
		{"device", messages.DeviceStream(pump), messages.KindSessionClosed, false, true},
		{"certificate", messages.CertificateStream(certA), messages.KindCertificateRefused, false, true},
		{"policy: what it took away is not known", messages.StreamPolicy, messages.KindPolicyReplaced, false, false},
		{"clock: it may have voided trust", messages.StreamClock, messages.KindTrustVoided, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := connected()
			h.policy(allow("*", "a"), 1)
			h.verified(certB, 1)
			h.attached(valve, certB, 1)
			h.opened(valve, certB, 2, 1)
			spoil(h, c.stream, c.kind)
			late := h.opened(pump, certA, 3, 6) // was in flight
			v := folded(h)
			trust := minute()
			trust.SinceMs = v.VoidedMs()
			ask := func(n int) Verdict {
				return v.Authorize(broker, token(n), []byte("mqtt:publish"), []byte("mqtt:topic:a"), trust, t0+7)
			}
			if got := ask(1).Allowed || ask(3).Allowed; got != c.pump {
				t.Errorf("its sessions are allowed: %v", got)
			}
			if got := ask(2).Allowed; got != c.others {
				t.Errorf("others are allowed: %v, want %v", got, c.others)
			}
			if v.Seq() != late.Seq {
				t.Errorf("folded up to %d, want %d", v.Seq(), late.Seq)
			}
		})
	}
}

// TestQuarantineOutlivesWhatWasInFlight: a session or a trust that becomes durable after
// its entity was refused does not bring it back.
func TestQuarantineOutlivesWhatWasInFlight(t *testing.T) {
	h := connected()
	v := folded(h)
	v.Quarantine(messages.CertificateStream(certA))
	n := len(h.records)
	h.verified(certA, 5)
	h.opened(pump, certA, 2, 6)
	v.Apply(h.since(n))
	if v.CertificateTrust(certA).Verified || publish(v, 1, "a", 7).Allowed || publish(v, 2, "a", 7).Allowed {
		t.Errorf("a refused certificate is back:\n%s", export(v))
	}
}

// TestQuarantineIsNoMatterOfParity: with sessions.closeOnRevoke off a certificate whose
// records cannot be read is refused all the same.
func TestQuarantineIsNoMatterOfParity(t *testing.T) {
	h := connected()
	parity(h)
	v := folded(h)
	v.Quarantine(messages.CertificateStream(certA))
	n := len(h.records)
	h.opened(pump, certA, 2, 6)
	v.Apply(h.since(n))
	if publish(v, 1, "a", 7).Allowed || publish(v, 2, "a", 7).Allowed {
		t.Errorf("a refused certificate's session is allowed:\n%s", export(v))
	}
}

// TestRefusalSaysWhy: brokers hear whether the cloud said no, or time was up.
func TestRefusalSaysWhy(t *testing.T) {
	for _, c := range []struct {
		source messages.Source
		ms     int64
		want   messages.CloseReason
	}{
		{messages.Source_SOURCE_CLOUD, 5, messages.CloseReason_CLOSE_CERTIFICATE_REFUSED},
		{messages.Source_SOURCE_LOCAL, 5, messages.CloseReason_CLOSE_TRUST_LAPSED},
		{messages.Source_SOURCE_LOCAL, expiry + 1, messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED},
	} {
		h := connected()
		v := New(nil)
		v.Apply(h.records)
		var heard messages.CloseReason
		v.Live(Hooks{Closed: func(_ *Session, why messages.CloseReason, _ string) { heard = why }})
		v.Restrict(messages.CertificateStream(certA), &messages.CertificateRefused{Source: c.source}, messages.Instant{TrustMs: t0 + c.ms})
		if heard != c.want {
			t.Errorf("refused by %s at %d: brokers hear %s, want %s", c.source, c.ms, heard, c.want)
		}
	}
}

// TestUnknownKindsArePassedBy: a newer version's record that is not critical.
func TestUnknownKindsArePassedBy(t *testing.T) {
	h := connected()
	r := h.add(messages.DeviceStream(pump), 5, &messages.AccessDenied{})
	h.records[r.Seq-1].Kind = 999
	if v := folded(h); !publish(v, 1, "a", 6).Allowed || v.Seq() != r.Seq {
		t.Error("a record that only notes something refused the device")
	}
	h.records[r.Seq-1].Critical = true
	if v := folded(h); publish(v, 1, "a", 6).Allowed {
		t.Error("a critical record nobody can read was passed by")
	}
}

// TestHooks: those who must hear of an ended session hear of it once, and not of
// history.
func TestHooks(t *testing.T) {
	h := connected()
	h.opened(pump, certA, 2, 2)
	h.closed(pump, 2, 3)
	v := New(nil)
	v.Apply(h.records)
	var heard []string
	v.Live(Hooks{
		Closed: func(s *Session, why messages.CloseReason, _ string) {
			if !s.Dead() {
				t.Error("told before it is true")
			}
			heard = append(heard, s.Digest.Short()+" "+why.String())
		},
		PolicyChanged: func(seq uint64, _ string) { heard = append(heard, "policy") },
	})
	n := len(h.records)
	rec := h.add(messages.CertificateStream(certA), 5, &messages.CertificateRefused{Source: messages.Source_SOURCE_CLOUD})
	e, err := messages.DecodeEvent(&rec)
	if err != nil {
		t.Fatal(err)
	}
	v.Restrict(rec.Stream, e, rec.At)
	h.policy(allow("x", "a"), 6)
	h.policy(allow("x", "a"), 7) // the same again
	v.Apply(h.since(n))
	if got, want := strings.Join(heard, ", "), digest(1).Short()+" CLOSE_CERTIFICATE_REFUSED, policy"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}
