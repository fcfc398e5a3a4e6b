package device

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestHeldAsInMaps: what a device holds is what maps by certificate and by digest would,
// the sessions oldest first; and a state that was passed on stays as it was.
func TestHeldAsInMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attachments, sessions := map[messages.CertificateID]int64{}, map[messages.TokenDigest]Session{}
		var s Device
		for i := range rapid.IntRange(1, 60).Draw(t, "events") {
			ms := rapid.Int64Range(0, 20).Draw(t, "ms")
			d := session(byte(rapid.IntRange(1, 20).Draw(t, "session")))
			id := rapid.SampledFrom([]messages.CertificateID{certA, certB, "c"}).Draw(t, "certificate")
			var e messages.Event
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				e = &messages.AttachmentVerified{CertificateId: string(id)}
				attachments[id] = t0 + ms
			case 1:
				e = &messages.AttachmentWithdrawn{CertificateId: string(id)}
				delete(attachments, id)
			case 2:
				e = &messages.SessionOpened{Session: d[:], CertificateId: string(id), Broker: string(broker)}
				sessions[d] = Session{Digest: d, Certificate: id, Broker: broker, OpenedMs: t0 + ms}
			case 3:
				e = &messages.SessionClosed{Session: d[:]}
				delete(sessions, d)
			}
			before, was := s, spell(t, s)
			s = EvolveDevice(s, e, at(ms))
			if spell(t, before) != was {
				t.Fatalf("event %d changed the state before it", i)
			}
		}
		if len(s.Attachments) != len(attachments) || len(s.Sessions) != len(sessions) {
			t.Fatalf("holds %d attachments and %d sessions, want %d and %d", len(s.Attachments), len(s.Sessions), len(attachments), len(sessions))
		}
		for id, want := range attachments {
			if got, held := s.attachment(id); !held || got != want {
				t.Fatalf("attachment %s: %d, %t; want %d", id, got, held, want)
			}
		}
		for _, x := range s.Sessions {
			if sessions[x.Digest] != x || !s.live(x.Digest) {
				t.Fatalf("session %+v, want %+v", x, sessions[x.Digest])
			}
		}
		if !slices.IsSortedFunc(s.Sessions, func(a, b Session) int { return int(a.OpenedMs - b.OpenedMs) }) {
			t.Fatalf("not oldest first: %+v", s.Sessions)
		}
	})
}
