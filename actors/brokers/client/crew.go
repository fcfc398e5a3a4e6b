package client

import "sync"

// A crew is what runs beside the callers: it is begun by anybody, until it is dismissed.
type crew struct {
	spawn func(f func())

	mu    sync.Mutex
	out   int           // under way; guarded by mu, as all below
	over  bool          // nothing begins any more
	ended chan struct{} // closed when it is over and nothing is under way
}

func newCrew(spawn func(f func())) *crew { return &crew{spawn: spawn, ended: make(chan struct{})} }

// do runs f on its own, or reports false if nothing begins any more.
func (w *crew) do(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.out++
	w.spawn(func() {
		defer w.left()
		f()
	})
	return true
}

func (w *crew) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out--; w.over && w.out == 0 {
		close(w.ended)
	}
}

func (w *crew) underWay() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out
}

// dismiss lets nothing begin any more and waits for what is under way.
func (w *crew) dismiss() {
	w.mu.Lock()
	if !w.over {
		if w.over = true; w.out == 0 {
			close(w.ended)
		}
	}
	w.mu.Unlock()
	<-w.ended
}
