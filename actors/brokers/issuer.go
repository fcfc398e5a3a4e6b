package brokers

import (
	"context"
	"crypto"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Issuer is the core's authority as the courier sees it. Its methods may be called from
// several goroutines at once.
type Issuer interface {
	// PublicKey returns the key of a certificate signing request, PEM, whose sender has
	// proved that it holds the private half. The request's other content counts for
	// nothing. Errors say what is wrong with the request.
	PublicKey(request []byte) (crypto.PublicKey, error)
	// Subscribe hands want.Broker a certificate before it returns, and each later one as it
	// is issued, until cancel is called or the same broker subscribes for the same type. A
	// broker that has a good certificate for its key gets that one. If it fails, what was
	// subscribed before stays so. An error that wraps *messages.Refusal is told to the
	// broker by its code.
	Subscribe(ctx context.Context, want Subscription) (cancel func(), err error)
}

// Subscription says who wants certificates.
type Subscription struct {
	Broker messages.BrokerID // the common name
	Type   authapi.CertificateType
	// PublicKey is the broker's. nil: a key is made for each certificate and comes with it.
	PublicKey crypto.PublicKey
	// Deliver hears of each certificate, one after the other; it does not block.
	Deliver func(Delivery)
}

// Delivery is a certificate on its way to its broker. It may come again, with the same
// serial number, around other authorities or because nobody acknowledged it.
type Delivery struct {
	Serial      string
	Certificate []byte   // DER
	Chain       [][]byte // DER of the authorities above it, the issuing one first
	Bundle      []byte   // PEM of all authorities to trust
	NotAfter    time.Time
	Key         crypto.Signer // made for it; nil: the key is the broker's own
	// Acknowledge puts on record that the broker has it. It may block, and may be called
	// more than once.
	Acknowledge func()
}
