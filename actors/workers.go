package actors

import "sync"

// idleWorkersMax bounds the goroutines that wait for the next turn of an entity.
const idleWorkersMax = 64

// workers run entities' turns on goroutines that stay: a fresh one would grow its stack
// anew for each turn, which measured a tenth of the processor time of an authenticate.
// A turn that waits (recovery reads the log) holds up nobody: who finds no idle worker
// makes one.
type workers struct {
	mu    sync.Mutex
	idle  []chan func() // who waited last goes first: its stack is warm; guarded by mu
	ended bool          // guarded by mu
}

func newWorkers() *workers { return &workers{} }

func (w *workers) run(turn func()) {
	w.mu.Lock()
	last := len(w.idle) - 1
	if last < 0 {
		w.mu.Unlock()
		go w.work(turn)
		return
	}
	next := w.idle[last]
	w.idle = w.idle[:last]
	w.mu.Unlock()
	next <- turn // it has room for one
}

func (w *workers) work(turn func()) {
	next := make(chan func(), 1)
	for ok := true; ok; turn, ok = <-next {
		turn()
		if !w.rest(next) {
			return
		}
	}
}

// rest offers a worker for the next turn; false: there are enough.
func (w *workers) rest(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || len(w.idle) == idleWorkersMax {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// stop lets the idle workers go; turns that come later still run.
func (w *workers) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}
