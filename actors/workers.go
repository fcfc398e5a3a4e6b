package actors

import "sync/atomic"

// idleWorkersMax bounds the goroutines that wait for the next turn of an entity.
const idleWorkersMax = 64

// workers run entities' turns on goroutines that stay: a fresh one would grow its stack
// anew for each turn, which measured a tenth of the processor time of an authenticate.
// A turn that waits (recovery reads the log) holds up nobody: who finds no idle worker
// makes one.
type workers struct {
	turns chan func()
	idle  atomic.Int32
	ended chan struct{} // closed by stop
}

func newWorkers() *workers {
	return &workers{turns: make(chan func()), ended: make(chan struct{})}
}

func (w *workers) run(turn func()) {
	select {
	case w.turns <- turn:
	default:
		go w.work(turn)
	}
}

func (w *workers) work(turn func()) {
	for {
		turn()
		if w.idle.Add(1) > idleWorkersMax {
			w.idle.Add(-1)
			return
		}
		select {
		case turn = <-w.turns:
			w.idle.Add(-1)
		case <-w.ended:
			return
		}
	}
}

// stop lets the idle workers go; turns that come later still run.
func (w *workers) stop() { close(w.ended) }
