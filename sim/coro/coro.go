// Package coro runs functions that wait, as coroutines of one goroutine: each runs until it
// waits or ends, and none runs beside another. So code that blocks, for an answer or for the
// log, runs under a scheduler that decides who goes on when, and always in the same order.
//
// A function must not hold a mutex while it waits: who wants that would stop everybody.
package coro

import (
	"context"
	"iter"
	"slices"
)

// Group is coroutines that live and end together, such as those of one simulated process.
// One goroutine uses it.
type Group struct {
	ready   func(resume func())
	running *coroutine
	waiting []*coroutine // begun, in the order in which they began
	idle    []*coroutine // whose function has returned
	ended   bool
}

// coroutine runs one function after the other.
type coroutine struct {
	of    *Group
	f     func()
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	stop  func()
}

// ended is the panic that unwinds a coroutine whose group has ended.
type ended struct{}

// New returns a group that hands to ready what is to be called, on the goroutine that uses
// the group, for a coroutine to go on.
func New(ready func(resume func())) *Group { return &Group{ready: ready} }

// Spawn has f run as a coroutine, after Spawn has returned. A group that has ended runs
// nothing.
func (g *Group) Spawn(f func()) {
	if g.ended {
		return
	}
	c := g.take()
	c.f = f
	g.waiting = append(g.waiting, c)
	g.ready(func() { g.resume(c) })
}

func (g *Group) take() *coroutine {
	if n := len(g.idle); n > 0 {
		c := g.idle[n-1]
		g.idle = g.idle[:n-1]
		return c
	}
	c := &coroutine{of: g}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		for again := true; again; again = yield(struct{}{}) {
			c.run()
		}
	})
	return c
}

func (c *coroutine) run() {
	defer func() {
		if !c.of.ended {
			return // a panic goes its way, with its stack
		}
		if p := recover(); p != nil && p != any(ended{}) {
			panic(p)
		}
	}()
	c.f()
	c.f = nil
}

// resume lets c go on until it waits or its function returns.
func (g *Group) resume(c *coroutine) {
	if g.ended {
		return
	}
	former := g.running
	g.running = c
	c.next()
	g.running = former
	if c.f == nil {
		i := slices.Index(g.waiting, c)
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.idle = append(g.idle, c)
	}
}

// Park returns how the coroutine that calls it waits: wait returns once wake has been
// called, before or after, on the goroutine that uses the group. That ctx ends while it
// waits does not wake it.
func (g *Group) Park() (wait func(ctx context.Context), wake func()) {
	c, woken, parked := g.running, false, false
	if c == nil {
		panic("coro: what waits must run as a coroutine: use Spawn")
	}
	wait = func(ctx context.Context) {
		if woken || ctx.Err() != nil {
			woken = true
			return
		}
		parked = true
		if !c.yield(struct{}{}) {
			panic(ended{})
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

// Waiting counts the coroutines that have not returned.
func (g *Group) Waiting() int { return len(g.waiting) }

// End unwinds the coroutines that wait, as if wait had panicked, and runs none any more: a
// process that was killed. Their deferred functions run.
func (g *Group) End() {
	g.ended = true
	for _, c := range append(slices.Clone(g.waiting), g.idle...) {
		if c.yield == nil {
			c.f = nil // it never began
		}
		c.stop()
	}
	g.waiting, g.idle = nil, nil
}
