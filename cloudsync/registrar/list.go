package registrar

import (
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Bounds of listings.
const (
	listEvery    = 6 * time.Hour // events tell of what is new; a listing of what they did not
	listPause    = time.Minute   // between two, however often a connection comes and goes
	listPagesMax = 10_000
)

// CatchUp has the certificates that are pending in the cloud listed, soon: events may have
// been lost.
func (r *Registrar) CatchUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relistLocked()
}

func (r *Registrar) relistLocked() {
	select {
	case r.relist <- struct{}{}:
	default:
	}
}

// list reads the cloud's lists: at the start, when asked for, and now and then.
func (r *Registrar) list() {
	interval := r.cfg.RetryMin
	for {
		select { // this listing is what was asked for
		case <-r.relist:
		default:
		}
		err := r.listAll()
		if r.ctx.Err() != nil {
			return
		}
		least, most := listPause, listEvery
		if err != nil {
			r.cfg.Log.Info("the certificates that are pending in the cloud are not known", "error", err)
			least = r.cfg.RetryMin/2 + r.jitter(interval)
			if p := problemOf(err); p.RetryAfter > 0 {
				least = max(least, min(p.RetryAfter, retryAfterMax))
			}
			interval = min(2*interval, r.cfg.RetryMax)
			most = interval
		} else {
			interval = r.cfg.RetryMin
		}
		if !r.wait(min(least, most), nil) || !r.wait(most, r.relist) {
			return
		}
	}
}

func (r *Registrar) wait(d time.Duration, news <-chan struct{}) bool {
	over := make(chan struct{})
	defer r.cfg.AfterFunc(d, func() { close(over) })()
	select {
	case <-over:
	case <-news:
	case <-r.ctx.Done():
		return false
	}
	return true
}

// listAll puts in line what is pending. An authority whose list cannot be read hides no other's.
func (r *Registrar) listAll() error {
	var errs []error
	for _, authority := range r.cfg.Authorities.IDs() {
		if err := r.listOf(authority); err != nil {
			errs = append(errs, fmt.Errorf("certificates of authority %.12s…: %w", authority, err))
			if class := problemOf(err).Class; class == messages.FailureUnreachable || class == messages.FailureThrottled {
				break // nor would it answer about the others
			}
		}
	}
	return errors.Join(errs...)
}

func (r *Registrar) listOf(authority messages.CertificateID) error {
	marker, seen := "", map[string]bool{}
	for range listPagesMax {
		if err := r.pace(r.ctx); err != nil {
			return err
		}
		ids, next, err := r.cfg.Cloud.Pending(r.ctx, authority, marker)
		if errors.Is(err, ErrNotThere) {
			return nil // it is not registered there: nobody can be pending
		}
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := r.offer(registration.Candidate{Certificate: id, Authority: authority}, true, nil); errors.Is(err, errFull) {
				r.again() // when there is room
				return nil
			}
		}
		switch {
		case next == "":
			return nil
		case seen[next]:
			return &Problem{Class: messages.FailureNotService, Detail: "the list goes round in circles"}
		}
		seen[next] = true
		marker = next
	}
	return &Problem{Class: messages.FailureNotService, Detail: fmt.Sprintf("more than %d pages", listPagesMax)}
}
