package cloudsync

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Config shapes a Cloud. Its parts' zero values are good, but for what DataPlaneConfig
// requires.
type Config struct {
	DataPlane DataPlaneConfig // OnOutcome is called besides the monitor
	Queue     QueueConfig     // Now defaults to DataPlane.Now
	Monitor   MonitorConfig   // Probe, AfterFunc and Jitter default to the real ones; OnChange is called first
}

// Cloud is the core's whole view of the cloud: questions go through one queue to one
// data plane, and one monitor watches whether it can be reached.
type Cloud struct {
	data    *DataPlane
	queue   *Queue
	monitor *Monitor

	mu        sync.Mutex
	listeners []func(up bool) // guarded by mu
}

// New starts a Cloud. Close it.
func New(cfg Config) (*Cloud, error) {
	c := &Cloud{}
	// The data plane is used only after New has returned or by the monitor's first
	// probe, which does not report outcomes; monitor is set before either can.
	outcome := cfg.DataPlane.OnOutcome
	cfg.DataPlane.OnOutcome = func(reached bool) {
		c.monitor.Observe(reached)
		if outcome != nil {
			outcome(reached)
		}
	}
	data, err := NewDataPlane(cfg.DataPlane)
	if err != nil {
		return nil, err
	}
	c.data = data
	if cfg.Queue.Now == nil {
		cfg.Queue.Now = cfg.DataPlane.Now
	}
	if c.queue, err = NewQueue(data.Ask, cfg.Queue); err != nil {
		return nil, err
	}
	if c.monitor, err = NewMonitor(c.monitorConfig(cfg.Monitor)); err != nil {
		c.queue.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cloud) monitorConfig(cfg MonitorConfig) MonitorConfig {
	if cfg.Probe == nil {
		cfg.Probe = c.data.Probe
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	first := cfg.OnChange
	cfg.OnChange = func(up bool) {
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

// NetworkUp says whether the cloud could be reached when it was last tried.
func (c *Cloud) NetworkUp() bool { return c.monitor.NetworkUp() }

// Settle waits until NetworkUp is known for the first time, or ctx ends.
func (c *Cloud) Settle(ctx context.Context) error { return c.monitor.Settle(ctx) }

// SetOnline takes the word of a link to the cloud instead of probing; see Monitor.
func (c *Cloud) SetOnline(up bool) { c.monitor.SetOnline(up) }

// Tune changes the queue's size and number of workers while it runs. Values that
// Greengrass ignores (zero and less) are ignored (client-device-auth spec 1.1).
func (c *Cloud) Tune(queueSize, workers int) {
	c.queue.Resize(queueSize)
	c.queue.SetWorkers(workers)
}

// Close breaks off what is under way and returns when every goroutine has ended.
func (c *Cloud) Close() {
	c.monitor.Close()
	c.queue.Close()
	c.data.Close()
}
