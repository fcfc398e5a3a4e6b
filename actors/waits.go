package actors

import (
	"context"
	"sync"
)

// park is the default of Config.Park: a channel.
func park() (wait func(context.Context), wake func()) {
	woken := make(chan struct{})
	return func(ctx context.Context) {
		select {
		case <-woken:
		case <-ctx.Done():
		}
	}, sync.OnceFunc(func() { close(woken) })
}

// turnstile lets one through at a time, in the order in which they came. Who has passed may
// wait, unlike the holder of a mutex: those behind wait by park.
type turnstile struct {
	park func() (wait func(context.Context), wake func())

	mu    sync.Mutex
	taken bool     // guarded by mu, as below
	line  []func() // each lets one through who waits
}

// Lock implements sync.Locker.
func (t *turnstile) Lock() {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return
	}
	wait, wake := t.park()
	t.line = append(t.line, wake)
	t.mu.Unlock()
	wait(context.Background())
}

// Unlock implements sync.Locker: whoever waits longest has it.
func (t *turnstile) Unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.line) == 0 {
		t.taken = false
		return
	}
	t.line[0]()
	t.line = t.line[1:]
}
