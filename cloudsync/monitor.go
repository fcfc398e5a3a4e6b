package cloudsync

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Defaults of a Monitor.
const (
	defaultUpInterval      = 30 * time.Second
	defaultDownIntervalMin = time.Second
	defaultDownIntervalMax = 30 * time.Second

	hastyInterval = 5 * time.Second // at most until the next probe, after Hasten
)

// MonitorConfig shapes a Monitor.
type MonitorConfig struct {
	// Probe reports whether the cloud answers: nil if it does. Required. It must return
	// soon after its context ends.
	Probe func(context.Context) error
	// AfterFunc calls f once, on any goroutine, when d has passed, unless stop comes
	// first. Required: time.AfterFunc, or a simulator's clock.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Jitter returns a number in [0, 1): each wait is between half of its interval and
	// all of it, so that a site's cores do not return in step. Required: rand.Float64.
	Jitter func() float64
	// UpInterval is the time between probes while the cloud answers. Default 30 s.
	UpInterval time.Duration
	// DownIntervalMin is the first wait after the cloud was lost; it doubles up to
	// DownIntervalMax. Defaults 1 s and 30 s.
	DownIntervalMin, DownIntervalMax time.Duration
	// OnChange, if set, hears each change of the state, in order and one at a time. It
	// may be slow; what changed and changed back meanwhile is not told.
	OnChange func(up bool)
	// Spawn runs f, which probes and waits, on its own: for the simulator. Default: a goroutine.
	Spawn func(f func())
}

// Monitor knows whether the network to the cloud is up: Greengrass' flag, which decides
// whether a device that is trusted already is checked again (client-device-auth spec
// 5.3). There it is the nucleus' MQTT link. Here it is a periodic probe, hastened by the
// outcome of real questions.
//
// A question that gets an answer is proof that the cloud is there. One that gets none
// only calls for a probe at once: a single slow answer is not an outage, and the flag
// must not flap in the log.
type Monitor struct {
	cfg    MonitorConfig
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // work
	told   bool           // what OnChange heard last; work's own

	settled     chan struct{} // closed when the state is known for the first time
	settledOnce sync.Once

	mu       sync.Mutex
	closed   bool // guarded by mu, as all below
	working  bool
	changed  bool // something for work to look at
	up       bool
	due      bool          // a probe is to be made now
	hasty    bool          // the next one is to be made soon
	interval time.Duration // last wait while down; zero while up
	stop     func() bool   // of the running wait; nil if none
}

// NewMonitor starts a monitor, which probes at once. Until the first result the network
// counts as down. Close it.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if cfg.Probe == nil || cfg.AfterFunc == nil || cfg.Jitter == nil {
		return nil, errors.New("network monitor: need a probe, a timer and a source of jitter")
	}
	defaultTo(&cfg.UpInterval, defaultUpInterval)
	defaultTo(&cfg.DownIntervalMin, defaultDownIntervalMin)
	defaultTo(&cfg.DownIntervalMax, defaultDownIntervalMax)
	if cfg.Spawn == nil {
		cfg.Spawn = spawn
	}
	m := &Monitor{cfg: cfg, due: true, settled: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.nudge()
	return m, nil
}

func defaultTo(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// NetworkUp says whether the cloud could be reached when it was last tried.
func (m *Monitor) NetworkUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.up
}

// Settle waits until the state is known for the first time, or ctx ends.
func (m *Monitor) Settle(ctx context.Context) error {
	select {
	case <-m.settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Observe takes the outcome of a real question: whether the cloud was reached.
func (m *Monitor) Observe(reached bool) {
	m.mu.Lock()
	switch {
	case reached == m.up:
		m.mu.Unlock()
		return
	case reached:
		m.up, m.interval = true, 0
	default:
		m.due = true
	}
	m.mu.Unlock()
	m.nudge()
}

// Hasten has the next wait for a probe be a few seconds at most. Call it from Probe.
func (m *Monitor) Hasten() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hasty = true
}

// nudge has work look at what has changed.
func (m *Monitor) nudge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = true
	if m.working || m.closed {
		return
	}
	m.working = true
	m.wg.Add(1)
	m.cfg.Spawn(m.work)
}

// work probes when due and tells what changed, until nothing is left to do. There is one at a
// time.
func (m *Monitor) work() {
	defer m.wg.Done()
	for m.goOn() {
		if m.takeDue() {
			err := m.cfg.Probe(m.ctx)
			if m.ctx.Err() != nil {
				continue
			}
			m.learn(err == nil)
		}
		if up := m.NetworkUp(); up != m.told {
			m.told = up
			if m.cfg.OnChange != nil {
				m.cfg.OnChange(up)
			}
		}
		m.wait()
	}
}

// goOn says whether there is something to look at; if not, work ends.
func (m *Monitor) goOn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.working = m.changed && !m.closed
	m.changed = false
	return m.working
}

// takeDue says whether to probe now.
func (m *Monitor) takeDue() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	due := m.due
	m.due = false
	return due
}

// learn takes a probe's result.
func (m *Monitor) learn(up bool) {
	m.mu.Lock()
	m.up = up
	if up {
		m.interval = 0
	}
	m.mu.Unlock()
	m.settledOnce.Do(func() { close(m.settled) })
}

// wait starts the time until the next probe, replacing the one that runs.
func (m *Monitor) wait() {
	m.cancelWait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.due {
		return // woken again already
	}
	interval := m.cfg.UpInterval
	if !m.up {
		m.interval = min(max(2*m.interval, m.cfg.DownIntervalMin), m.cfg.DownIntervalMax)
		interval = m.interval
	}
	if m.hasty {
		m.hasty, interval = false, min(interval, hastyInterval)
	}
	half := interval / 2
	m.stop = m.cfg.AfterFunc(half+time.Duration(m.cfg.Jitter()*float64(interval-half)), m.waitOver)
}

func (m *Monitor) waitOver() {
	m.mu.Lock()
	m.due = true
	m.mu.Unlock()
	m.nudge()
}

func (m *Monitor) cancelWait() {
	m.mu.Lock()
	stop := m.stop
	m.stop = nil
	m.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Close stops probing and returns when the last OnChange has returned.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
	m.cancelWait()
}
