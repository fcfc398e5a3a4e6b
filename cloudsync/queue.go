package cloudsync

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Defaults and bounds of a Queue.
const (
	defaultQueueSize   = 100 // performance.cloudRequestQueueSize (client-device-auth spec 1.1)
	defaultWorkers     = 1   // performance.maxConcurrentCloudRequests
	defaultRefreshRate = 10  // reliability spec 2.3, D7c
	defaultMaxWait     = 10 * time.Second
	backgroundWaitMax  = 10 * time.Minute // twice the longest back-off
	waitersMax         = 64               // who may share one waiting question
	favouredMax        = 4                // questions in a row that may pass one of the next class which waits
	busyRetryAfter     = time.Second
	queueSizeMax       = 1 << 20
	workersMax         = 1 << 10
	refreshRateMax     = 1000
	shuttingDown       = "not asked: the core is shutting down"
	waitedTooLongText  = "not asked: waited longer than %v for its turn: raise maxConcurrentCloudRequests"
)

// ErrClosed is returned by Submit after Close.
var ErrClosed = errors.New("cloud requests: closed")

// QueueConfig shapes a Queue.
type QueueConfig struct {
	// Size is how many questions may wait that devices wait for, and as many background
	// ones, beside those being asked. Default 100.
	Size int
	// Workers is how many questions are asked at once. Default 1.
	Workers int
	// MaxWait bounds a question's time in the queue; after it the answer is silence,
	// because whoever asked has given up. Default 10 s; negative: no bound. Background
	// questions have ten minutes.
	MaxWait time.Duration
	// RefreshRate bounds background questions, in questions a second. Default 10, at most
	// 1000.
	RefreshRate int
	// Now is the time by which waiting is measured. Required.
	Now func() time.Time
	// AfterFunc calls f once, on any goroutine, when d has passed, unless stop comes
	// first. Default: the machine's clock.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Jitter returns a number in [0, 1). Default: rand.Float64.
	Jitter func() float64
	// Spawn runs f, which asks and waits, on its own: for the simulator. Default: a goroutine.
	Spawn func(f func())
}

// Queue puts questions to the cloud, a bounded number at a time. Whose turn it is:
//
//   - What devices wait for goes first, in the order it came. Strangers' questions can fill
//     half of the places, and others pass them, four for one: a flood of unknown certificates
//     must not shut out the devices that are known here (reliability spec 2.3, E4, and 4.8).
//   - Background questions go when nothing that is known waits; strangers pass them four for
//     one, so that a flood cannot keep trust from being renewed. What loses its trust soonest
//     is asked first. They have places of their own; all workers but one, which is left to
//     devices, unless there is only one; and a pace: RefreshRate, and a back-off while the
//     service fails, throttles or is not there. Questions of devices are not paced: a device
//     has stored trust to fall back on, and nothing to gain from waiting.
//
// Identical questions that wait share one request, in the better of their places. One that
// is already on the wire is not joined: its answer may be older than what the asker has
// just learnt, such as a revocation.
type Queue struct {
	ask       func(context.Context, messages.CloudQuestion) messages.CloudAnswer
	now       func() time.Time
	afterFunc func(time.Duration, func()) func() bool
	spawn     func(func())
	maxWait   time.Duration
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup // workers

	mu       sync.Mutex
	size     int
	workers  int
	running  int
	behind   int // of the running: with background questions
	closed   bool
	lines    [classes]line
	byKey    map[questionKey]*request // that wait
	taken    uint64                   // requests so far; numbers them
	favoured [classes]int             // questions of a class since the last of the next
	pace     pace
	alarm    time.Time // when the next background question may go; zero: no timer runs
	stop     func() bool
}

// questionKey tells questions apart: the certificate id stands for the certificate.
type questionKey struct {
	certificate messages.CertificateID
	thing       messages.ThingName
}

