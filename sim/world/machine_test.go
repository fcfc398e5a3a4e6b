package world

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// advance runs what becomes due until at.
func advance(m *Machine, at time.Duration) {
	for due := m.pass(at); due != nil; due = m.pass(at) {
		due()
	}
}

func TestMachine(t *testing.T) {
	m := newMachine(Beginning, false)
	p := m.process()
	var rang []time.Duration
	ring := func() { rang = append(rang, m.Since()) }
	p.AfterFunc(20*time.Second, ring)
	p.AfterFunc(10*time.Second, func() { ring(); p.AfterFunc(5*time.Second, ring) })
	stopped := p.AfterFunc(12*time.Second, ring)
	if !stopped() || stopped() {
		t.Error("a timer is stopped once")
	}
	check := func(what string, wall, boot time.Duration, id string, synced bool) {
		t.Helper()
		if p.Wall() != Beginning.Add(wall) || p.Boot() != boot || p.BootID() != id || p.Synced() != synced {
			t.Errorf("%s: wall %v boot %v of %s, synced %v; want %v %v %s %v", what, p.Wall().Sub(Beginning), p.Boot(), p.BootID(), p.Synced(), wall, boot, id, synced)
		}
	}
	check("at first", 0, time.Hour, "boot-1", true)
	advance(m, 16*time.Second)
	check("later", 16*time.Second, time.Hour+16*time.Second, "boot-1", true)
	m.suspend(time.Hour) // no timer moves
	check("after a sleep", time.Hour+16*time.Second, 2*time.Hour+16*time.Second, "boot-1", true)
	m.SetWall(-time.Minute)
	check("set back", -time.Minute, 2*time.Hour+16*time.Second, "boot-1", true)
	advance(m, time.Hour+30*time.Second)
	if want := []time.Duration{10 * time.Second, 15 * time.Second, time.Hour + 20*time.Second}; len(rang) != 3 || rang[0] != want[0] || rang[1] != want[1] || rang[2] != want[2] {
		t.Errorf("rang at %v, want %v", rang, want)
	}
	p.AfterFunc(time.Second, ring)
	p.end()
	m.off(time.Minute)
	check("started again", -time.Minute+14*time.Second+time.Minute, 0, "boot-2", false)
	advance(m, 2*time.Hour)
	if len(rang) != 3 {
		t.Error("a timer outlives its process")
	}
	if got := m.Now(); !got.Equal(Beginning.Add(2 * time.Hour)) {
		t.Errorf("the world's time is %v", got)
	}
}

// TestHardwareClock: the machine starts by it, and tells when the wall clock shows another
// time.
func TestHardwareClock(t *testing.T) {
	m := newMachine(Beginning, true)
	m.SetWall(-time.Hour)
	if m.Battery() {
		t.Error("a wall clock that was set is the hardware clock's")
	}
	m.off(time.Minute)
	if !m.Battery() || m.Synced() || !m.Wall().Equal(Beginning.Add(time.Minute)) {
		t.Errorf("after a start by the hardware clock: %v, wall %v", m.Battery(), m.Wall())
	}
	if newMachine(Beginning, false).Battery() {
		t.Error("a machine without hardware clock has one")
	}
}

// TestTurns: at rest is when nothing goes on without time passing.
func TestTurns(t *testing.T) {
	m, turns := newMachine(Beginning, false), newTurns()
	var happened []string
	note := func(what string) func() { return func() { happened = append(happened, what) } }
	late := make(chan struct{})
	turns.run(func() { note("first")(); turns.run(func() { note("third")(); close(late) }) })
	turns.run(note("second"))
	turns.spawn(func() { <-late; turns.run(note("fourth")) })
	if err := turns.settle(); err != nil || len(happened) != 4 || happened[2] != "third" || happened[3] != "fourth" {
		t.Fatalf("%v, %v", happened, err)
	}

	var waited []time.Duration
	for _, d := range []time.Duration{2 * time.Second, time.Second} {
		turns.spawn(func() {
			turns.wait(t.Context(), m, d)
			at := m.Since()
			turns.run(func() { waited = append(waited, at) })
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	turns.spawn(func() { turns.wait(ctx, m, -1) })
	for range 3 {
		if err := turns.settle(); err != nil {
			t.Fatal(err)
		}
		if due := m.pass(10 * time.Second); due != nil {
			due()
		}
	}
	if err := turns.settle(); err != nil || len(waited) != 2 || waited[0] != time.Second || waited[1] != 2*time.Second {
		t.Errorf("waited until %v, %v", waited, err)
	}
	turns.owe(1)
	cancel()
	if err := turns.settle(); err != nil || turns.out != 0 || turns.held != 0 || turns.owed != 0 {
		t.Errorf("in the end %d out, %d held, %d owed: %v", turns.out, turns.held, turns.owed, err)
	}
	if err := turns.beside(func() error { turns.run(note("fifth")); return context.Canceled }); err != context.Canceled || len(happened) != 5 {
		t.Errorf("beside: %v, %v", err, happened)
	}
}
