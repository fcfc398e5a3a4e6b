// Package actorstest holds what tests of the running system stand on: a clock that only
// moves by hand, a cloud that answers from a registry, and a log that holds back, fails
// or refuses on demand.
package actorstest

import (
	"fmt"
	"sort"
	"sync"
	"time"
)

// Clock is a machine's time that moves by hand. It begins synchronised, an hour after
// boot "boot-1". Safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	wall   time.Time
	boot   time.Duration
	boots  int
	synced bool
	// battery: the wall clock is a hardware clock's
	battery bool
	timers  []*timer // by time, then by age
	timer   uint64
}

type timer struct {
	at   time.Duration // boot time
	age  uint64
	f    func()
	gone bool
}

// NewClock makes a clock whose wall shows wall.
func NewClock(wall time.Time) *Clock {
	return &Clock{wall: wall, boot: time.Hour, boots: 1, synced: true}
}

// Wall tells the wall clock.
func (c *Clock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Boot tells the time since the machine started.
func (c *Clock) Boot() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// BootID names this start of the machine.
func (c *Clock) BootID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("boot-%d", c.boots)
}

// Synced reports whether the wall clock is said to be synchronised.
func (c *Clock) Synced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced
}

// AfterFunc runs f in the goroutine of the Advance that reaches d from now.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer++
	t := &timer{at: c.boot + max(d, 0), age: c.timer, f: f}
	c.timers = append(c.timers, t)
	sort.SliceStable(c.timers, func(i, j int) bool { return c.timers[i].at < c.timers[j].at })
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := !t.gone
		t.gone = true
		return was
	}
}

// Advance lets d pass, the machine's suspend included, and runs what becomes due, each
// at its own moment, before it returns.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.boot + d
	for len(c.timers) > 0 && c.timers[0].at <= end {
		t := c.timers[0]
		c.timers = c.timers[1:]
		if t.gone {
			continue
		}
		t.gone = true
		c.pass(max(t.at-c.boot, 0))
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.pass(max(end-c.boot, 0))
	c.mu.Unlock()
}

func (c *Clock) pass(d time.Duration) { c.boot, c.wall = c.boot+d, c.wall.Add(d) }

// Timers counts the functions that wait.
func (c *Clock) Timers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, t := range c.timers {
		if !t.gone {
			n++
		}
	}
	return n
}

// SetWall turns the wall clock, either way.
func (c *Clock) SetWall(wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = wall
}

// Battery tells whether the wall clock is a hardware clock's.
func (c *Clock) Battery() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.battery
}

// SetBattery says whether the wall clock is a hardware clock's.
func (c *Clock) SetBattery(battery bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.battery = battery
}

// SetSynced says whether the wall clock is synchronised with a time source.
func (c *Clock) SetSynced(synced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = synced
}

// Reboot starts the machine anew: another boot, whose wall clock shows wall and is not
// synchronised. Timers are gone with the process.
func (c *Clock) Reboot(wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boots++
	c.boot, c.wall, c.synced, c.timers = time.Second, wall, false, nil
}
