package awsemu

import "time"

// after fires once d has passed: the emulator is a real server and goes by real time.
func after(d time.Duration) <-chan time.Time { return time.After(d) }