// NewQueue returns a queue that asks with ask, which must return soon after its context
// ends.
func NewQueue(ask func(context.Context, messages.CloudQuestion) messages.CloudAnswer, cfg QueueConfig) (*Queue, error) {
	if ask == nil || cfg.Now == nil {
		return nil, errors.New("cloud requests: need someone to ask and a clock")
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Spawn == nil {
		cfg.Spawn = spawn
	}
	if cfg.RefreshRate <= 0 {
		cfg.RefreshRate = defaultRefreshRate
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = defaultMaxWait
	}
	q := &Queue{
		ask: ask, now: cfg.Now, afterFunc: cfg.AfterFunc, spawn: cfg.Spawn, maxWait: cfg.MaxWait, size: defaultQueueSize, workers: defaultWorkers,
		byKey: map[questionKey]*request{},
		pace:  pace{interval: time.Second / time.Duration(min(cfg.RefreshRate, refreshRateMax)), jitter: cfg.Jitter},
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.Resize(cfg.Size)
	q.SetWorkers(cfg.Workers)
	return q, nil
}

// Resize sets how many questions may wait. Zero and less keep the size in force. What
// waits already stays; new questions are refused until fewer wait than the new size
// (client-device-auth spec 5.6).
func (q *Queue) Resize(size int) {
	if size <= 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size = min(size, queueSizeMax)
}

// SetWorkers sets how many questions are asked at once. Less than one is ignored. A
// smaller number takes effect as questions end; none is broken off.
func (q *Queue) SetWorkers(n int) {
	if n < 1 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.workers = min(n, workersMax)
	q.dispatch()
}

// Resume ends a back-off that was for want of a network, which is there again.
func (q *Queue) Resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.resume()
	q.dispatch()
}

// Submit queues question and returns at once. done is called exactly once, from another
// goroutine, with the answer; it must not block. A full queue is a *messages.Refusal with
// RefusedBusy, and then done is never called: "ask again later" is neither a yes nor a no,
// nor the silence that lets stored trust decide.
func (q *Queue) Submit(question messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if same, ok := q.byKey[keyOf(question)]; ok {
		return q.join(same, question, done)
	}
	r := &request{question: question, since: q.now(), done: []func(messages.CloudAnswer){done}}
	r.class, r.order = placeOf(question)
	// While a worker is free no device's question waits: a worker leaves only then.
	if r.class != background && q.running < q.workers {
		q.start(r)
		return nil
	}
	if err := q.room(r.class); err != nil {
		return err
	}
	q.push(r)
	if r.class == background {
		q.dispatch()
	}
	return nil
}

// join lets done wait for same, and gives same the better place of the two. Caller holds
// mu.
func (q *Queue) join(same *request, question messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	if len(same.done) >= waitersMax {
		return busy("%d callers wait for the same answer already", len(same.done))
	}
	class, order := placeOf(question)
	free := q.running < q.workers
	if class < same.class && same.class == background {
		if err := q.room(class); err != nil && !free {
			return err
		}
		same.since = q.now()
	}
	same.done = append(same.done, done)
	switch {
	case class < same.class: // a device waits for what none did, or one that is known
		q.remove(same)
		same.question, same.class, same.order = question, class, order
		if free {
			q.start(same)
		} else {
			q.push(same)
		}
	case class == same.class && order < same.order:
		same.order = order
		heap.Fix(&q.lines[class], same.index)
	}
	return nil
}

// room says whether one more question of a class may wait. Caller holds mu.
func (q *Queue) room(c class) error {
	devices := len(q.lines[known]) + len(q.lines[strangers])
	switch {
	case c == background:
		if n := len(q.lines[background]); n >= q.size {
			return busy("unable to queue: %d background cloud requests wait already", n)
		}
	case devices >= q.size:
		return busy("unable to queue: %d cloud requests wait already", devices)
	case c == strangers:
		if n := len(q.lines[strangers]); n >= (q.size+1)/2 {
			return busy("unable to queue: %d cloud requests about certificates and things that are not known here wait already", n)
		}
	}
	return nil
}

func busy(format string, args ...any) error {
	refusal := messages.Refuse(messages.RefusedBusy, format, args...)
	refusal.RetryAfter = busyRetryAfter
	return refusal
}

// dispatch starts workers for what may go now. Caller holds mu.
func (q *Queue) dispatch() {
	for q.running < q.workers {
		r := q.take()
		if r == nil {
			q.setAlarm()
			return
		}
		q.start(r)
	}
}

// start gives r to a new worker. Caller holds mu. Workers leave when nothing may go, so an
// idle queue has no goroutine.
func (q *Queue) start(r *request) {
	q.running++
	q.begin(r)
	q.wg.Add(1)
	q.spawn(func() {
		defer q.wg.Done()
		for r := r; r != nil; r = q.next(r) {
			r.answer(q.answerTo(r))
		}
	})
}

// begin counts r as being asked. Caller holds mu.
func (q *Queue) begin(r *request) {
	r.began = q.now()
	if r.class == background {
		q.behind++
	}
}

// next returns the waiting request whose turn it is after last, or nil if the worker is to
// leave.
func (q *Queue) next(last *request) *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last.class == background {
		q.behind--
	}
	if q.running <= q.workers {
		if r := q.take(); r != nil {
			q.begin(r)
			return r
		}
	}
	q.running--
	q.setAlarm()
	return nil
}

func (q *Queue) answerTo(r *request) messages.CloudAnswer {
	if q.ctx.Err() != nil {
		return wire.Silent(messages.FailureNotAsked, shuttingDown)
	}
	if wait := q.waitMax(r.class); wait > 0 && q.now().Sub(r.since) > wait {
		return wire.Silent(messages.FailureNotAsked, waitedTooLongText, wait)
	}
	answer := q.ask(q.ctx, r.question)
	if q.ctx.Err() == nil {
		q.mu.Lock()
		q.pace.learn(answer, r.began, q.now())
		q.mu.Unlock()
	}
	return answer
}

func (q *Queue) waitMax(c class) time.Duration {
	if c == background {
		return backgroundWaitMax
	}
	return q.maxWait
}

// Load says how busy a queue is.
type Load struct {
	Known, Strangers, Background int           // questions that wait
	Asking                       int           // that are being asked
	Paused                       time.Duration // until background questions go on after a back-off; 0: none
}

// Waiting returns how busy the queue is.
func (q *Queue) Waiting() Load {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Load{
		Known: len(q.lines[known]), Strangers: len(q.lines[strangers]), Background: len(q.lines[background]),
		Asking: q.running, Paused: max(q.pace.until.Sub(q.now()), 0),
	}
}

// Close breaks off what is being asked, answers everything that waits with silence, and
// returns when every done has returned. Stop whoever asks first: silence at shutdown
// says nothing about a device.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	var left []*request
	for c := range q.lines {
		left = append(left, q.lines[c]...)
		q.lines[c] = nil
	}
	clear(q.byKey)
	if q.stop != nil {
		q.stop()
	}
	q.mu.Unlock()
	q.cancel()
	for _, r := range left {
		r.answer(wire.Silent(messages.FailureNotAsked, shuttingDown))
	}
	q.wg.Wait()
}
