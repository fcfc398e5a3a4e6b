package eventlog

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// pulse wakes everybody who waits for the next thing to happen.
type pulse struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; nil when nobody waits
}

// next returns a channel that the next wake closes. Take it before looking at the
// state it is about.
func (p *pulse) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch == nil {
		p.ch = make(chan struct{})
	}
	return p.ch
}

func (p *pulse) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch != nil {
		close(p.ch)
		p.ch = nil
	}
}

// followed is what follow needs of a log.
type followed interface {
	Head() Head
	Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error]
	grown() <-chan struct{} // closed when the head moves or the log stops
	stopped() error         // why the head will not move again, nil while it may
}

// follow is Log.Follow in terms of Scan: it never holds more than Scan does.
func follow(ctx context.Context, l followed, from uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		next := max(from, 1)
		for {
			grown, stopped := l.grown(), l.stopped() // in this order, before Head: nothing is missed
			for rec, err := range l.Scan(ctx, next, l.Head().Seq) {
				if !yield(rec, err) || err != nil {
					return
				}
				next++
			}
			if stopped != nil {
				yield(messages.Record{}, fmt.Errorf("follow log from %d: %w", next, stopped))
				return
			}
			select {
			case <-ctx.Done():
				yield(messages.Record{}, fmt.Errorf("follow log from %d: %w", next, ctx.Err()))
				return
			case <-grown:
			}
		}
	}
}
