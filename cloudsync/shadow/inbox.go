package shadow

import "sync"

// inbox is one place for a notice that waits.
type inbox struct {
	mu      sync.Mutex
	last    *Notice // taken last; guarded by mu
	waiting *Notice // guarded by mu
	filled  chan struct{}
}

func newInbox() *inbox { return &inbox{filled: make(chan struct{}, 1)} }

// offer puts a notice in, in place of the one that waits, if it is news.
func (b *inbox) offer(n Notice) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !Accepts(b.last, b.waiting, n) {
		return false
	}
	b.waiting = &n
	select {
	case b.filled <- struct{}{}:
	default:
	}
	return true
}

// take returns the notice that waits, which counts as dealt with from now on; nil: none.
func (b *inbox) take() *Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.waiting
	if n != nil {
		b.last, b.waiting = n, nil
	}
	return n
}
