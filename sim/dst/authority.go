package dst

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// signer is a key whose signatures follow from what is signed.
type signer struct{ *ecdsa.PrivateKey }

// Sign implements crypto.Signer.
func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, opts)
}

// keyOf is the key that follows from dice.
func keyOf(d dice) signer {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], d.u64())
	raw := sha256.Sum256(seed[:])
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw[:])
	if err != nil {
		panic(err) // one number in 2^32 is none of P-256
	}
	return signer{key}
}

// newKeys are the core's keys: they outlive its processes.
func newKeys(seed uint64) keys.Keys {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	return keys.NewSeeded(sha256.Sum256(b[:]))
}

// startAuthority starts the core's authority and what brings brokers their certificates.
func (c *core) startAuthority(ctx context.Context) (err error) {
	m := c.sim
	c.authority, err = actors.StartAuthority(ctx, actors.AuthorityConfig{
		System: c.sys, Keys: m.keys, Clock: waits{c.clock}, Settings: c.authoritySettings, Publish: c.publish, Uploader: &uploader{c}, Logger: quiet,
	})
	return err
}

// waits is the process's clock for those whose timers' functions wait.
type waits struct{ *process }

// AfterFunc implements actors.Clock.
func (w waits) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return w.process.AfterFunc(d, func() { w.s.begin(w.process, f) })
}

func (c *core) authoritySettings() actors.AuthoritySettings {
	s := c.views.Section().Certificates
	return actors.AuthoritySettings{
		Type: ca.TypeECDSAP256, ServerValidity: s.ServerValidity(), ClientValidity: s.ClientValidity(), RotationDisabled: s.DisableCertificateRotation,
	}
}

// errFull is what writing ca.pem says on a disk that is full.
var errFull = errors.New("no space left on device")

// publish writes ca.pem.
func (c *core) publish(bundle []byte) error {
	m := c.sim
	switch {
	case c.clock.dead:
		return errStopped
	case m.store.full:
		return errFull
	}
	m.sched.trace.bytes('P', bundle)
	m.sched.trace.say("ca.pem holds %d bytes of authorities", len(bundle))
	return nil
}

// startCourier makes who answers brokers' questions for certificates.
func (c *core) startCourier() (err error) {
	if c.authority == nil {
		return nil
	}
	c.courier, err = brokers.NewCourier(brokers.CourierConfig{
		Issuer: gate.NewIssuer(c.authority), Pusher: c.pusher, Log: quiet, Clock: ticks{c.clock}, Spawn: c.clock.spawn,
		Permit: func(b messages.BrokerID, t authapi.CertificateType) bool {
			return t == authapi.CertificateServer && !c.sim.removed[b]
		},
	})
	return err
}

// uploader tells the cloud of authorities.
type uploader struct{ c *core }

// Upload implements actors.Uploader.
func (u *uploader) Upload(_ context.Context, bundle []byte, taken func(der []byte) error) error {
	m := u.c.sim
	for {
		d := m.cloud.dice.key(uint64(m.sched.now)).key(97)
		after, away := m.cloud.away(d)
		if !away {
			after = m.cloud.roundTrip(d)
		}
		if !m.sched.sleep(after) {
			return errStopped
		}
		if !away && !m.cloud.hit(cloudThrottles, d) && !m.cloud.hit(cloudRefusesUs, d) && !m.cloud.hit(cloudFails, d) {
			break
		}
		if !m.sched.sleep(d.key(98).between(5*time.Second, time.Minute)) {
			return errStopped
		}
	}
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if err := taken(block.Bytes); err != nil {
			return err
		}
	}
	m.sched.trace.say("the cloud has the core's authorities")
	return nil
}

// rotate has the core's authority replaced by another, or what was made so announced.
func (m *Sim) rotate(a *Action) {
	m.sched.soon(anAction, m.host, func() {
		c := m.core
		if c == nil || !c.ready || c.authority == nil {
			m.replied(&order{action: a, begun: m.sched.now}, messages.Refuse(messages.RefusedNotReady, "the core, or its authority, is not there"))
			return
		}
		m.orderNo++
		o := &order{number: m.orderNo, action: a, begun: m.sched.now}
		m.orders[o] = true
		m.sched.begin(c.clock, func() {
			do := c.authority.Replace
			if m.dice.key(uint64(a.ID)).chance(.3) {
				do = c.authority.Announced
			}
			err := do(context.Background(), "simulated")
			if c.clock.dead || !m.orders[o] {
				return
			}
			delete(m.orders, o)
			if refusal, ok := errors.AsType[*messages.Refusal](err); ok {
				m.replied(o, refusal)
			} else if err != nil {
				m.replied(o, messages.Refuse(messages.RefusedService, "%v", err))
			} else {
				m.replied(o, messages.Done{})
			}
		})
	})
}

// remove takes back what a broker may have of certificates.
func (m *Sim) remove(broker messages.BrokerID) {
	m.removed[broker] = true
	if m.core != nil && m.core.courier != nil {
		m.core.courier.Forget(broker)
	}
}

// certify has a broker keep its certificate current, with a key that outlives its process.
func (b *broker) certify() {
	m := b.sim
	_, err := b.client.Certificates(client.CertificatesConfig{
		Key: keyOf(diceOf(m.plan.Seed, diceCerts).key(uint64(b.number))),
		Install: func(_ context.Context, c *client.Certificate) error {
			if !b.up {
				return errStopped
			}
			var bundle [][]byte
			for block, rest := pem.Decode(c.TrustPEM); block != nil; block, rest = pem.Decode(rest) {
				bundle = append(bundle, block.Bytes)
			}
			m.sched.trace.text('S', c.Serial)
			m.sched.trace.say("%s serves with certificate %s until %v", BrokerOf(b.number), c.Serial, c.Leaf.NotAfter)
			m.witness.Serves(b.number, c.Certificate.Certificate, bundle)
			return nil
		},
	})
	if err != nil {
		panic(err) // its key signs
	}
}
