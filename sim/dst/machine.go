package dst

import (
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
)

// Beginning is the true time at which every run begins.
var Beginning = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// upBefore is how long the core's machine has been up at the beginning.
const upBefore = time.Hour

// machine is a machine's time, as wrong as it may be. Its wall clock is right and
// synchronised at the beginning.
type machine struct {
	s       *sched
	battery bool // its hardware clock counts on, and is right, while it is off

	booted  time.Duration // true time of the last start; negative: before the beginning
	boots   int
	bootID  string
	awakeAt time.Duration // boot time …
	since   time.Duration // … at this true time; it goes on at rate from there
	rate    float64       // of the machine's clocks; 1: true
	asleep  time.Duration // of boot time: in suspend
	resumes time.Duration // true time: until then the machine sleeps
	slept   []item        // what became ready meanwhile
	astray  time.Duration // wall clock less boot time and the true time of the boot
	synced  bool
	procs   int // so far
}

func newMachine(s *sched, battery bool) *machine {
	m := &machine{s: s, battery: battery, booted: -upBefore, awakeAt: upBefore, rate: 1, synced: true}
	m.boot()
	return m
}

func (m *machine) boot() {
	m.boots++
	m.bootID = "boot-" + strconv.Itoa(m.boots)
}

// boottime is the time since the start, by the machine's own clock.
func (m *machine) boottime() time.Duration {
	gone := m.s.now - m.since
	if m.rate != 1 {
		gone = time.Duration(float64(gone) * m.rate)
	}
	return m.awakeAt + gone
}

// wall is what the wall clock shows, since the beginning.
func (m *machine) wall() time.Duration {
	if m.synced && m.astray == 0 {
		return m.s.now // what synchronises it also corrects its rate
	}
	return m.booted + m.boottime() + m.astray
}

// rebase begins to count anew, so that the rate can change.
func (m *machine) rebase() { m.awakeAt, m.since = m.boottime(), m.s.now }

// drift has the machine's clocks go at another rate from now on: 1 is right.
func (m *machine) drift(rate float64) {
	wall := m.wall()
	m.rebase()
	m.rate = rate
	m.setWall(wall)
}

// setWall turns the wall clock to what a right one shows at "at" since the beginning.
func (m *machine) setWall(at time.Duration) {
	m.astray = 0
	m.astray = at - m.booted - m.boottime()
	if m.synced && at == m.s.now {
		m.astray = 0
	}
}

// setSynced says whether the wall clock is synchronised with a time source. The source may be
// wrong: the clock goes on as it is.
func (m *machine) setSynced(synced bool) {
	wall := m.wall()
	m.synced = synced
	m.setWall(wall)
}

// correct has the wall clock be right and synchronised.
func (m *machine) correct() { m.synced, m.astray = true, 0 }

// suspend has the machine sleep for d of true time: nothing on it runs, and no timer moves.
func (m *machine) suspend(d time.Duration) {
	from := max(m.s.now, m.resumes)
	m.resumes = from + d
	m.asleep += time.Duration(float64(d) * m.rate)
	m.s.after(m.resumes-m.s.now, anAction, nil, m.rouse)
}

// rouse has what became ready during a suspend run, if that is over.
func (m *machine) rouse() {
	if m.s.now < m.resumes {
		return
	}
	slept := m.slept
	m.slept = nil
	for _, i := range slept {
		m.s.turn(i)
	}
}

// wake ends a suspend.
func (m *machine) wake() {
	if left := m.resumes - m.s.now; left > 0 {
		m.resumes = m.s.now
		m.asleep -= time.Duration(float64(left) * m.rate)
	}
	m.rouse()
}

// off starts the machine again. Its wall clock shows wall since the beginning, or what the
// hardware clock does, and nobody has synchronised it.
func (m *machine) off(wall time.Duration) {
	m.booted, m.awakeAt, m.since, m.asleep, m.synced = m.s.now, 0, m.s.now, 0, false
	m.resumes = 0
	m.boot()
	if m.battery {
		wall = m.s.now
	}
	m.setWall(wall)
	m.rouse()
}

