package actors

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// settling is what the enroller remembers of a pending device that it settles.
type settling struct {
	out    bool
	judged bool          // by the rules of this process
	next   time.Duration // since boot
	fails  int
}

const (
	settleMax    = 4                   // pending devices that are settled at once
	unsettledMax = 30 * 24 * time.Hour // a lapsed admission is kept to be settled: after it the device has to come again
)

// Start looks after pending devices until Close.
func (e *Enroller) Start() { e.run() }

func (e *Enroller) run() {
	e.Step()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.stop = e.cfg.Clock.AfterFunc(enrollEvery, e.run)
	}
}

// Step does what is due about pending devices now: those whose admission rests on nothing
// any more are withdrawn, and while the cloud can be asked the others are settled, each
// step of which is harmless to repeat. The simulator calls it itself.
func (e *Enroller) Step() {
	pending := e.cfg.Views.PendingDevices()
	if len(pending) == 0 {
		return
	}
	up, now := e.sys.NetworkUp(), e.cfg.Clock.Boot()
	for _, p := range pending {
		if why := e.baseless(p); why != "" { // waits for nothing: neither for its turn, nor for who settles it
			e.withdraw(p, messages.Source_SOURCE_LOCAL, why, func(bool) {})
			continue
		}
		if up && e.begin(p.Certificate, now) {
			e.settle(p)
		}
	}
	e.forgetOthers(pending)
}

