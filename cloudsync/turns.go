package cloudsync

import (
	"container/heap"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A class says who waits for a question, in the order of their turns.
type class int

const (
	known class = iota
	strangers
	background
	classes // how many there are
)

type request struct {
	question messages.CloudQuestion
	class    class
	order    int64  // within the class, then number
	number   uint64 // as it came
	index    int    // in its line; kept by the heap
	since    time.Time
	began    time.Time // to be asked
	done     []func(messages.CloudAnswer)
}

func (r *request) answer(a messages.CloudAnswer) {
	for _, done := range r.done {
		done(a)
	}
}

func keyOf(q messages.CloudQuestion) questionKey { return questionKey{q.Certificate, q.Thing} }

// placeOf is where a question waits: devices' in the order they came, background ones by
// the end of the trust they are to renew, and those about nothing that is stored last.
func placeOf(q messages.CloudQuestion) (class, int64) {
	switch {
	case q.Background && q.EndsMs == 0:
		return background, math.MaxInt64
	case q.Background:
		return background, q.EndsMs
	case q.Stranger:
		return strangers, 0
	default:
		return known, 0
	}
}

// A line is the heap of the requests of one class that wait.
type line []*request

func (l line) Len() int { return len(l) }
func (l line) Less(i, j int) bool {
	return l[i].order < l[j].order || l[i].order == l[j].order && l[i].number < l[j].number
}
func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}
func (l *line) Push(x any) {
	r := x.(*request)
	r.index = len(*l)
	*l = append(*l, r)
}
func (l *line) Pop() any {
	last := len(*l) - 1
	r := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return r
}

// push lets r wait. Caller holds mu.
func (q *Queue) push(r *request) {
	q.taken++
	r.number = q.taken
	heap.Push(&q.lines[r.class], r)
	q.byKey[keyOf(r.question)] = r
}

// remove takes r out of its line. Caller holds mu.
func (q *Queue) remove(r *request) {
	heap.Remove(&q.lines[r.class], r.index)
	delete(q.byKey, keyOf(r.question))
}

// take removes the request whose turn it is, nil if none may go now. Caller holds mu.
func (q *Queue) take() *request {
	c := q.turn()
	if c == classes {
		return nil
	}
	r := q.lines[c][0]
	q.remove(r)
	q.favoured[c]++
	if c > 0 {
		q.favoured[c-1] = 0
	}
	if c == background && !q.expired(r) {
		q.pace.take(q.now())
	}
	return r
}

// turn is the class whose turn it is; classes if none may go now. Caller holds mu.
func (q *Queue) turn() class {
	behind := q.mayFollow()
	someKnown, someStrangers := len(q.lines[known]) > 0, len(q.lines[strangers]) > 0
	switch {
	case someKnown && !(someStrangers && q.favoured[known] >= favouredMax):
		return known
	case someStrangers && (someKnown || !behind || q.favoured[strangers] < favouredMax):
		return strangers
	case behind:
		return background
	default:
		return classes
	}
}

// mayFollow says whether a background question may go, as far as devices leave it a turn.
// Caller holds mu.
func (q *Queue) mayFollow() bool {
	if len(q.lines[background]) == 0 || q.behind >= q.behindMax() {
		return false
	}
	return q.expired(q.lines[background][0]) || !q.now().Before(q.pace.readyAt())
}

// behindMax is how many workers may be busy with background questions: one less than there
// are, so that one is left to devices. An only one is shared: a device's question waits until
// the one being asked has ended.
func (q *Queue) behindMax() int { return max(q.workers-1, 1) }

// expired says of a background request that it has waited too long to be asked.
func (q *Queue) expired(r *request) bool { return q.now().Sub(r.since) > backgroundWaitMax }

// setAlarm has the next background question go when its time comes, unless a worker that
// ends will see to it. Caller holds mu.
func (q *Queue) setAlarm() {
	if q.closed || len(q.lines[background]) == 0 || q.running >= q.workers || q.behind >= q.behindMax() {
		return
	}
	at := q.pace.readyAt()
	if !q.alarm.IsZero() {
		if !at.Before(q.alarm) {
			return // it rings in time, and will be set anew
		}
		q.stop()
	}
	q.alarm = at
	q.stop = q.afterFunc(max(at.Sub(q.now()), 0), q.rung)
}

func (q *Queue) rung() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alarm = time.Time{}
	if !q.closed {
		q.dispatch()
	}
}
