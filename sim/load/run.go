package load

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Options are what a run is made of. Mix, Fleet and Driver are required.
type Options struct {
	Mix    *Mix
	Fleet  []*Device // at least Mix.Devices
	Driver Driver
	// Operator takes devices out and lets them in again; nil: the mix must not revoke.
	Operator Operator
	// Target says what is asked, in results.
	Target string
	// Progress, if set, is told about once a second how far the run is.
	Progress func(Progress)
	// Warnings are put into the result.
	Warnings []string
}

// An Operator revokes at the core, without the cloud. Its methods return when the decision is
// on record, or could not be made.
type Operator interface {
	Quarantine(ctx context.Context, thing messages.ThingName) error
	Release(ctx context.Context, thing messages.ThingName) error
}

// Progress is how far a run is.
type Progress struct {
	Stage         string // "connect", "measure", "finish"
	Done, Of      time.Duration
	Devices       int // connected
	Offered       int64
	InFlight      int
	WrongAnswered int64
	Lag           time.Duration // of the last second, at most
}

const (
	strangersCount = 16
	operatorWait   = 10 * time.Second
	suspicionWait  = 5 * time.Second // for the push that explains why a session is unknown
	finishMax      = 30 * time.Second
	connectAtOnce  = 32 // less than the questions that may wait for the cloud about strangers, by default
	sleepMost      = 50 * time.Millisecond
)

// runner is a run under way.
type runner struct {
	o         Options
	m         *Mix
	strangers []*Device
	start     time.Time
	measured  time.Duration // how long the schedule was followed

	mu       sync.Mutex
	rand     *rand.Rand // of whom is asked about
	rec      *recorder
	away     set // members that are not connected
	in       set // … that are
	members  []*member
	sessions map[string]*member // by session key
	ended    lately             // sessions that Gatehouse ended, also while nobody knew them yet
	due      queue              // what comes of answers
	over     bool               // the schedule is: only what must happen still does
	orders   int                // of operators, under way
	reasons  map[string]int64   // why Gatehouse ended sessions
	storms   []*storm

	inFlight, inFlightMost, skipped int
}

// Run plays a mix against a Gatehouse: it connects the devices, asks by the schedule, and
// disconnects them. When ctx ends it stops, and the result is of what was until then. The
// error is of a run that could not begin.
func Run(ctx context.Context, o Options) (*Result, error) {
	r, err := newRunner(o)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	o.Driver.Listen(r.sessionEnded)
	begun := time.Now()
	if err := r.connectAll(ctx); err != nil {
		r.closeAll()
		return nil, fmt.Errorf("load: %w", err)
	}
	prepared := time.Since(begun)
	use := startUse()
	r.measure(ctx)
	use.stop()
	r.closeAll()
	return r.result(ctx.Err() != nil, prepared, use), nil
}

func newRunner(o Options) (*runner, error) {
	m := o.Mix
	if err := m.Check(); err != nil {
		return nil, err
	}
	if len(o.Fleet) < m.Devices {
		return nil, fmt.Errorf("the fleet has %d devices, the mix wants %d: say --devices %[1]d, or make more", len(o.Fleet), m.Devices)
	}
	r := &runner{
		o: o, m: m, rec: newRecorder(m.Total()), sessions: map[string]*member{}, reasons: map[string]int64{},
		rand: rand.New(rand.NewPCG(uint64(m.Seed), 0x77686f)),
	}
	for i := range m.Load {
		ops := m.of(&m.Load[i])
		for _, w := range ops.weights() {
			if w.op < opChurn && w.weight > 0 && w.op != Revoke && !o.Driver.Can(w.op) {
				return nil, fmt.Errorf("load[%d]: %s cannot be asked over MQTT: take it out of the mix, or do without --mqtt", i, w.op)
			}
		}
		if ops.Revoke > 0 && o.Operator == nil {
			return nil, fmt.Errorf("load[%d]: to revoke takes an operator's credentials: name the daemon's directory with --dir, or take revoke out of the mix", i)
		}
	}
	var err error
	if r.strangers, err = makeStrangers(strangersCount); err != nil {
		return nil, err
	}
	for i, d := range o.Fleet[:m.Devices] {
		member := &member{Device: d, broker: i % o.Driver.Brokers()}
		r.members = append(r.members, member)
		r.away.add(member)
	}
	return r, nil
}

// now is the time since the schedule began.
func (r *runner) now() time.Duration { return time.Since(r.start) }

