package awsemu

import (
	"context"
	"time"
)

// after fires once d has passed: the emulator is a real server and goes by real time.
func after(d time.Duration) <-chan time.Time { return time.After(d) }

// wait returns when d has passed, or ctx ends; a negative d has no end.
func wait(ctx context.Context, d time.Duration) {
	if d < 0 {
		<-ctx.Done()
		return
	}
	select {
	case <-after(d):
	case <-ctx.Done():
	}
}

// handshakeDeadline is when a connection that begins now must have shaken hands.
func handshakeDeadline() time.Time { return time.Now().Add(handshakeTimeout) }
