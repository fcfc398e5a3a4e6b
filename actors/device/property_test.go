package device

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func drawFact(t *rapid.T, ms int64) fact {
	n := byte(rapid.IntRange(1, 20).Draw(t, "session"))
	id := rapid.SampledFrom([]messages.CertificateID{certA, certB}).Draw(t, "certificate")
	d := session(n)
	return rapid.SampledFrom([]fact{
		verified(ms), refused(ms), openedWith(ms, n, id), quarantined(ms), released(ms),
		{ms, &messages.AttachmentVerified{CertificateId: string(id)}},
		{ms, &messages.AttachmentWithdrawn{CertificateId: string(id)}},
		{ms, &messages.SessionClosed{Session: d[:]}}, {ms, &messages.DeviceForgotten{}},
	}).Draw(t, "fact")
}

func drawFacts(t *rapid.T) []fact {
	var list []fact
	ms := int64(0)
	for range rapid.IntRange(0, 40).Draw(t, "facts") {
		ms += rapid.Int64Range(0, duration/2).Draw(t, "later")
		list = append(list, drawFact(t, ms))
	}
	return list
}

func drawCommand(t *rapid.T) messages.Command {
	commands := []messages.Command{
		verifyA, recheckA, openA, connectA, recheckPumpA,
		messages.CloseSession{Thing: pump, Session: session(1)}, messages.CloseSessions{Thing: pump, Certificate: certA},
		messages.QuarantineDevice{Thing: pump}, messages.ReleaseDevice{Thing: pump}, messages.ForgetDevice{Thing: pump},
	}
	for _, then := range commands[:5] {
		for v := range messages.CloudVerdict(4) {
			commands = append(commands, answered(v, rapid.Int64Range(0, duration).Draw(t, "asked"), then))
		}
	}
	return rapid.SampledFrom(commands).Draw(t, "command")
}

func drawInput(t *rapid.T, ms int64) (Facts, messages.Input) {
	f := online()
	f.NetworkUp = rapid.Bool().Draw(t, "up")
	f.CloseOnRevoke = rapid.Bool().Draw(t, "close")
	f.ConnectAllowed = rapid.Bool().Draw(t, "connect")
	f.Overtaken = rapid.Bool().Draw(t, "overtaken")
	f.Trust.SinceMs = t0 + rapid.Int64Range(-1, 3*duration).Draw(t, "since")
	if rapid.Bool().Draw(t, "vouched") {
		f = vouched(f, rapid.Int64Range(0, ms+1).Draw(t, "vouched at"))
	}
	f.Holders = []messages.ThingName{pump}
	return f, messages.Input{Command: drawCommand(t), At: at(ms), Nonce: [32]byte{byte(rapid.IntRange(100, 200).Draw(t, "nonce"))}}
}

// TestDeciding: the same inputs twice give the same decision, the state that was passed
// in is as it was, and nothing granted rests on trust that does not count.
func TestDeciding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := drawFacts(t)
		ms := rapid.Int64Range(0, 5*duration).Draw(t, "now")
		f, in := drawInput(t, ms)
		dev, cert := deviceOf(facts...), certificateOf(facts...)
		before := stateText(t, dev, cert)

		d1, err1 := DecideDevice(pump, dev, f, in)
		d2, err2 := DecideDevice(pump, dev, f, in)
		c1, errC1 := DecideCertificate(certA, cert, f, in)
		c2, errC2 := DecideCertificate(certA, cert, f, in)
		if spell(t, d1) != spell(t, d2) || spell(t, c1) != spell(t, c2) || (err1 == nil) != (err2 == nil) || (errC1 == nil) != (errC2 == nil) {
			t.Fatalf("decided twice:\n%s\n%s\n%s\n%s", show(d1), show(d2), show(c1), show(c2))
		}
		for _, e := range d1.Events {
			EvolveDevice(dev, e, in.At)
		}
		for _, e := range c1.Events {
			EvolveCertificate(cert, e, in.At)
		}
		if after := stateText(t, dev, cert); after != before {
			t.Fatalf("the state changed:\n%s\n%s", before, after)
		}
		checkGrant(t, dev, f, in, d1)
	})
}

// checkGrant is an oracle of its own: a session needs a trusted certificate, a free
// device, and an attachment that the cloud confirmed now or that is trusted.
func checkGrant(t *rapid.T, s Device, f Facts, in messages.Input, d messages.Decision) {
	opens, confirms := false, false
	for _, e := range d.Events {
		opens = opens || e.Kind() == messages.KindSessionOpened
		confirms = confirms || e.Kind() == messages.KindAttachmentVerified
	}
	if _, ready := d.Reply.(messages.SessionReady); ready != opens {
		t.Fatalf("a session without its event, or the other way round: %s", show(d))
	}
	if !opens {
		return
	}
	c := f.Certificate
	trusted := c.Verified && c.VerifiedMs >= f.Trust.SinceMs && in.At.TrustMs-c.VerifiedMs < duration && in.At.TrustMs < c.NotAfterMs
	confirmed, known := s.attachment(certA)
	local := known && confirmed >= f.Trust.SinceMs && in.At.TrustMs-confirmed < duration
	if !trusted || s.Quarantined != "" || !confirms && !local {
		t.Fatalf("granted without ground: certificate %+v, device %+v, facts %+v: %s", c, s, f, show(d))
	}
	if after := EvolveDevice(s, d.Events[0], in.At); len(after.Sessions) > max(sessionsMax, len(s.Sessions)) {
		t.Fatalf("%d sessions", len(after.Sessions))
	}
}

func stateText(t *rapid.T, d Device, c Certificate) string {
	return spell(t, []any{d.Attachments, d.Sessions, d.WithdrawnMs, d.Quarantined, c})
}

// FuzzEvolve: whatever is in the log happened: no body of any kind makes a fold panic,
// and folding it again changes nothing that a second fold would see.
func FuzzEvolve(f *testing.F) {
	for _, facts := range [][]fact{{verified(0), attached(0), opened(1, 1)}, {withdrawn(1), quarantined(2)}} {
		for _, x := range facts {
			body, _, err := messages.EncodeEvent(x.event)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint16(x.event.Kind()), body, int64(5))
		}
	}
	for _, k := range messages.AllKinds() {
		f.Add(uint16(k), []byte{}, int64(-1))
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte, ms int64) {
		e, err := messages.DecodeEvent(&messages.Record{Kind: messages.Kind(kind), Schema: 1, Body: body})
		if err != nil {
			return
		}
		in := messages.Instant{TrustMs: ms}
		cert := EvolveCertificate(certificateOf(verified(0)), e, in)
		dev := EvolveDevice(deviceOf(attached(0), opened(1, 1)), e, in)
		if got, want := spell(t, EvolveCertificate(cert, e, in)), spell(t, cert); got != want {
			t.Errorf("folded twice: %s, once: %s", got, want)
		}
		again := EvolveDevice(dev, e, in)
		if len(again.Sessions) != len(dev.Sessions) || len(again.Attachments) != len(dev.Attachments) || again.Quarantined != dev.Quarantined {
			t.Errorf("folded twice: %+v, once: %+v", again, dev)
		}
		for _, f := range []Facts{online(), offline()} { // and what was folded can be decided on
			for _, c := range []messages.Command{openA, recheckPumpA, messages.CloseSessions{Thing: pump}} {
				if _, err := DecideDevice(pump, dev, f, messages.Input{Command: c, At: in}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
