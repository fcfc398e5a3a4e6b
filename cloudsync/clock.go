package cloudsync

import "time"

// The real clock, for those who bring none.
func now() time.Time { return time.Now() }

func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

func spawn(f func()) { go f() }