// process is one process on a machine: its timers and tasks end with it. It implements
// actors.Clock.
type process struct {
	*machine
	number int
	dead   bool
	tasks  *task // that wait
}

var _ actors.Clock = (*process)(nil)

func (m *machine) process() *process {
	m.procs++
	return &process{machine: m, number: m.procs}
}

// Wall implements actors.Clock.
func (p *process) Wall() time.Time { return Beginning.Add(p.wall()) }

// Boot implements actors.Clock.
func (p *process) Boot() time.Duration { return p.boottime() }

// Monotonic is a clock that no jump of the wall clock moves, as a Go time's.
func (p *process) Monotonic() time.Time { return Beginning.Add(p.boottime() - p.asleep) }

// ticks is the process's clock for the desk: brokers.Clock.
type ticks struct{ *process }

// Now implements brokers.Clock.
func (t ticks) Now() time.Time { return t.Monotonic() }

// BootID implements actors.Clock.
func (p *process) BootID() string { return p.bootID }

// Synced implements actors.Clock.
func (p *process) Synced() bool { return p.synced }

// batterySlack is how far a wall clock that was set from a hardware clock may have come
// apart from it.
const batterySlack = time.Minute

// Battery implements actors.Clock.
func (p *process) Battery() bool { return p.battery && (p.wall()-p.s.now).Abs() <= batterySlack }

// AfterFunc implements actors.Clock. A timer goes by the time that the machine is awake.
func (p *process) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return p.timer(d, aTimer, f)
}

func (p *process) timer(d time.Duration, w what, f func()) (stop func() bool) {
	t := &timer{p: p, f: f, what: w, due: p.boottime() - p.asleep + max(d, 0)}
	t.arm()
	return t.stop
}

// timer is one that waits for a moment of the machine's time.
type timer struct {
	p    *process
	f    func()
	due  time.Duration // boot time without suspend
	what what
	over bool
}

func (t *timer) left() time.Duration {
	d := t.due - (t.p.boottime() - t.p.asleep)
	if t.p.rate != 1 && d > 0 {
		d = time.Duration(float64(d)/t.p.rate) + 1
	}
	return d
}

func (t *timer) arm() {
	s := t.p.s
	s.wait(s.now+max(t.left(), 0), item{f: t.ring, of: t.p, t: t, what: t.what})
}

func (t *timer) ring() {
	switch {
	case t.left() > 0: // the machine slept, or its clock goes slower than it did
		t.arm()
	default:
		t.fire()
	}
}

func (t *timer) fire() {
	f := t.f
	t.over, t.f = true, nil
	f()
}

func (t *timer) stop() bool {
	waits := !t.over
	t.over = true
	t.f = nil
	return waits
}

// schedule is actors.Config's Schedule.
func (p *process) schedule(f func()) { p.s.soon(aTurn, p, f) }

// spawn is actors.Config's Spawn.
func (p *process) spawn(f func()) { p.s.spawn(p, f) }

// spawnTick is spawn for what comes again and again.
func (p *process) spawnTick(f func()) { p.s.soon(aTick, p, func() { p.s.begin(p, f) }) }

func (p *process) add(t *task) {
	t.older = p.tasks
	if t.older != nil {
		t.older.newer = t
	}
	p.tasks = t
}

func (p *process) remove(t *task) {
	if t.newer != nil {
		t.newer.older = t.older
	} else {
		p.tasks = t.older
	}
	if t.older != nil {
		t.older.newer = t.newer
	}
	t.older, t.newer = nil, nil
}

// kill ends the process: nothing of it runs any more, and what waits ends without effect.
func (p *process) kill() {
	if p.dead {
		return
	}
	p.dead = true
	for p.tasks != nil {
		t := p.tasks
		if t == p.s.current {
			panic("dst: a task kills its own process")
		}
		t.killed, t.parked = true, false
		t.resume()
		if !t.done {
			panic("dst: a task waits although its process has ended")
		}
	}
}
