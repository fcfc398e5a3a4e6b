package mochi

import "time"

// systemClock is the default of Config.Now.
func systemClock() time.Time { return time.Now() }

// deadline is the time d from now, for the network: the kernel's clock, whatever the
// broker's is.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// afterFunc calls f on a goroutine of its own after d, unless stop is called first.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// sleep waits for d or until quit is closed.
func sleep(d time.Duration, quit <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-quit:
	}
}
