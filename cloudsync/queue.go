package cloudsync

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Defaults and bounds of a Queue.
const (
	defaultQueueSize  = 100 // performance.cloudRequestQueueSize (client-device-auth spec 1.1)
	defaultWorkers    = 1   // performance.maxConcurrentCloudRequests
	defaultMaxWait    = 10 * time.Second
	waitersMax        = 64 // who may share one waiting question
	favouredMax       = 4  // questions in a row that may pass a stranger's which waits
	busyRetryAfter    = time.Second
	queueSizeMax      = 1 << 20
	workersMax        = 1 << 10
	shuttingDown      = "not asked: the core is shutting down"
	waitedTooLongText = "not asked: waited longer than %v for its turn: raise maxConcurrentCloudRequests"
)

// ErrClosed is returned by Submit after Close.
var ErrClosed = errors.New("cloud requests: closed")

// QueueConfig shapes a Queue.
type QueueConfig struct {
	// Size is how many questions may wait, beside those being asked. Default 100.
	Size int
	// Workers is how many questions are asked at once. Default 1.
	Workers int
	// MaxWait bounds a question's time in the queue; after it the answer is silence,
	// because whoever asked has given up. Default 10 s; negative: no bound.
	MaxWait time.Duration
	// Now is the time by which waiting is measured. Required.
	Now func() time.Time
}

// Queue puts questions to the cloud, a bounded number at a time and in the order they
// came. Strangers' questions can fill half of it, and others pass them, four for one: a
// flood of unknown certificates must not shut out the devices that are known here, nor
// keep their trust from being renewed (reliability spec 2.3, E4, and 4.8). Identical
// questions that wait share one request. One that is already on the wire is not joined:
// its answer may be older than what the asker has just learnt, such as a revocation.
type Queue struct {
	ask     func(context.Context, messages.CloudQuestion) messages.CloudAnswer
	now     func() time.Time
	maxWait time.Duration
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup // workers

	mu               sync.Mutex
	size             int
	workers          int
	running          int
	closed           bool
	known, strangers []*request // oldest first
	favoured         int        // questions taken since the last stranger's
	byKey            map[questionKey]*request
}

// questionKey tells questions apart: the certificate id stands for the certificate.
type questionKey struct {
	certificate messages.CertificateID
	thing       messages.ThingName
}

type request struct {
	question messages.CloudQuestion
	since    time.Time
	done     []func(messages.CloudAnswer)
}

// NewQueue returns a queue that asks with ask, which must return soon after its context
// ends.
func NewQueue(ask func(context.Context, messages.CloudQuestion) messages.CloudAnswer, cfg QueueConfig) (*Queue, error) {
	if ask == nil || cfg.Now == nil {
		return nil, errors.New("cloud requests: need someone to ask and a clock")
	}
	q := &Queue{ask: ask, now: cfg.Now, maxWait: cfg.MaxWait, size: defaultQueueSize, workers: defaultWorkers, byKey: map[questionKey]*request{}}
	if q.maxWait == 0 {
		q.maxWait = defaultMaxWait
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
	for q.running < q.workers && q.waiting() > 0 {
		q.start(q.take())
	}
}

// waiting counts the questions that wait. Caller holds mu.
func (q *Queue) waiting() int { return len(q.known) + len(q.strangers) }

// Submit queues question and returns at once. done is called exactly once, from another
// goroutine, with the answer; it must not block. A full queue is a *messages.Refusal with
// RefusedBusy, and then done is never called: "ask again later" is neither a yes nor a no,
// nor the silence that lets stored trust decide.
func (q *Queue) Submit(question messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	key := questionKey{question.Certificate, question.Thing}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if same, ok := q.byKey[key]; ok {
		if len(same.done) >= waitersMax {
			return busy("%d callers wait for the same answer already", len(same.done))
		}
		same.done = append(same.done, done)
		return nil
	}
	r := &request{question: question, since: q.now(), done: []func(messages.CloudAnswer){done}}
	if q.running < q.workers { // then nothing waits: a worker leaves only when nothing does
		q.start(r)
		return nil
	}
	if n := q.waiting(); n >= q.size {
		return busy("unable to queue: %d cloud requests wait already", n)
	}
	if question.Stranger {
		if n := len(q.strangers); n >= (q.size+1)/2 {
			return busy("unable to queue: %d cloud requests about certificates and things that are not known here wait already", n)
		}
		q.strangers = append(q.strangers, r)
	} else {
		q.known = append(q.known, r)
	}
	q.byKey[key] = r
	return nil
}

func busy(format string, args ...any) error {
	refusal := messages.Refuse(messages.RefusedBusy, format, args...)
	refusal.RetryAfter = busyRetryAfter
	return refusal
}

// start gives r to a new worker. Caller holds mu. Workers leave when nothing waits, so an
// idle queue has no goroutine.
func (q *Queue) start(r *request) {
	q.running++
	q.wg.Go(func() {
		for r := r; r != nil; r = q.next() {
			r.answer(q.answerTo(r))
		}
	})
}

// next returns the waiting request whose turn it is, or nil if the worker is to leave.
func (q *Queue) next() *request {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running > q.workers || q.waiting() == 0 {
		q.running--
		return nil
	}
	return q.take()
}

// take removes the oldest waiting request of those whose turn it is. Caller holds mu and
// knows that one waits.
func (q *Queue) take() *request {
	from := &q.known
	if q.favoured++; len(q.known) == 0 || len(q.strangers) > 0 && q.favoured > favouredMax {
		from, q.favoured = &q.strangers, 0
	}
	r := (*from)[0]
	(*from)[0] = nil
	*from = (*from)[1:]
	delete(q.byKey, questionKey{r.question.Certificate, r.question.Thing})
	return r
}

func (q *Queue) answerTo(r *request) messages.CloudAnswer {
	if q.ctx.Err() != nil {
		return wire.Silent(messages.FailureNotAsked, shuttingDown)
	}
	if q.maxWait > 0 && q.now().Sub(r.since) > q.maxWait {
		return wire.Silent(messages.FailureNotAsked, waitedTooLongText, q.maxWait)
	}
	return q.ask(q.ctx, r.question)
}

func (r *request) answer(a messages.CloudAnswer) {
	for _, done := range r.done {
		done(a)
	}
}

// Waiting returns how many questions wait and how many are being asked.
func (q *Queue) Waiting() (waiting, asking int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting(), q.running
}

// Close breaks off what is being asked, answers everything that waits with silence, and
// returns when every done has returned. Stop whoever asks first: silence at shutdown
// says nothing about a device.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	left := slices.Concat(q.known, q.strangers)
	q.known, q.strangers = nil, nil
	clear(q.byKey)
	q.mu.Unlock()
	q.cancel()
	for _, r := range left {
		r.answer(wire.Silent(messages.FailureNotAsked, shuttingDown))
	}
	q.wg.Wait()
}
