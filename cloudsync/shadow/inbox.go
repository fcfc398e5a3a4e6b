package shadow

import "sync"

// inbox is one place for a notice that waits.
type inbox struct {
	mu      sync.Mutex
	last    *Notice       // taken last; guarded by mu
	waiting *Notice       // guarded by mu
	filled  chan struct{} // holds something only while a notice waits
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
	select {
	case <-b.filled: // it told of this one
	default:
	}
	return n
}

// holds says whether a notice waits.
func (b *inbox) holds() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting != nil
}