// baseless says why an admission rests on nothing any more, whatever the cloud says; "" if it
// does not. That an admission has lapsed is no reason for a while: the cloud's decision is
// still wanted.
func (e *Enroller) baseless(p messages.PendingDevice) string {
	nowMs := e.sys.clock.NowMs()
	switch {
	case !e.cfg.Offline.Enabled || e.cfg.Registrar == nil:
		return "offline registration is off"
	case e.cfg.Authorities.Find(p.Authority) == nil:
		return "its authority is none of those in the configuration any more"
	case e.sys.Trust().Doubted:
		return "" // by which time?
	case nowMs > p.NotAfterMs:
		return "the certificate, or its authority, has expired"
	case p.AdmittedMs > messages.VoidMs && nowMs-p.AdmittedMs > unsettledMax.Milliseconds() &&
		e.sys.Trust().NotAdmitted(p.AdmittedMs, p.NotBeforeMs, p.NotAfterMs, nowMs) != "":
		return "its admission has lapsed, and nobody could decide about it for " + unsettledMax.String()
	}
	e.mu.Lock()
	s := e.settling[p.Certificate]
	judged := s != nil && s.judged
	e.mu.Unlock()
	if judged {
		return ""
	}
	leaf, err := x509.ParseCertificate(p.DER)
	if err != nil {
		return fmt.Sprintf("its certificate cannot be read: %v", err)
	}
	c, found, r := e.candidate(leaf, p.Thing)
	switch {
	case !found:
		return "its certificate was signed by none of the authorities"
	case r != nil:
		return r.Reason
	case c.Authority != p.Authority:
		return "its certificate was signed by another authority"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of(p.Certificate).judged = true
	return ""
}

// of is the entry of the device with this certificate; mu is held.
func (e *Enroller) of(id messages.CertificateID) *settling {
	s := e.settling[id]
	if s == nil {
		s = &settling{}
		e.settling[id] = s
	}
	return s
}

// begin takes up the device with this certificate, if it is its turn.
func (e *Enroller) begin(id messages.CertificateID, now time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.of(id)
	under := 0
	for _, other := range e.settling {
		if other.out {
			under++
		}
	}
	if e.closed || s.out || now < s.next || under >= settleMax {
		return false
	}
	s.out = true
	return true
}

// end lets the device wait until it is its turn again, if it is still pending then.
func (e *Enroller) end(id messages.CertificateID, fine bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.settling[id]
	if s == nil {
		return
	}
	if fine {
		s.fails = 0
	}
	s.out, s.next = false, e.cfg.Clock.Boot()+e.backOff(s.fails)
	s.fails++
}

// forgetOthers forgets who is pending no more.
func (e *Enroller) forgetOthers(pending []messages.PendingDevice) {
	still := make(map[messages.CertificateID]bool, len(pending))
	for _, p := range pending {
		still[p.Certificate] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, s := range e.settling {
		if !still[id] && !s.out {
			delete(e.settling, id)
		}
	}
}

// network is told that the link came or went: nobody waits for the back-off of a link that
// was down.
func (e *Enroller) network(up bool) {
	if !up {
		return
	}
	e.mu.Lock()
	for _, s := range e.settling {
		s.next, s.fails = 0, 0
	}
	e.mu.Unlock()
	e.sys.run(e.Step)
}

func (e *Enroller) withdraw(p messages.PendingDevice, source messages.Source, why string, then func(done bool)) {
	e.logger.Info("device is pending no more", "thing", p.Thing, "reason", why)
	c := messages.WithdrawPending{Thing: p.Thing, Certificate: p.Certificate, Source: source, Reason: why}
	e.sys.Submit(context.Background(), c, enrollCause, func(reply messages.Reply) {
		_, done := reply.(messages.Done)
		then(done)
	})
}

// settle has the registrar decide about p, then the cloud itself confirm what it accepted. A
// failure leaves everything as it is, to be tried again.
func (e *Enroller) settle(p messages.PendingDevice) {
	if p.Accepted {
		e.verify(p)
		return
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.out.Add(1)
	e.mu.Unlock()
	e.sys.spawn(func() {
		defer e.out.Done()
		c := registration.Candidate{Certificate: p.Certificate, DER: p.DER, Authority: p.Authority, Thing: p.Thing}
		signer := e.cfg.Authorities.Find(p.Authority)
		if signer == nil {
			e.end(p.Certificate, false)
			return
		}
		c.AuthorityDER = signer.Raw
		outcome, err := e.ask(c)
		if err != nil {
			e.logger.Warn("pending device cannot be settled yet", "thing", p.Thing, "error", err)
			e.end(p.Certificate, false)
			return
		}
		e.sys.Submit(context.Background(), settled(c, outcome), enrollCause, func(reply messages.Reply) {
			switch _, done := reply.(messages.Done); {
			case !done:
				e.end(p.Certificate, false)
			case outcome.Status == registration.Accepted:
				e.verify(p)
			default:
				e.logger.Info("registration of a pending device is denied", "thing", p.Thing, "reason", outcome.Reason)
				e.end(p.Certificate, true)
			}
		})
	})
}

// verify has the cloud vouch for a certificate that was accepted.
func (e *Enroller) verify(p messages.PendingDevice) {
	leaf, err := x509.ParseCertificate(p.DER)
	if err != nil {
		e.withdraw(p, messages.Source_SOURCE_LOCAL, fmt.Sprintf("its certificate cannot be read: %v", err), func(done bool) { e.end(p.Certificate, done) })
		return
	}
	e.sys.Submit(e.ctx, verification(leaf), enrollCause, func(reply messages.Reply) {
		v, answered := reply.(messages.Verified)
		switch {
		case answered && v.Valid:
			e.confirm(p)
		case answered && v.Source == messages.Source_SOURCE_CLOUD: // its no
			e.withdraw(p, messages.Source_SOURCE_CLOUD, v.Reason, func(done bool) { e.end(p.Certificate, done) })
		default:
			e.end(p.Certificate, false)
		}
	})
}

// confirm has the cloud say that the certificate belongs to the thing; the entity draws the
// conclusions.
func (e *Enroller) confirm(p messages.PendingDevice) {
	c := messages.ConfirmPending{Thing: p.Thing, Certificate: p.Certificate}
	e.sys.Submit(e.ctx, c, enrollCause, func(reply messages.Reply) {
		r, answered := reply.(messages.Rechecked)
		fine := answered && r.Asked && r.Verdict != messages.CloudSilent
		if fine && r.Verdict == messages.CloudConfirmed {
			e.logger.Info("pending device is registered", "thing", p.Thing)
		}
		e.end(p.Certificate, fine)
	})
}

// Close ends the enroller and returns when no registration is under way. Who is pending
// stays so, and is settled after the next start.
func (e *Enroller) Close() {
	e.mu.Lock()
	e.closed = true
	if e.stop != nil {
		e.stop()
	}
	e.mu.Unlock()
	e.cancel()
	e.out.Wait()
}
