package brokers

import (
	"sync"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// lane bounds the requests of one urgency: how many may be taken in and not yet
// answered, and how many goroutines take them up. Lanes share nothing, so that what
// restricts is never behind what grants (design section 5).
type lane struct {
	limit   int64
	each    int          // of one broker; 0: all of limit
	taken   atomic.Int64 // admitted and not yet answered
	queue   chan *request
	run     func(*request) // instead of the queue; nil: there are workers
	quit    chan struct{}
	workers sync.WaitGroup

	mu    sync.Mutex
	share map[messages.BrokerID]int // with each: what is admitted of each broker; guarded by mu
}

// newLane starts a lane, whose workers handle requests, or which has schedule run that if
// there is one; stop ends it.
func newLane(limit, workers int, handle func(*request), schedule func(func())) *lane {
	l := &lane{limit: int64(limit), quit: make(chan struct{}), share: map[messages.BrokerID]int{}}
	if schedule != nil {
		l.run = func(q *request) { schedule(func() { handle(q) }) }
		return l
	}
	l.queue = make(chan *request, limit)
	for range workers {
		l.workers.Go(func() {
			for {
				select {
				case q := <-l.queue:
					handle(q)
				case <-l.quit:
					return
				}
			}
		})
	}
	return l
}

// admit takes q in, or reports false if the lane is full. It never blocks: the queue
// has room for all that is admitted.
func (l *lane) admit(q *request) bool {
	if !l.count(q.caller.Broker, 1) {
		return false
	}
	if l.taken.Add(1) > l.limit {
		l.taken.Add(-1)
		l.count(q.caller.Broker, -1)
		return false
	}
	if l.run != nil {
		l.run(q)
	} else {
		l.queue <- q
	}
	return true
}

// release gives back the place of an admitted request.
func (l *lane) release(q *request) {
	l.taken.Add(-1)
	l.count(q.caller.Broker, -1)
}

// count adds n to broker's share, or reports false if it has no more.
func (l *lane) count(broker messages.BrokerID, n int) bool {
	if l.each == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.share[broker]+n > l.each {
		return false
	}
	if l.share[broker] += n; l.share[broker] == 0 {
		delete(l.share, broker)
	}
	return true
}

// stop ends the workers and waits for them; what is still queued stays unanswered.
func (l *lane) stop() {
	close(l.quit)
	l.workers.Wait()
}
