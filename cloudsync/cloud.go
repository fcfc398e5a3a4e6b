package cloudsync

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Verifier puts the two questions about a client device to the cloud.
type Verifier interface {
	// Ask puts one question and returns within a few seconds, or when ctx ends. It is
	// called from many goroutines at once.
	Ask(ctx context.Context, question messages.CloudQuestion) messages.CloudAnswer
	// Probe returns no error if the service answers, whatever it says, and its own time; zero:
	// it did not tell.
	Probe(ctx context.Context) (date time.Time, err error)
	// Close drops what is idle.
	Close()
}

// Config shapes a Cloud. Its parts' zero values are good, but for what DataPlaneConfig
// requires.
type Config struct {
	// Verifier is who is asked. Nil: a DataPlane. It is closed with the Cloud.
	Verifier  Verifier
	DataPlane DataPlaneConfig // without Verifier
	Queue     QueueConfig     // Now defaults to the machine's clock
	Monitor   MonitorConfig   // Probe, AfterFunc and Jitter default to the real ones; OnChange is called first
}

// Cloud is the core's whole view of the cloud: questions go through one queue to one
// verifier, and one monitor watches whether it can be reached.
type Cloud struct {
	verifier Verifier
	queue    *Queue
	monitor  *Monitor

	mu        sync.Mutex
	listeners []func(up bool) // guarded by mu, as the next
	probing   func() (heard func(date time.Time) (again bool))
}

// New starts a Cloud. Close it.
func New(cfg Config) (*Cloud, error) {
	c := &Cloud{verifier: cfg.Verifier}
	if c.verifier == nil {
		data, err := NewDataPlane(cfg.DataPlane)
		if err != nil {
			return nil, err
		}
		c.verifier = data
	}
	if cfg.Queue.Now == nil {
		cfg.Queue.Now = cfg.DataPlane.Now
	}
	if cfg.Queue.Now == nil {
		cfg.Queue.Now = now
	}
	var err error
	if c.queue, err = NewQueue(c.ask, cfg.Queue); err != nil {
		return nil, err
	}
	// Nothing asks before New has returned but the monitor's first probe.
	if c.monitor, err = NewMonitor(c.monitorConfig(cfg.Monitor)); err != nil {
		c.queue.Close()
		return nil, err
	}
	return c, nil
}

// ask is what the queue's workers do. Each answer, and each failure to get one, is news
// about the network.
func (c *Cloud) ask(ctx context.Context, question messages.CloudQuestion) messages.CloudAnswer {
	answer := c.verifier.Ask(ctx, question)
	switch {
	case answer.Verdict != messages.CloudSilent:
		c.monitor.Observe(true)
	case answer.Failure == messages.FailureUnreachable, answer.Failure == messages.FailureNotService:
		c.monitor.Observe(false)
	case answer.Failure == messages.FailureNotAsked, answer.Failure == messages.FailureNone:
	default:
		c.monitor.Observe(true)
	}
	return answer
}

// probe is what the monitor does.
func (c *Cloud) probe(ctx context.Context) error {
	c.mu.Lock()
	probing := c.probing
	c.mu.Unlock()
	heard := func(time.Time) bool { return false }
	if probing != nil {
		heard = probing()
	}
	date, err := c.verifier.Probe(ctx)
	if err == nil && !date.IsZero() && heard(date) {
		c.monitor.Hasten()
	}
	return err
}

func (c *Cloud) monitorConfig(cfg MonitorConfig) MonitorConfig {
	if cfg.Probe == nil {
		cfg.Probe = c.probe
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	first := cfg.OnChange
	cfg.OnChange = func(up bool) {
		if up {
			c.queue.Resume()
		}
		if first != nil {
			first(up)
		}
		c.mu.Lock()
		listeners := slices.Clone(c.listeners)
		c.mu.Unlock()
		for _, f := range listeners {
			f(up)
		}
	}
	return cfg
}

// Ask queues question; done is called exactly once with the answer, from another
// goroutine, unless Ask returns an error: a *messages.Refusal (busy) or ErrClosed.
func (c *Cloud) Ask(question messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	return c.queue.Submit(question, done)
}

// OnNetworkChange adds a listener for changes of NetworkUp from now on. Changes come in
// order and one at a time. Ask NetworkUp after this for the state to start from.
func (c *Cloud) OnNetworkChange(f func(up bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, f)
}

// OnProbe has f called before each probe from now on, and what it returns after it, with the
// cloud's own time, if that was told; again: there is to be another soon.
func (c *Cloud) OnProbe(f func() (heard func(date time.Time) (again bool))) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = f
}

// NetworkUp says whether the cloud could be reached when it was last tried.
func (c *Cloud) NetworkUp() bool { return c.monitor.NetworkUp() }

// Observe takes news of the network from elsewhere, such as the link of a shadow.Follower,
// which is what Greengrass goes by: true counts at once, false has the service probed.
func (c *Cloud) Observe(reached bool) { c.monitor.Observe(reached) }

// Settle waits until NetworkUp is known for the first time, or ctx ends.
func (c *Cloud) Settle(ctx context.Context) error { return c.monitor.Settle(ctx) }

// Tune changes the queue's size and number of workers while it runs. Values that
// Greengrass ignores (zero and less) are ignored (client-device-auth spec 1.1).
func (c *Cloud) Tune(queueSize, workers int) {
	c.queue.Resize(queueSize)
	c.queue.SetWorkers(workers)
}

// Waiting returns how busy the queue is.
func (c *Cloud) Waiting() Load { return c.queue.Waiting() }

// Close breaks off what is under way and returns when every goroutine has ended.
func (c *Cloud) Close() {
	c.monitor.Close()
	c.queue.Close()
	c.verifier.Close()
}
