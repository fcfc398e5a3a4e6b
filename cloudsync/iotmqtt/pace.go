package iotmqtt

import (
	"context"
	"time"
)

// Pace says how long is waited between tries.
type Pace struct {
	Min, Max time.Duration
	// AfterFunc and Jitter are as in cloudsync.MonitorConfig.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
}

// Backoff gives waits between half of an interval and all of it, which doubles from Min to
// Max.
type Backoff struct {
	pace     Pace
	interval time.Duration
}

// Backoff begins one.
func (p Pace) Backoff() *Backoff { return &Backoff{pace: p} }

// Next is the next wait.
func (b *Backoff) Next() time.Duration {
	b.interval = min(max(2*b.interval, b.pace.Min), b.pace.Max)
	half := b.interval / 2
	return half + time.Duration(b.pace.Jitter()*float64(b.interval-half))
}

// Wait returns true when d has passed or there is news of either kind, false when ctx ended
// before.
func (p Pace) Wait(ctx context.Context, d time.Duration, news, newer <-chan struct{}) bool {
	over := make(chan struct{})
	defer p.AfterFunc(d, func() { close(over) })()
	select {
	case <-over:
		return true
	case <-news:
		return true
	case <-newer:
		return true
	case <-ctx.Done():
		return false
	}
}
