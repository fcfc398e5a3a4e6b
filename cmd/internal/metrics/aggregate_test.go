package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// clock is a test's time; its timers run when it is advanced.
type clock struct {
	now    time.Time
	timers []*timer
}

type timer struct {
	at time.Time
	f  func()
}

func (c *clock) after(d time.Duration, f func()) func() bool {
	t := &timer{c.now.Add(d), f}
	c.timers = append(c.timers, t)
	return func() bool {
		f := t.f
		t.f = nil
		return f != nil
	}
}

func (c *clock) advance(d time.Duration) {
	c.now = c.now.Add(d)
	for i := 0; i < len(c.timers); i++ {
		if t := c.timers[i]; t.f != nil && !t.at.After(c.now) {
			f := t.f
			t.f = nil
			f()
		}
	}
}

// emitted spells the last emission.
func emitted(a *Aggregate) string {
	e := a.Report().Emitted
	if e == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d:", e.At.Format("15:04"), e.PeriodSeconds)
	for _, m := range e.Metrics {
		fmt.Fprintf(&b, " %s=%d", m.Name, m.Value)
	}
	return b.String()
}

// TestAggregate: client-device-auth spec 8 and the last two metrics vectors ("collect with
// zero counters", "collect twice"), and spec 1.1 for what a change of the settings does.
func TestAggregate(t *testing.T) {
	c := &clock{now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	counts := map[string]uint64{}
	a := NewAggregate(func() map[string]uint64 {
		copied := map[string]uint64{}
		for name, n := range counts {
			copied[name] = n
		}
		return copied
	}, func() time.Time { return c.now }, c.after)
	want := func(text string) {
		t.Helper()
		if got := emitted(a); got != text {
			t.Errorf("emitted %q, want %q", got, text)
		}
	}
	want("none")
	a.Configure(false, time.Hour) // at the start
	want("12:00 3600:")           // zeros are not sent
	counts["ServiceError"], counts["VerifyClientDeviceIdentity.Success"] = 2, 5
	c.advance(30 * time.Minute)
	a.Configure(false, time.Hour) // nothing changed
	want("12:00 3600:")
	c.advance(30 * time.Minute)
	want("13:00 3600: VerifyClientDeviceIdentity.Success=5 ServiceError=2")
	counts["ServiceError"] = 3
	c.advance(time.Hour)
	want("14:00 3600: ServiceError=1") // what was collected is not collected again
	c.advance(time.Hour)
	want("15:00 3600:")
	counts["ServiceError"] = 4
	c.advance(time.Minute)
	a.Configure(false, 10*time.Minute) // at once, and a new period
	want("15:01 600: ServiceError=1")
	c.advance(10 * time.Minute)
	want("15:11 600:")
	a.Configure(true, 10*time.Minute) // off: nothing is sent, counting goes on
	counts["ServiceError"] = 10
	c.advance(24 * time.Hour)
	want("15:11 600:")
	if r := a.Report(); !r.Disabled || r.NextAt != nil || r.Total["ServiceError"] != 10 || len(r.Total) != 9 {
		t.Errorf("report %+v", r)
	}
	a.Configure(false, 10*time.Minute)
	want("15:11 600: ServiceError=6")
	if r := a.Report(); r.NextAt == nil || !r.NextAt.Equal(c.now.Add(10*time.Minute)) {
		t.Errorf("the next is at %v", r.NextAt)
	}
	counts["ServiceError"] = 11
	a.Close()
	c.advance(time.Hour)
	a.Configure(true, time.Hour)
	want("15:11 600: ServiceError=6")
}
