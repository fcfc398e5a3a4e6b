package gate

import (
	"context"
	"crypto"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Issuer lets brokers subscribe to the authority's certificates. It implements
// brokers.Issuer.
type Issuer struct {
	authority *actors.Authority
	reserved  map[string]bool
}

// NewIssuer makes an issuer of authority. The names reserved are subscribers of this
// process: no broker may take their certificates over.
func NewIssuer(authority *actors.Authority, reserved ...string) *Issuer {
	i := &Issuer{authority: authority, reserved: map[string]bool{}}
	for _, name := range reserved {
		i.reserved[name] = true
	}
	return i
}

var _ brokers.Issuer = (*Issuer)(nil)

// PublicKey implements brokers.Issuer.
func (*Issuer) PublicKey(request []byte) (crypto.PublicKey, error) { return ca.ParseCSR(request) }

// usages are the certificate types as the authority has them.
var usages = map[authapi.CertificateType]ca.Usage{
	authapi.CertificateServer: ca.Server, authapi.CertificateClient: ca.Client, authapi.CertificateClientAndServer: ca.ClientAndServer,
}

// Subscribe implements brokers.Issuer.
func (i *Issuer) Subscribe(ctx context.Context, want brokers.Subscription) (cancel func(), err error) {
	usage, ok := usages[want.Type]
	switch {
	case !ok:
		return nil, messages.Refuse(messages.RefusedInvalidArguments, "certificate type %.40q", want.Type)
	case usage == ca.ClientAndServer && want.PublicKey == nil:
		return nil, messages.Refuse(messages.RefusedInvalidArguments, "a %s certificate is for a key of the broker's own: send certificateSigningRequest, not sealTo", want.Type)
	case i.reserved[string(want.Broker)]:
		return nil, messages.Refuse(messages.RefusedUnauthorized, "the name %s is this daemon's own", want.Broker)
	}
	cancel, err = i.authority.Subscribe(ctx, actors.Subscribe{
		Subscriber: string(want.Broker), Usage: usage, PublicKey: want.PublicKey, Deliver: func(d actors.Delivery) { want.Deliver(delivery(d)) },
	})
	if err != nil {
		return nil, fmt.Errorf("certificate for broker %s: %w", want.Broker, err)
	}
	return cancel, nil
}

func delivery(d actors.Delivery) brokers.Delivery {
	return brokers.Delivery{
		Serial: d.Serial, Certificate: d.Certificate, Chain: d.Chain, Bundle: d.Bundle, NotAfter: d.NotAfter, Key: d.Key, Acknowledge: d.Acknowledge,
	}
}
