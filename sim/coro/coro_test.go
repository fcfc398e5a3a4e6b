package coro

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// queue is a scheduler that takes turns in order.
type queue []func()

func (q *queue) add(f func()) { *q = append(*q, f) }

func (q *queue) run() {
	for len(*q) > 0 {
		f := (*q)[0]
		*q = (*q)[1:]
		f()
	}
}

func TestCoroutinesTakeTurns(t *testing.T) {
	var q queue
	g := New(q.add)
	defer g.End()
	var told []string
	var wakes []func()
	for _, name := range []string{"a", "b"} {
		g.Spawn(func() {
			told = append(told, name+" begins")
			for range 2 {
				wait, wake := g.Park()
				wakes = append(wakes, wake)
				wait(context.Background())
				told = append(told, name+" goes on")
			}
		})
	}
	if told != nil {
		t.Fatal("Spawn ran it at once")
	}
	q.run()
	for len(wakes) > 0 {
		wake := wakes[len(wakes)-1]
		wakes = wakes[:len(wakes)-1]
		wake()
		wake() // changes nothing
		q.run()
	}
	want := []string{"a begins", "b begins", "b goes on", "b goes on", "a goes on", "a goes on"}
	if !slices.Equal(told, want) {
		t.Errorf("got %q, want %q", told, want)
	}
	if g.Waiting() != 0 {
		t.Errorf("%d wait", g.Waiting())
	}
}

func TestAWakeThatComesFirstIsNotLost(t *testing.T) {
	var q queue
	g := New(q.add)
	defer g.End()
	done := 0
	g.Spawn(func() {
		wait, wake := g.Park()
		wake()
		wait(context.Background())
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		wait, _ = g.Park()
		wait(ctx)
		done++
	})
	q.run()
	if done != 1 {
		t.Error("it waits for ever")
	}
}

func TestEndUnwindsWhoWaits(t *testing.T) {
	var q queue
	g := New(q.add)
	unwound, wentOn := false, false
	var wake func()
	g.Spawn(func() {
		defer func() { unwound = true }()
		var wait func(context.Context)
		wait, wake = g.Park()
		wait(context.Background())
		wentOn = true
	})
	g.Spawn(func() {})
	q.run()
	g.Spawn(func() { t.Error("it began after the end") })
	g.End()
	wake()
	q.run()
	g.Spawn(func() { t.Error("it was spawned after the end") })
	q.run()
	if !unwound || wentOn || g.Waiting() != 0 {
		t.Errorf("unwound %v, went on %v", unwound, wentOn)
	}
}

func TestAPanicReachesTheScheduler(t *testing.T) {
	var q queue
	g := New(q.add)
	defer g.End()
	oops := errors.New("oops")
	g.Spawn(func() { panic(oops) })
	defer func() {
		if p := recover(); p != any(oops) {
			t.Errorf("got %v", p)
		}
	}()
	q.run()
	t.Error("it was swallowed")
}

// TestCoroutinesAreReused: a simulated day begins millions of them.
func TestCoroutinesAreReused(t *testing.T) {
	var q queue
	g := New(q.add)
	defer g.End()
	before := runtime.NumGoroutine()
	for range 1000 {
		g.Spawn(func() {
			wait, wake := g.Park()
			q.add(wake)
			wait(context.Background())
		})
		q.run()
	}
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines for one coroutine at a time", n)
	}
}

func BenchmarkSpawnParkWake(b *testing.B) {
	var q queue
	g := New(q.add)
	defer g.End()
	b.ReportAllocs()
	for b.Loop() {
		g.Spawn(func() {
			wait, wake := g.Park()
			q.add(wake)
			wait(context.Background())
		})
		q.run()
		q = q[:0]
	}
}
