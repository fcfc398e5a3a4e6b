package device

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestDecideComponent: client-device-auth spec 4 and 4.1. A component's session rests on
// its certificate's dates alone.
func TestDecideComponent(t *testing.T) {
	open := messages.OpenComponent{Component: "aws.Bridge", Certificate: certA, NotBefore: notBefore, NotAfter: notAfter, Broker: broker}
	full := make([]fact, sessionsMax)
	for i := range full {
		full[i] = opened(int64(i), byte(i+100))
	}
	for _, c := range []struct {
		name  string
		given []fact
		when  messages.Command
		ms    int64
		want  string
	}{
		{"first", nil, open, 0, lines("SessionOpened", "session  SOURCE_LOCAL")},
		{"at both ends", nil, open, -1000, lines("SessionOpened", "session  SOURCE_LOCAL")},
		{"at the other end", nil, open, 10 * duration, lines("SessionOpened", "session  SOURCE_LOCAL")},
		{"not yet valid", nil, open, -1001, "refused InvalidCredential"},
		{"expired", nil, open, 10*duration + 1, "refused InvalidCredential"},
		{"one too many: the oldest goes", full, open, 50, lines("SessionClosed "+show6(100)+" CLOSE_EVICTED", "SessionOpened", "session  SOURCE_LOCAL")},
		{"close", []fact{opened(1, 1)}, messages.CloseSession{Session: session(1), Reason: messages.CloseReason_CLOSE_BY_BROKER}, 5,
			lines("SessionClosed "+show6(1)+" CLOSE_BY_BROKER", "messages.Done")},
		{"close another's", []fact{opened(1, 1)}, messages.CloseSession{Session: session(2)}, 5, "messages.Done"},
		{"close a certificate's", []fact{opened(1, 1), openedWith(2, 2, certB)}, messages.CloseSessions{Certificate: certB, Reason: messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED}, 5,
			lines("SessionClosed "+show6(2)+" CLOSE_CERTIFICATE_EXPIRED", "messages.Done")},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideComponent("aws.Bridge", deviceOf(c.given...), messages.Input{Command: c.when, At: at(c.ms)})
			expect(t, d, err, c.want)
		})
	}
	d, err := DecideComponent("aws.Bridge", Device{}, messages.Input{Command: open, At: at(0), Nonce: [32]byte{7}})
	if err != nil {
		t.Fatal(err)
	}
	e, token := d.Events[0].(*messages.SessionOpened), d.Reply.(messages.SessionReady).Token
	if digest := token.Digest(); messages.TokenDigest(e.Session) != digest || e.NotAfterMs != notAfter.UnixMilli() || e.CertificateId != string(certA) || e.Broker != string(broker) {
		t.Errorf("recorded %+v", e)
	}
	for _, c := range []messages.Command{
		messages.OpenSession{}, messages.QuarantineDevice{}, messages.RecheckAttachment{}, messages.CloudAnswered{Then: messages.OpenSession{}}, messages.OpenComponent{NotAfter: time.Time{}},
	} {
		if d, err := DecideComponent("aws.Bridge", Device{}, messages.Input{Command: c, At: at(0)}); err == nil && len(d.Events) > 0 {
			t.Errorf("%T is carried out: %+v", c, d)
		}
	}
	if _, err := DecideDevice(pump, Device{}, online(), messages.Input{Command: open, At: at(0)}); err == nil {
		t.Error("a device entity opens a component's session")
	}
}

// show6 is how a session's end is shown.
func show6(n byte) string {
	d := session(n)
	return d.Short()
}
