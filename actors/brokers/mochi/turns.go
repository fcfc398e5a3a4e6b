package mochi

import (
	"context"
	"sync"
)

// turns lets one connection at a time change who holds a client id: mochi's own
// bookkeeping loses a client when a new connection takes over while the old one cleans
// up.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the turn ends
}

// take waits for id's turn; it fails when ctx ends first.
func (t *turns) take(ctx context.Context, id string) error {
	for {
		t.mu.Lock()
		ended, busy := t.held[id]
		if !busy {
			t.held[id] = make(chan struct{})
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end ends id's turn, which the caller has.
func (t *turns) end(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.held[id])
	delete(t.held, id)
}
