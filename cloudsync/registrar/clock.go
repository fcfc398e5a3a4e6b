package registrar

import "time"

// The real clock, for those who bring none.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }
