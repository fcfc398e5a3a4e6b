package world

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// turns runs what entities have to do, one turn after the other, on the goroutine that
// settles; and counts what is under way elsewhere and will come back.
type turns struct {
	mu     sync.Mutex
	change sync.Cond // on mu: something below changed
	queue  []func()  // guarded by mu, as all below
	out    int       // begun and not ended
	held   int       // of those, what waits for time to pass
	owed   int       // of those, what was broken off, and is not released yet

	// busy says that something is about to begin or has just ended; only the goroutine
	// that settles uses it.
	busy func() bool
}

func newTurns() *turns {
	t := &turns{busy: func() bool { return false }}
	t.change.L = &t.mu
	return t
}

// run queues f; it is actors.Config's Schedule.
func (t *turns) run(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, f)
	t.change.Signal()
}

// begin counts something that will call end, from any goroutine.
func (t *turns) begin() { t.count(1) }

func (t *turns) end() { t.count(-1) }

func (t *turns) count(by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out += by
	t.change.Signal()
}

// hold says that something that was begun waits for time to pass.
func (t *turns) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held++
	t.change.Signal()
}

// release says that it does no longer.
func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held--
	t.owed = max(t.owed-1, 0)
	t.change.Signal()
}

// owe says that n things that are held at the other end of the wire are broken off at
// this one: they go on as soon as that end has noticed.
func (t *turns) owe(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owed += n
}

// waiting says whether something is out that will go on without time passing; mu is held.
func (t *turns) waiting() bool { return t.out > t.held || t.owed > 0 }

// errStuck says that something that was begun did not end.
var errStuck = errors.New("the system does not come to rest")

// settle runs turns until nothing is left that can go on without time passing.
func (t *turns) settle() error {
	for {
		f, err := t.next()
		switch {
		case err != nil:
			return err
		case f != nil:
			f()
		case t.busy():
			runtime.Gosched() // between a worker's start and its question, or its answer and its end
		case t.idle(): // asked last: who was busy has left a turn before
			return nil
		}
	}
}

func (t *turns) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) == 0 && !t.waiting()
}

// next takes the turn that waits longest, waiting for one while something is out.
func (t *turns) next() (func(), error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 && t.waiting() {
		late := false
		stop := afterPatience(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			late = true
			t.change.Signal()
		})
		defer stop()
		for len(t.queue) == 0 && t.waiting() {
			if late {
				return nil, fmt.Errorf("%w: %d things are under way after %v, of which %d wait for time to pass", errStuck, t.out, patience, t.held)
			}
			t.change.Wait()
		}
	}
	if len(t.queue) == 0 {
		return nil, nil
	}
	f := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	return f, nil
}

// spawn runs f, which may wait for turns to be taken or for the outside, on a goroutine.
func (t *turns) spawn(f func()) {
	t.begin()
	go func() {
		defer t.end()
		f()
	}()
}

// beside runs f, which waits for turns to be taken, and settles until it has returned.
func (t *turns) beside(f func() error) error {
	returned := make(chan error, 1)
	t.spawn(func() { returned <- f() })
	if err := t.settle(); err != nil {
		return err
	}
	select {
	case err := <-returned:
		return err
	default:
		return fmt.Errorf("%w: it waits for time to pass where none can", errStuck)
	}
}