// measure goes through the schedule, and waits for the last answers.
func (r *runner) measure(ctx context.Context) {
	r.start = time.Now()
	r.planStorms()
	total := r.m.Total()
	source := newSchedule(r.m)
	next, more := source.next()
	report, gauge := time.Duration(0), time.Duration(0)
	for ctx.Err() == nil {
		now := r.now()
		r.mu.Lock()
		for more && next.at <= now {
			r.fire(next.op, next.at)
			next, more = source.next()
			now = r.now()
		}
		r.work(now)
		if now >= gauge && now < total {
			r.rec.gauge(now, r.in.len(), r.inFlight)
			gauge = now + r.rec.interval/4
		}
		wake := min(now+sleepMost, max(total, now))
		if more {
			wake = min(wake, next.at)
		}
		if len(r.due) > 0 {
			wake = min(wake, r.due[0].at)
		}
		if now >= total {
			r.mu.Unlock()
			break
		}
		if now >= report {
			report = now + time.Second
			r.report("measure", now, total)
		}
		r.mu.Unlock()
		sleep(ctx, wake-r.now())
	}
	r.measured = r.now()
	r.settle(total)
}

// settle waits until everything that was asked is answered, and the operators' orders are
// taken back. What is due after the end is not asked any more, but for those.
func (r *runner) settle(total time.Duration) {
	patience := max(time.Duration(r.m.Timeout), operatorWait) + suspicionWait + time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.keep(func(e *event) bool {
		if e.hurry {
			e.at = 0
		}
		return e.last
	})
	for end := r.now() + patience; (r.inFlight > 0 || r.orders > 0 || len(r.due) > 0) && r.now() < end; {
		r.work(r.now())
		r.keep(func(e *event) bool { return e.moot == nil || !e.moot() })
		r.report("finish", total, total)
		r.mu.Unlock()
		time.Sleep(sleepMost)
		r.mu.Lock()
	}
}

// keep leaves of what is due what is wanted.
func (r *runner) keep(wanted func(*event) bool) {
	r.due = slices.DeleteFunc(r.due, func(e *event) bool { return !wanted(e) })
	heap.Init(&r.due)
}

// work does what is due; r.mu is held.
func (r *runner) work(now time.Duration) {
	for len(r.due) > 0 && r.due[0].at <= now {
		e := heap.Pop(&r.due).(*event)
		e.do(e.at)
	}
}

// report tells how far the run is; r.mu is held.
func (r *runner) report(stage string, done, of time.Duration) {
	if r.o.Progress == nil {
		return
	}
	p := Progress{Stage: stage, Done: done, Of: of, Devices: r.in.len(), InFlight: r.inFlight, WrongAnswered: r.rec.wrongs[WrongAllow] + r.rec.wrongs[WrongDeny], Lag: r.rec.at(done).lagMax}
	for op, t := range r.rec.ops {
		if t != nil && Op(op).asks() {
			p.Offered += t.offered
		}
	}
	r.o.Progress(p)
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	if d < time.Millisecond { // a timer and a channel cost more than is left
		time.Sleep(d)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// An event is something that comes of an answer: a device comes back, an order ends.
type event struct {
	at time.Duration
	do func(due time.Duration) // r.mu is held
	// last: it happens after the end of the schedule, too; hurry: at once then; moot, if set,
	// says that it need not happen any more.
	last, hurry bool
	moot        func() bool
}

// A queue is a heap of events.
type queue []*event

// Len implements heap.Interface, as do the others.
func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// later has do called when at has come; r.mu is held, then and now.
func (r *runner) later(at time.Duration, do func(due time.Duration)) {
	r.push(&event{at: at, do: do})
}

func (r *runner) push(e *event) {
	if r.over && !e.last {
		return
	}
	if r.over && e.hurry {
		e.at = 0
	}
	heap.Push(&r.due, e)
}

// topic fills in a topic's variables.
func (r *runner) topic(template string, m *member) string {
	t := strings.ReplaceAll(template, "${thing}", string(m.Thing))
	if strings.Contains(t, "${n}") {
		t = strings.ReplaceAll(t, "${n}", strconv.Itoa(r.rand.IntN(1000)))
	}
	return t
}

// errNobody says that no device could do what was due.
var errNobody = errors.New("no device is free")

// lately remembers names: at least the last latelyMost of them.
type lately struct{ now, before map[string]struct{} }

const latelyMost = 200_000

func (l *lately) add(name string) {
	if l.now == nil || len(l.now) >= latelyMost {
		l.now, l.before = map[string]struct{}{}, l.now
	}
	l.now[name] = struct{}{}
}

func (l *lately) has(name string) bool {
	if _, ok := l.now[name]; ok {
		return true
	}
	_, ok := l.before[name]
	return ok
}
