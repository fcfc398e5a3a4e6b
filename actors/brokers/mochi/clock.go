package mochi

import "time"

// systemClock is the default of Config.Now.
func systemClock() time.Time { return time.Now() }

// deadline is the time d from now, for the network: the kernel's clock, whatever the
// broker's is.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }
