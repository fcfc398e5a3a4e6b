package awsemu

import "time"

// after fires once d has passed: the emulator is a real server and goes by real time.
func after(d time.Duration) <-chan time.Time { return time.After(d) }

// handshakeDeadline is when a connection that begins now must have shaken hands.
func handshakeDeadline() time.Time { return time.Now().Add(handshakeTimeout) }
