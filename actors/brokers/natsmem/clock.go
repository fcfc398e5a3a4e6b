package natsmem

import "time"

// afterFunc is the machine's clock, for those who bring none.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }
