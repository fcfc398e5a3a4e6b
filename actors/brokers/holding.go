package brokers

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// holding is what a broker has of the authority: a subscription for one key, and the
// certificate that was delivered last. Guarded by Courier.mu, but for public.
type holding struct {
	public  crypto.PublicKey // nil: a key is made for each certificate …
	sealTo  string           // … and sealed to this
	request string           // the signing request public came in, last
	cancel  func()
	stop    func() bool // ends the timer of the lease
	current *Delivery
	noted   *Delivery // the last that was acknowledged
}

// sameKey says whether h is for the key that want is for. Two whose keys are made here are.
func (h *holding) sameKey(want *holding) bool {
	if h.public == nil || want.public == nil {
		return h.public == nil && want.public == nil
	}
	public, ok := h.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(want.public)
}

// deliver takes a certificate for h from the authority, and pushes it if h is what l holds;
// else it goes with the reply.
func (c *Courier) deliver(l *lease, h *holding, d Delivery) {
	c.mu.Lock()
	inForce := l.held == h && !c.closed
	if inForce && h.current.Serial != d.Serial {
		c.counts.issued.Add(1)
	}
	h.current = &d
	sealTo := h.sealTo
	c.mu.Unlock()
	if !inForce {
		return
	}
	update, err := newUpdate(l.usage, d, sealTo)
	if err != nil {
		c.cfg.Log.Error("certificate not pushed", "broker", l.of.broker, "serial", d.Serial, "error", err)
		return
	}
	c.counts.pushed.Add(1)
	c.cfg.Pusher.CertificateUpdated(l.of.broker, update)
}

// acknowledge tells the authority, beside what waits, that the broker has what it holds, if
// it says so.
func (c *Courier) acknowledge(h *holding, held string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := h.current
	if held != d.Serial || h.noted == d || c.closed {
		return
	}
	if h.noted == nil || h.noted.Serial != d.Serial {
		c.counts.acknowledged.Add(1)
	}
	h.noted = d
	c.work.Add(1)
	c.cfg.Spawn(func() {
		defer c.work.Done()
		d.Acknowledge()
	})
}

// answer is the reply with what h holds.
func (c *Courier) answer(l *lease, h *holding) (authapi.CertificatesReply, error) {
	c.mu.Lock()
	d, sealTo := *h.current, h.sealTo
	c.mu.Unlock()
	update, err := newUpdate(l.usage, d, sealTo)
	return authapi.CertificatesReply{CertificateUpdate: update, AskAgainSeconds: uint64((c.cfg.Lease / askShare).Seconds())}, err
}

// newUpdate writes d as the wire has it.
func newUpdate(usage authapi.CertificateType, d Delivery, sealTo string) (authapi.CertificateUpdate, error) {
	u := authapi.CertificateUpdate{
		CertificateType: usage, Certificate: certificatePEM(d.Certificate), SerialNumber: d.Serial, NotAfter: d.NotAfter.UTC(),
		TrustBundle: splitPEM(d.Bundle),
	}
	for _, der := range d.Chain {
		u.CACertificates = append(u.CACertificates, certificatePEM(der))
	}
	if d.Key == nil {
		return u, nil
	}
	var err error
	if u.SealedPrivateKey, u.SealedBy, err = seal(d.Key, sealTo); err != nil {
		return authapi.CertificateUpdate{}, fmt.Errorf("seal a private key: %w", err)
	}
	return u, nil
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// splitPEM takes a bundle apart, one certificate a text.
func splitPEM(bundle []byte) (list []string) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return list
		}
		list = append(list, certificatePEM(block.Bytes))
	}
}

// checkSealTo says whether something sealed to the public curve key to can be opened by its
// holder alone: not by everybody, as with a point of low order.
func checkSealTo(to string) error {
	raw, err := nkeys.Decode(nkeys.PrefixByteCurve, []byte(to))
	if err != nil {
		return errors.New("sealTo: not a public nkeys curve key; nkeys.CreateCurveKeys makes a pair")
	}
	public, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return errors.New("sealTo: not a key of Curve25519")
	}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("sealTo: %w", err)
	}
	if _, err := private.ECDH(public); err != nil {
		return errors.New("sealTo: a point of low order, to which nothing can be sealed")
	}
	return nil
}

// seal writes key as PKCS #8 in PEM and seals it, with a pair of its own, to the public curve
// key to.
func seal(key crypto.Signer, to string) (sealed, by string, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return "", "", err
	}
	defer pair.Wipe()
	if by, err = pair.PublicKey(); err != nil {
		return "", "", err
	}
	box, err := pair.Seal(text, to)
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(box), by, nil
}

// courierCounters is the tally of a courier.
type courierCounters struct{ subscribed, lapsed, issued, pushed, acknowledged atomic.Uint64 }

// CourierCounts is what became of brokers' certificates since the start.
type CourierCounts struct {
	Subscribed   uint64 `json:"subscribed"`   // brokers that began to subscribe, for SERVER: what the reference counts
	Lapsed       uint64 `json:"lapsed"`       // subscriptions that ended because nobody asked
	Issued       uint64 `json:"issued"`       // certificates that a broker did not have
	Pushed       uint64 `json:"pushed"`       // pushes, repeated ones included
	Acknowledged uint64 `json:"acknowledged"` // certificates that a broker says it uses
}

// Counts returns the tally.
func (c *Courier) Counts() CourierCounts {
	return CourierCounts{
		Subscribed: c.counts.subscribed.Load(), Lapsed: c.counts.lapsed.Load(), Issued: c.counts.issued.Load(),
		Pushed: c.counts.pushed.Load(), Acknowledged: c.counts.acknowledged.Load(),
	}
}

// certificates answers certificates requests.
func (d *Desk) certificates(q *request) error {
	body, err := authapi.ParseCertificatesRequest(q.body)
	if err != nil {
		return err
	}
	if d.cfg.Courier == nil {
		return messages.Refuse(messages.RefusedService, "there is no authority here")
	}
	d.cfg.Courier.Ask(q.caller, body, func(a authapi.CertificatesReply, err error) {
		q.guard(func() {
			if err != nil {
				q.refuse(authapi.RefusalFor(err))
				return
			}
			q.answer(true, a)
		})
	})
	return nil
}
