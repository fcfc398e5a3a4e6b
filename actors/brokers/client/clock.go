package client

import "time"

// systemClock is the default of Config.Now, and the only place that reads the clock.
func systemClock() time.Time { return time.Now() }
