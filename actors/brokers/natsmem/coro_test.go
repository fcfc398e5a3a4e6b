package natsmem_test

import (
	"context"
	"iter"
)

// tasks runs functions that wait, on one goroutine: as coroutines, each of which runs until
// it waits or ends.
type tasks struct {
	ready   func(resume func())
	running *coroutine
	begun   []*coroutine
}

// coroutine is one of them.
type coroutine struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	stop  func()
}

// spawn has f run after spawn has returned.
func (g *tasks) spawn(f func()) {
	c := &coroutine{}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		f()
	})
	g.begun = append(g.begun, c)
	g.ready(func() { g.resume(c) })
}

func (g *tasks) resume(c *coroutine) {
	former := g.running
	g.running = c
	c.next()
	g.running = former
}

// park returns how the coroutine that calls it waits.
func (g *tasks) park() (wait func(ctx context.Context), wake func()) {
	c, woken, parked := g.running, false, false
	wait = func(ctx context.Context) {
		if woken || ctx.Err() != nil {
			woken = true
			return
		}
		if parked = true; !c.yield(struct{}{}) {
			panic("it waits for ever")
		}
	}
	wake = func() {
		if woken {
			return
		}
		if woken = true; parked {
			g.ready(func() { g.resume(c) })
		}
	}
	return wait, wake
}

// end ends the goroutines that coroutines are made of.
func (g *tasks) end() {
	for _, c := range g.begun {
		c.stop()
	}
}
