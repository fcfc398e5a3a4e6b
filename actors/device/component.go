package device

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// DecideComponent judges one command about an internal component: whoever holds a client
// certificate that the local authority issued to it may do everything (client-device-auth
// spec 3.3, 4 and 4.1). That the certificate is such a one has been checked; here its dates
// are, once more, and the end is put on record. The state is a Device's, of which a
// component has the sessions alone.
func DecideComponent(name messages.ComponentName, s Device, in messages.Input) (messages.Decision, error) {
	switch c := in.Command.(type) {
	case messages.OpenComponent:
		return openComponent(s, c, in), nil
	case messages.CloseSession:
		return closeOne(s, c), nil
	case messages.CloseSessions:
		return messages.Decision{Events: closeAll(s, c.Certificate, c.Reason, c.Detail), Reply: messages.Done{}}, nil
	default:
		return messages.Decision{}, fmt.Errorf("component %s: unexpected command %T", name, c)
	}
}

func openComponent(s Device, c messages.OpenComponent, in messages.Input) messages.Decision {
	if !messages.ValidAt(c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), in.At.TrustMs) {
		return messages.Decision{Reply: messages.Refuse(messages.RefusedInvalidCredential, "the component's certificate is outside its validity")}
	}
	var events []messages.Event
	if len(s.Sessions) >= sessionsMax {
		events = append(events, closed(oldest(s), messages.CloseReason_CLOSE_EVICTED, "the component opened too many sessions"))
	}
	token := messages.TokenFrom(in.Nonce)
	digest := token.Digest()
	events = append(events, &messages.SessionOpened{
		Session: digest[:], CertificateId: string(c.Certificate), Broker: string(c.Broker),
		Source: messages.Source_SOURCE_LOCAL, NotAfterMs: c.NotAfter.UnixMilli(),
	})
	return messages.Decision{Events: events, Reply: messages.SessionReady{
		Token: token, Component: c.Component, Certificate: c.Certificate, Source: messages.Source_SOURCE_LOCAL,
	}}
}
