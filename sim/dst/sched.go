package dst

import (
	"context"
	"iter"
	"time"
)

// what is a sort of thing that is scheduled: for the trace, and for what starves.
type what uint8

// The sorts.
const (
	aTick    what = iota + 1 // what comes again each second, whatever happens
	aTask                    // a piece of a task: something that waits in between
	aTimer                   // of a process
	aTurn                    // of an entity
	aCommit                  // of the log
	aMessage                 // between broker and core
	anAction                 // of the world: devices, operators, faults
	whats
)

// item is one thing to run.
type item struct {
	f    func()
	of   *process // it ends with that; nil: it belongs to the world
	t    *timer   // that it is of; nil: none
	what what
}

// gone reports whether there is nothing to run any more.
func (i *item) gone() bool { return i.of != nil && i.of.dead || i.t != nil && i.t.over }

// sched runs one thing after the other. Which of those that are ready is decided by the
// seed; time passes when nothing is ready.
type sched struct {
	now    time.Duration // true time since the beginning
	steps  uint64
	items  []item // all that wait, in no order
	free   []uint32
	ready  heap // by rank
	timers heap // by true time
	ticks  heap // the same, of those that come again and again
	seq    uint64
	trace  *tracer
	dice   dice

	end    time.Duration // of the step at hand: then something comes from outside
	busy   time.Duration // when something ran last that was more than a tick or a wait
	nth    uint64        // of what became ready at now
	spread uint64        // how far what becomes ready may be behind what becomes ready after it
	lag    float64
	lagMax time.Duration
	lazy   [whats]uint64 // in spreads: what starves

	current *task
	idle    []*task
}

// newSched makes a scheduler whose ways are the seed's: from orderly to wild.
func newSched(seed uint64, t *tracer) *sched {
	run := diceOf(seed, diceRun)
	s := &sched{trace: t, dice: diceOf(seed, diceSched)}
	s.spread = [...]uint64{1, 4, 16, 64, 1024}[run.key(1).below(5)]
	if run.key(2).chance(.5) { // deliveries that wait while time passes
		s.lag = [...]float64{.001, .01, .1}[run.key(3).below(3)]
		s.lagMax = run.key(4).spread(time.Microsecond, 500*time.Millisecond)
	}
	for w := range s.lazy {
		if run.key(5).key(uint64(w)).chance(.2) {
			s.lazy[w] = uint64(1 + run.key(6).key(uint64(w)).below(4))
		}
	}
	return s
}

// calm has everything run in its order, and nothing wait while time passes.
func (s *sched) calm() {
	s.spread, s.lag, s.lazy = 1, 0, [whats]uint64{}
}

// soon has f run when its turn comes.
func (s *sched) soon(w what, of *process, f func()) {
	d := s.dice.key(uint64(s.now)).key(s.nth)
	s.nth++
	if s.lag > 0 && d.key(1).chance(s.lag) {
		s.after(d.key(2).spread(time.Microsecond, max(s.lagMax, 2*time.Microsecond)), w, of, f)
		return
	}
	s.enqueue(item{f: f, of: of, what: w}, d)
}

// put finds a place for an item.
func (s *sched) put(i item) (slot uint32) {
	if n := len(s.free); n > 0 {
		slot = s.free[n-1]
		s.free = s.free[:n-1]
		s.items[slot] = i
		return slot
	}
	s.items = append(s.items, i)
	return uint32(len(s.items) - 1)
}

func (s *sched) take(slot uint32) item {
	i := s.items[slot]
	s.items[slot] = item{}
	s.free = append(s.free, slot)
	return i
}

// enqueue makes an item ready.
func (s *sched) enqueue(i item, d dice) {
	s.seq++
	rank := s.seq + s.lazy[i.what]*s.spread
	if s.spread > 1 {
		rank += d.u64() % s.spread
	}
	s.ready.push(node{rank, s.seq, s.put(i)})
}

// turn makes an item ready whose time has come.
func (s *sched) turn(i item) {
	d := s.dice.key(uint64(s.now)).key(s.nth)
	s.nth++
	s.enqueue(i, d)
}

// wait has an item become ready at a moment.
func (s *sched) wait(at time.Duration, i item) {
	s.seq++
	h := &s.timers
	if i.what == aTick {
		h = &s.ticks
	}
	h.push(node{uint64(at), s.seq, s.put(i)})
}

// after has f run when d of true time has passed.
func (s *sched) after(d time.Duration, w what, of *process, f func()) {
	s.wait(s.now+max(d, 0), item{f: f, of: of, what: w})
}

// first is the queue whose front is due first, and when; nil: there is none.
func (s *sched) first() (*heap, time.Duration) {
	for _, h := range []*heap{&s.timers, &s.ticks} {
		for len(*h) > 0 && s.items[(*h)[0].slot].gone() {
			s.take(h.pop())
		}
	}
	switch {
	case len(s.timers) == 0 && len(s.ticks) == 0:
		return nil, 0
	case len(s.ticks) == 0 || len(s.timers) > 0 && s.timers[0].before(&s.ticks[0]):
		return &s.timers, time.Duration(s.timers[0].key)
	}
	return &s.ticks, time.Duration(s.ticks[0].key)
}

// aftermath is how long something just has happened.
const aftermath = time.Second

// calmUntil is until when nothing is going to happen but ticks; false: something does, or
// just has.
func (s *sched) calmUntil() (time.Duration, bool) {
	if len(s.ready) > 0 || s.now-s.busy < aftermath {
		return 0, false
	}
	s.first()
	if len(s.timers) == 0 {
		return s.end, true
	}
	return min(s.end, time.Duration(s.timers[0].key)), true
}

