package world

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// pageMax is how long one page of a listing may take, in the world's time: the lister's
// default in the machine's.
const pageMax = 10 * time.Second

// listing is the lister with its time measured by the world's clock. It lists one at a
// time, as the refresher asks.
type listing struct {
	lister *associations.Lister
	clock  *process
	turns  *turns

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the listing under way; guarded by mu, as all below
	stop   func() bool             // of the time of the page that is asked for; nil: none is
}

// List implements actors.Associations.
func (l *listing) List(ctx context.Context, progress func(things, pages int)) messages.AssociationList {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()
	l.page(true)
	defer l.page(false)
	return l.lister.List(ctx, func(things, pages int) {
		l.page(true)
		progress(things, pages)
	})
}

// page measures the time of a page from now on, or none.
func (l *listing) page(asked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	if !asked {
		return
	}
	cancel := l.cancel
	l.stop = l.clock.AfterFunc(pageMax, func() {
		l.turns.owe(1) // time has passed, so the cloud is holding the page back
		cancel(context.DeadlineExceeded)
	})
}

// onWire says whether a page is asked for.
func (l *listing) onWire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop != nil
}

// afterFunc is the clock for the lister's pauses, in which it waits for time to pass.
func (l *listing) afterFunc(d time.Duration, f func()) (stop func() bool) {
	l.page(false)
	stopTimer := l.clock.AfterFunc(d, func() {
		l.page(true)
		l.turns.release()
		f()
	})
	l.turns.hold() // not before: time may pass from now on
	return func() bool {
		stopped := stopTimer()
		if stopped {
			l.turns.release()
		}
		return stopped
	}
}
