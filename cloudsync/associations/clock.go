package associations

import "time"

// afterFunc is the real clock's, for those who bring none.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }
