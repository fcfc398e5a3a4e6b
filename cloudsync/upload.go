package cloudsync

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// publication is one Upload under way. It is used by one goroutine.
type publication struct {
	u      *Uploader
	taken  func(der []byte) error
	offers []*offer  // oldest first
	pace   time.Time // before it there is no round, whatever happens: the service's own
}

// offer is one certificate on its way to the cloud.
type offer struct {
	der      []byte
	has      bool          // the cloud has it, and nothing older came after it
	err      error         // why the last try failed; nil: it did not
	interval time.Duration // the last wait for a service that failed
	next     time.Time     // before it there is no try, unless the network returns
}

// run goes on until the cloud has everything.
func (p *publication) run(ctx context.Context) error {
	for {
		returns, err := p.network(ctx)
		if err != nil {
			return err
		}
		if err := p.round(ctx); err != nil || p.done() {
			return err
		}
		if err := p.rest(ctx, returns); err != nil {
			return err
		}
	}
}

func (p *publication) done() bool {
	for _, o := range p.offers {
		if !o.has {
			return false
		}
	}
	return true
}

// network waits for it, and returns how often it has returned by then.
func (p *publication) network(ctx context.Context) (returns int, err error) {
	for {
		returns := p.u.returned()
		if p.u.cfg.NetworkUp() {
			return returns, nil
		}
		p.u.waiting(true)
		_, err := p.u.wait(ctx, returns, 0)
		p.u.waiting(false)
		if err != nil {
			return 0, err
		}
		p.hasten()
	}
}

// hasten makes everything due: the network has returned.
func (p *publication) hasten() {
	for _, o := range p.offers {
		o.next = time.Time{}
	}
}

// round tries what is missing and due, oldest first. It ends early when the network has
// gone, or the service asks to be left alone.
func (p *publication) round(ctx context.Context) error {
	for i, o := range p.offers {
		if o.has || o.next.After(p.u.cfg.Now()) {
			continue
		}
		if !p.u.cfg.NetworkUp() {
			return nil
		}
		err := p.u.cfg.Put(ctx, encodeCertificate(o.der))
		if err != nil && ctx.Err() != nil {
			return err // it was broken off
		}
		o.err = err
		p.u.tried(err != nil, p.problem())
		if err != nil {
			if p.postpone(o) {
				return nil
			}
			continue
		}
		o.has = true
		for _, newer := range p.offers[i+1:] {
			newer.has = false // the newest comes last
		}
		if err := p.taken(o.der); err != nil {
			return err
		}
	}
	return nil
}

// problem is why the oldest of those that failed did; nil: none did.
func (p *publication) problem() error {
	for _, o := range p.offers {
		if o.err != nil {
			return o.err
		}
	}
	return nil
}

// postpone says when o, which was not taken, is tried again, and whether the service asks to
// be left alone. What it refuses says nothing of the others.
func (p *publication) postpone(o *offer) (alone bool) {
	log, now := p.u.cfg.Log.With("certificate", messages.CertificateIDOf(o.der), "error", o.err), p.u.cfg.Now()
	put, asked := errors.AsType[*PutError](o.err)
	if !asked || put.Answer.Verdict == messages.CloudDenied {
		o.next = now.Add(uploadRefusedWait)
		log.Error("the cloud does not take the authority's certificate: devices cannot discover it", "again_in_ms", uploadRefusedWait.Milliseconds())
		return false
	}
	o.interval = min(max(2*o.interval, uploadWaitMin), uploadWaitMax)
	wait := o.interval/2 + time.Duration(p.u.cfg.Jitter()*float64(o.interval-o.interval/2))
	switch put.Answer.Failure {
	case messages.FailureThrottled, messages.FailureServer, messages.FailureRefused:
		wait = max(wait, min(put.Answer.RetryAfter, uploadRetryAfterMax))
		if until := now.Add(wait); until.After(p.pace) {
			p.pace = until
		}
		alone = put.Answer.Failure == messages.FailureThrottled || put.Answer.RetryAfter > 0
	default:
		o.next = now.Add(wait)
	}
	log.Warn("the authority's certificate is not published yet", "again_in_ms", wait.Milliseconds())
	return alone
}

// rest waits until something is due. The network's return hastens what no service holds back.
func (p *publication) rest(ctx context.Context, returns int) error {
	for {
		wait := p.due().Sub(p.u.cfg.Now())
		if wait <= 0 {
			return nil
		}
		returned, err := p.u.wait(ctx, returns, wait)
		if err != nil {
			return err
		}
		if returned {
			returns = p.u.returned()
			p.hasten()
		}
	}
}

// due is when the next of those that are missing is tried.
func (p *publication) due() time.Time {
	var first *offer
	for _, o := range p.offers {
		if !o.has && (first == nil || o.next.Before(first.next)) {
			first = o
		}
	}
	if first.next.Before(p.pace) {
		return p.pace
	}
	return first.next
}