// step runs one thing. It reports false when nothing is left to do until end.
func (s *sched) step(end time.Duration) bool {
	s.end = end
	for {
		for len(s.ready) == 0 {
			h, at := s.first()
			if h == nil || at > end {
				s.pass(max(end, s.now))
				return false
			}
			s.pass(at)
			for h != nil && at <= s.now {
				s.turn(s.take(h.pop()))
				h, at = s.first()
			}
		}
		i := s.take(s.ready.pop())
		if i.gone() {
			continue
		}
		if i.of != nil && i.of.resumes > s.now { // its machine sleeps
			i.of.slept = append(i.of.slept, i)
			continue
		}
		s.steps++
		s.trace.step(s.now, i.what)
		if i.what > aTimer {
			s.busy = s.now
		}
		i.f()
		return true
	}
}

// pass lets time go on.
func (s *sched) pass(to time.Duration) {
	if to != s.now {
		s.now, s.nth, s.trace.now = to, 0, to
	}
}

// task is something that waits in between: a coroutine.
type task struct {
	s      *sched
	of     *process
	f      func()
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	parked bool
	killed bool
	done   bool

	older, newer *task // of the same process
}

// spawn runs f, which may wait, on its own.
func (s *sched) spawn(of *process, f func()) {
	s.soon(aTask, of, func() { s.begin(of, f) })
}

// begin runs f as a task until it waits for the first time.
func (s *sched) begin(of *process, f func()) {
	var t *task
	if n := len(s.idle); n > 0 {
		t = s.idle[n-1]
		s.idle = s.idle[:n-1]
	} else {
		t = &task{s: s}
		t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
			t.yield = yield
			for {
				t.f()
				t.done = true
				if !yield(struct{}{}) {
					return
				}
			}
		})
	}
	t.of, t.f, t.done, t.killed = of, f, false, false
	if of != nil {
		of.add(t)
	}
	t.resume()
}

// resume lets t go on until it waits again, or ends.
func (t *task) resume() {
	s := t.s
	former := s.current
	s.current = t
	t.next()
	s.current = former
	if t.done {
		if t.of != nil {
			t.of.remove(t)
		}
		t.of, t.f = nil, nil
		s.idle = append(s.idle, t)
	}
}

// await lets the task at hand wait until wake is called, which arm is given. It reports
// false if the process ended meanwhile: whatever waits must end then.
func (s *sched) await(arm func(wake func())) bool {
	t := s.current
	if t == nil {
		panic("dst: what is no task cannot wait")
	}
	if t.killed || t.of != nil && t.of.dead {
		return false
	}
	woken := false
	wake := func() {
		if woken {
			return
		}
		woken = true
		if t.parked { // else arm has called it
			s.soon(aTask, t.of, t.goOn)
		}
	}
	arm(wake)
	if woken {
		return true
	}
	t.parked = true
	t.yield(struct{}{})
	return !t.killed
}

// parker is how the product's parts wait: see actors.Config's Park.
type parker func() (wait func(context.Context), wake func())

// park is a parker.
func (s *sched) park() (wait func(context.Context), wake func()) {
	var woken bool
	var resume func()
	wait = func(context.Context) {
		if !woken {
			s.await(func(wake func()) { resume = wake })
		}
	}
	return wait, func() {
		woken = true
		if resume != nil {
			resume()
		}
	}
}

// afterFunc is after for those who stop their timers.
func (s *sched) afterFunc(d time.Duration, f func()) (stop func() bool) {
	t := &timer{f: f}
	s.wait(s.now+max(d, 0), item{f: t.fire, t: t, what: aTimer})
	return t.stop
}

// sleep lets the task at hand wait for d of true time.
func (s *sched) sleep(d time.Duration) bool { return s.rest(d, aTask) }

// rest is sleep as something of a sort.
func (s *sched) rest(d time.Duration, w what) bool {
	t := s.current
	return s.await(func(func()) { s.after(d, w, t.of, t.goOn) })
}

// goOn lets a task that waits go on: when its turn has come.
func (t *task) goOn() {
	t.parked = false
	t.resume()
}

// close lets go of the tasks that wait for work. None may be under way.
func (s *sched) close() {
	for _, t := range s.idle {
		t.stop()
	}
	s.idle = nil
}

// node is the place of an item in a queue. It holds no pointer, so that moving it is cheap.
type node struct {
	key  uint64
	seq  uint64 // of those that are equal, the first
	slot uint32
}

func (a *node) before(b *node) bool { return a.key < b.key || a.key == b.key && a.seq < b.seq }

// heap is a binary heap.
type heap []node

func (h *heap) push(x node) {
	*h = append(*h, x)
	a := *h
	n := len(a) - 1
	for n > 0 {
		up := (n - 1) / 2
		if !x.before(&a[up]) {
			break
		}
		a[n] = a[up]
		n = up
	}
	a[n] = x
}

func (h *heap) pop() (slot uint32) {
	a := *h
	slot = a[0].slot
	last := len(a) - 1
	x := a[last]
	a = a[:last]
	*h = a
	if last == 0 {
		return slot
	}
	n := 0
	for {
		c := 2*n + 1
		if c >= last {
			break
		}
		if c+1 < last && a[c+1].before(&a[c]) {
			c++
		}
		if !a[c].before(&x) {
			break
		}
		a[n] = a[c]
		n = c
	}
	a[n] = x
	return slot
}
