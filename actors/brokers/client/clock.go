package client

import "time"

// systemClock is the default of Config.Now. This file is the only one that knows the
// machine's clock. What it starts below only repeats and gives up; nothing is decided by
// it.
func systemClock() time.Time { return time.Now() }

// afterFunc calls f on a goroutine of its own after d, unless stop is called first.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// ticks returns a channel that ticks every d until stop is called.
func ticks(d time.Duration) (c <-chan time.Time, stop func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// after returns a channel that is sent to once, after d, unless stop is called first.
func after(d time.Duration) (c <-chan time.Time, stop func() bool) {
	t := time.NewTimer(d)
	return t.C, t.Stop
}
