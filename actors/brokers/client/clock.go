package client

import "time"

// systemClock is the default of Config.Now. This file is the only one that knows the
// machine's clock. What it starts below only repeats and gives up; nothing is decided by
// it.
func systemClock() time.Time { return time.Now() }

// afterFunc calls f on a goroutine of its own after d, unless stop is called first.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }
