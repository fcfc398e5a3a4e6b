package device

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The world of these tests: trust lasts a minute, times are milliseconds from t0.
const (
	t0       int64 = 1_700_000_000_000
	duration int64 = 60_000
	pump           = messages.ThingName("pump-7")
	broker         = messages.BrokerID("b1")
)

var (
	der       = []byte("the certificate")
	certA     = messages.CertificateIDOf(der)
	certB     = messages.CertificateIDOf([]byte("another"))
	notBefore = time.UnixMilli(t0 - 1000)
	notAfter  = time.UnixMilli(t0 + 10*duration)
)

func at(ms int64) messages.Instant { return messages.Instant{TrustMs: t0 + ms, WallMs: 5} }

// fact is an event and when it happened.
type fact struct {
	ms    int64
	event messages.Event
}

func verified(ms int64) fact {
	return fact{ms, &messages.CertificateVerified{
		Source: messages.Source_SOURCE_CLOUD, NotBeforeMs: notBefore.UnixMilli(), NotAfterMs: notAfter.UnixMilli(), Der: der, Subject: "CN=pump",
	}}
}

func refused(ms int64) fact {
	return fact{ms, &messages.CertificateRefused{Source: messages.Source_SOURCE_CLOUD, Reason: "no"}}
}

func attached(ms int64) fact {
	return fact{ms, &messages.AttachmentVerified{CertificateId: string(certA), Source: messages.Source_SOURCE_CLOUD}}
}

func withdrawn(ms int64) fact {
	return fact{ms, &messages.AttachmentWithdrawn{CertificateId: string(certA), Reason: "gone"}}
}

func opened(ms int64, n byte) fact { return openedWith(ms, n, certA) }

func openedWith(ms int64, n byte, id messages.CertificateID) fact {
	d := session(n)
	return fact{ms, &messages.SessionOpened{Session: d[:], CertificateId: string(id), Broker: string(broker)}}
}

func session(n byte) messages.TokenDigest { return messages.TokenFrom([32]byte{n}).Digest() }

func certificateOf(facts ...fact) Certificate {
	var s Certificate
	for _, f := range facts {
		s = EvolveCertificate(s, f.event, at(f.ms))
	}
	return s
}

func deviceOf(facts ...fact) Device {
	var s Device
	for _, f := range facts {
		s = EvolveDevice(s, f.event, at(f.ms))
	}
	return s
}

// online are the facts of a core in reach of the cloud; offline of one that is not.
func online() Facts {
	return Facts{NetworkUp: true, Trust: messages.Trust{DurationMs: duration}, CloseOnRevoke: true}
}

func offline() Facts {
	f := online()
	f.NetworkUp = false
	return f
}

// vouched adds that the certificate was verified at ms.
func vouched(f Facts, ms int64) Facts {
	f.Certificate = messages.CertificateTrust{Verified: true, VerifiedMs: t0 + ms, NotBeforeMs: notBefore.UnixMilli(), NotAfterMs: notAfter.UnixMilli()}
	return f
}

func answered(v messages.CloudVerdict, askedMs int64, then messages.Command) messages.CloudAnswered {
	return messages.CloudAnswered{Answer: messages.CloudAnswer{Verdict: v, Detail: "detail"}, AskedMs: t0 + askedMs, Then: then}
}

// show spells a decision: events, then effects, then the reply without its prose.
func show(d messages.Decision) string {
	var b strings.Builder
	for _, e := range d.Events {
		fmt.Fprintf(&b, "%s%s\n", e.Kind(), showEvent(e))
	}
	for _, e := range d.Effects {
		switch e := e.(type) {
		case messages.AskCloud:
			fmt.Fprintf(&b, "ask %.6s %q der=%v then %T\n", e.Question.Certificate, e.Question.Thing, len(e.Question.DER) > 0, e.Then)
		case messages.Tell:
			fmt.Fprintf(&b, "tell %s\n", showCommand(e.Command))
		}
	}
	switch r := d.Reply.(type) {
	case nil:
		b.WriteString("no reply yet")
	case messages.Verified:
		fmt.Fprintf(&b, "valid=%v %s", r.Valid, r.Source)
	case messages.SessionReady:
		fmt.Fprintf(&b, "session %s %s", r.Thing, r.Source)
	case messages.Rechecked:
		if r.Asked {
			fmt.Fprintf(&b, "the cloud: %s", r.Verdict)
		} else {
			b.WriteString("not asked")
		}
	case *messages.Refusal:
		fmt.Fprintf(&b, "refused %s", r.Code)
	default:
		fmt.Fprintf(&b, "%T", r)
	}
	return b.String()
}

func showEvent(e messages.Event) string {
	switch e := e.(type) {
	case *messages.CertificateVerified:
		return fmt.Sprintf(" der=%v", len(e.Der) > 0)
	case *messages.CertificateRefused:
		return " " + e.Source.String()
	case *messages.SessionClosed:
		return fmt.Sprintf(" %.6x %s", e.Session, e.Reason)
	}
	return ""
}

func showCommand(c messages.Command) string {
	if c, ok := c.(messages.CloseSessions); ok {
		return fmt.Sprintf("close %s %.6s %s", c.Thing, c.Certificate, c.Reason)
	}
	return fmt.Sprintf("%T", c)
}

func lines(l ...string) string { return strings.Join(l, "\n") }

func expect(t *testing.T, d messages.Decision, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got := show(d); got != want {
		t.Errorf("decided\n%s\nwant\n%s", got, want)
	}
}

// spell writes a value down whole, to compare it with itself later.
func spell(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
