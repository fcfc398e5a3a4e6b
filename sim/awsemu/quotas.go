package awsemu

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// full says whether n has reached a quota that AWS has for an account, and that an emulated
// one may do without (cloud spec 4.6). The caller holds mu.
func (r *Registry) full(n, quota int) bool { return n >= quota && !r.unlimited }

// LiftQuotas has the account do without AWS's quotas from now on.
func (r *Registry) LiftQuotas() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlimited = true
}

// throttle bounds how often each operation of the control planes is answered.
type throttle struct {
	rate int // a second, and at once; 0: any

	mu      sync.Mutex
	buckets map[cloudsync.Operation]bucket // guarded by mu
}

type bucket struct {
	left float64
	at   time.Time
}

// take says whether a request at that time is in time.
func (t *throttle) take(op cloudsync.Operation, at time.Time) bool {
	if t.rate <= 0 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b, known := t.buckets[op]
	if passed := at.Sub(b.at).Seconds(); !known || passed < 0 {
		b.left = float64(t.rate)
	} else {
		b.left = min(float64(t.rate), b.left+passed*float64(t.rate))
	}
	b.at = at
	in := b.left >= 1
	if in {
		b.left--
	}
	t.buckets[op] = b
	return in
}

// throttled is how a service refuses what comes too often (cloud spec 1.4, 4.1).
func throttled(s *service, op cloudsync.Operation) *apiError {
	status := http.StatusBadRequest
	if s == greengrass {
		status = http.StatusTooManyRequests
	}
	return &apiError{status: status, name: "ThrottlingException", message: fmt.Sprintf("Rate exceeded for %s", op)}
}
