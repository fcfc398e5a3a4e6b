package world

import (
	"container/heap"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
)

// Machine is the time of a machine, and that of the world around it. Its wall clock may
// be wrong. It begins synchronised, an hour after its start. Safe for concurrent use.
type Machine struct {
	start   time.Time // the world's time at the beginning
	battery bool      // its hardware clock counts on, and is right, while it is off

	mu     sync.Mutex
	now    time.Duration // the world's time since the beginning; guarded by mu, as all below
	awake  time.Duration // the same without suspend: timers go by it
	booted time.Duration // now at the last start of the machine; negative: before the beginning
	boots  int
	astray time.Duration // by how much the wall clock is wrong
	synced bool
	timers timers
	made   uint64 // timers so far
}

// upBefore is how long the machine has been up at the beginning.
const upBefore = time.Hour

// newMachine makes a machine at start, with a hardware clock or without.
func newMachine(start time.Time, battery bool) *Machine {
	return &Machine{start: start, battery: battery, booted: -upBefore, boots: 1, synced: true}
}

// timer is a function that waits for its moment.
type timer struct {
	at   time.Duration // awake time
	age  uint64
	f    func()
	of   *process // nil: the world's own
	gone bool
}

// process is the machine's time as one process on it sees it: its timers end with it. It
// implements actors.Clock.
type process struct {
	*Machine
	dead bool // guarded by the machine's mu
}

var _ actors.Clock = (*process)(nil)

func (m *Machine) process() *process { return &process{Machine: m} }

// AfterFunc implements actors.Clock: f runs while time is made to pass.
func (p *process) AfterFunc(d time.Duration, f func()) (stop func() bool) { return p.after(d, f, p) }

// end drops the process's timers.
func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

func (m *Machine) after(d time.Duration, f func(), of *process) (stop func() bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	t := &timer{at: m.awake + max(d, 0), age: m.made, f: f, of: of}
	heap.Push(&m.timers, t)
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		waits := !t.gone
		t.gone = true
		return waits
	}
}

// Now is the world's time: what a right clock shows.
func (m *Machine) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start.Add(m.now)
}

// Since is the world's time since the beginning.
func (m *Machine) Since() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Wall implements actors.Clock.
func (m *Machine) Wall() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start.Add(m.now + m.astray)
}

// Boot implements actors.Clock.
func (m *Machine) Boot() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now - m.booted
}

// BootID implements actors.Clock.
func (m *Machine) BootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("boot-%d", m.boots)
}

// Synced implements actors.Clock.
func (m *Machine) Synced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.synced
}

// batterySlack is how far a wall clock that was set from a hardware clock may have come
// apart from it.
const batterySlack = time.Minute

// Battery implements actors.Clock.
func (m *Machine) Battery() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.battery && m.astray.Abs() <= batterySlack
}

// SetWall turns the wall clock to what a right one shows at "at" since the beginning.
func (m *Machine) SetWall(at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.astray = at - m.now
}

// SetSynced says whether the wall clock is synchronised with a time source.
func (m *Machine) SetSynced(synced bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = synced
}

// suspend lets d pass in which the machine sleeps: no timer moves.
func (m *Machine) suspend(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += d
}

// off lets d pass without power and starts the machine again. Its wall clock has gone on,
// or shows what the hardware clock does, and nobody has synchronised it.
func (m *Machine) off(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += d
	m.booted, m.synced = m.now, false
	m.boots++
	if m.battery {
		m.astray = 0
	}
}

// pass lets time go on to the next timer, at most to end since the beginning, and
// returns what is due then: nil at the end.
func (m *Machine) pass(end time.Duration) (due func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.awake + max(end-m.now, 0)
	for len(m.timers) > 0 {
		t := m.timers[0]
		if t.gone || t.of != nil && t.of.dead {
			heap.Pop(&m.timers)
			continue
		}
		if t.at > last {
			break
		}
		heap.Pop(&m.timers)
		t.gone = true
		m.forward(max(t.at-m.awake, 0))
		return t.f
	}
	m.forward(last - m.awake)
	return nil
}

func (m *Machine) forward(d time.Duration) { m.now, m.awake = m.now+d, m.awake+d }

// timers is a heap: by moment, then by age.
type timers []*timer

// Len implements heap.Interface.
func (h timers) Len() int { return len(h) }

// Less implements heap.Interface.
func (h timers) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].age < h[j].age
}

// Swap implements heap.Interface.
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	*h = append(*h, x.(*timer))
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
