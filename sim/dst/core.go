package dst

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// core is one life of the core's process: its parts, put together in the daemon's order.
type core struct {
	sim       *Sim
	life      int
	epoch     string
	clock     *process
	disk      *disk
	views     *projections.Views
	trust     *actors.TrustClock
	cloud     *cloudsync.Cloud
	sys       *actors.System
	denials   *actors.Denials
	gate      *gate.Gate
	keeper    *actors.Keeper
	refresh   *actors.Refresher
	enroller  *actors.Enroller  // nil: nobody is registered
	authority *actors.Authority // nil: it has none
	courier   *brokers.Courier
	pusher    *brokers.Pusher
	desk      *brokers.Desk
	ready     bool // it answers
	failed    bool // an append failed: it answers no more
	ending    bool // it was asked to stop
	seen      Core // as the witness sees it

	marked time.Duration // when the keeper last marked the clock
	taking bool          // a file is being taken
	again  bool          // and has changed meanwhile
}

// settleMax is how long the start waits for the first word from the cloud, as the daemon does.
const settleMax = 3 * time.Second

// startCore begins a life of the process. It is ready when its start has come to its end.
func (m *Sim) startCore() {
	m.lives++
	c := &core{sim: m, life: m.lives, epoch: "e" + strconv.Itoa(m.lives), clock: m.machine.process()}
	m.core = c
	m.sched.trace.say("the core's process starts, for the %d. time", c.life)
	m.sched.spawn(c.clock, func() {
		if err := c.start(); err != nil && !c.clock.dead {
			m.sched.trace.say("the core does not start: %v", err)
			m.exits(c, "start: "+err.Error())
		}
	})
}

// start puts the core together.
func (c *core) start() error {
	m := c.sim
	if err := c.takeUpLog(); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	started := messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Started{Version: "0.0.0-sim", Epoch: c.epoch, Mode: "sim"}}
	if err := c.do(started); err != nil && !isBusy(err) { // a disk that is full keeps nobody from starting
		return err
	}
	if err := c.takeFiles(); err != nil {
		return err
	}
	if c.sim.plan.Setup.Certified {
		if err := c.startAuthority(context.Background()); err != nil {
			return fmt.Errorf("authority: %w", err)
		}
	}
	if c.clock.dead { // it was killed while it waited, and is not to be heard of any more
		return errStopped
	}
	if err := c.startNATS(); err != nil {
		return err
	}
	c.ready = !c.failed
	c.desk.SetReady(c.ready)
	c.taken() // what could not be taken, or was changed meanwhile
	m.sched.trace.text('R', c.epoch)
	m.sched.trace.say("the core is ready (%s)", c.epoch)
	return nil
}

// takeUpLog opens the log, folds it, and goes on from where its clock stood.
func (c *core) takeUpLog() (err error) {
	m := c.sim
	c.views = projections.New(nil)
	c.disk, err = m.store.open(c.clock, eventlog.Options{KnownKind: messages.Known, Applied: c.applied, Fatal: c.fatal})
	if err != nil {
		return fmt.Errorf("open event log: %w", err)
	}
	var anchor actors.Anchor
	batch := make([]messages.Record, 0, 256)
	for rec, err := range m.store.all(1) {
		if err != nil {
			return fmt.Errorf("replay event log: %w", err)
		}
		anchor.Fold(&rec)
		if batch = append(batch, rec); len(batch) == cap(batch) {
			c.views.Apply(batch)
			batch = batch[:0]
		}
	}
	c.views.Apply(batch)
	var options []actors.ClockOption
	if m.plan.Setup.Budget {
		options = append(options, actors.Budget(c.views.TrustDurationMs()))
	}
	c.trust = actors.NewTrustClock(c.clock, anchor, options...)
	return nil
}

// applied hears what is durable.
func (c *core) applied(recs []messages.Record) {
	m := c.sim
	if t := m.sched.trace; t.telling() {
		for i := range recs {
			t.say("record %d: %v of %s", recs[i].Seq, recs[i].Kind, recs[i].Stream)
		}
	}
	for i := range recs {
		if recs[i].Kind == messages.KindClockMarked {
			c.marked = m.sched.now
		}
	}
	m.store.seen += uint64(len(recs))
	m.witness.Durable(recs)
	c.views.Apply(recs)
}

// fatal hears that an append failed: nobody is answered any more, and the process ends.
func (c *core) fatal(err error) {
	c.failed, c.ready = true, false
	if c.desk != nil {
		c.desk.SetReady(false)
	}
	m := c.sim
	m.sched.trace.say("an append failed: %v", err)
	m.witness.Failed(c.life)
	m.sched.after(m.dice.key(uint64(m.sched.now)).between(0, 20*time.Millisecond), anAction, nil, func() {
		m.exits(c, "exit code 21: "+err.Error())
	})
}

// open starts the entities and what looks after them.
func (c *core) open() (err error) {
	m := c.sim
	performance := c.views.Section().Performance
	jitter := &randomBytes{dice: m.dice.key(uint64(c.life)).key(1)}
	float := func() float64 { jitter.n++; return jitter.dice.key(jitter.n).float() }
	way := &cloudClient{c: m.cloud, of: c.clock}
	c.cloud, err = cloudsync.New(cloudsync.Config{
		Verifier: way,
		Queue: cloudsync.QueueConfig{
			Size: performance.CloudRequestQueueSize, Workers: performance.MaxConcurrentCloudRequests,
			Now: c.clock.Monotonic, AfterFunc: c.clock.AfterFunc, Jitter: float, Spawn: c.clock.spawn,
		},
		Monitor: cloudsync.MonitorConfig{AfterFunc: c.ticks, Jitter: float, Spawn: c.clock.spawnTick},
	})
	if err != nil {
		return fmt.Errorf("cloud: %w", err)
	}
	nonces := &randomBytes{dice: diceOf(m.plan.Seed, diceNonces).key(uint64(c.life))}
	c.sys, err = actors.New(actors.Config{
		Log: c.disk, Views: c.views, Cloud: c.cloud, Clock: c.trust, Fail: func(error) {}, // fatal has heard
		Random: nonces.fill, Schedule: c.clock.schedule, Spawn: c.clock.spawn, Park: m.sched.park,
	})
	if err != nil {
		return err
	}
	c.denials = actors.NewDenials(c.sys, c.views.Known)
	c.gate = gate.New(c.sys, c.views, c.trust, c.denials)
	c.views.Live(c.hooks())
	c.seen = Core{
		Life: c.life, Views: c.views, TrustMs: c.trust.NowMs,
		Certain: func() bool { return c.trust.State() == actors.ClockCertain },
		Quiet:   func() bool { return c.disk.Waiting() == 0 },
	}
	m.witness.Began(&c.seen)
	c.cloud.OnNetworkChange(c.network)
	c.cloud.OnProbe(c.sys.Probing)
	c.settle(way)
	c.sys.SetNetwork(c.cloud.NetworkUp())
	c.keeper = actors.NewKeeper(c.sys, c.views, c.clock, 0, nil)
	c.keep()
	c.refresh = actors.NewRefresher(c.sys, way, c.views, c.clock, nil)
	c.refresh.Start()
	c.startEnroller()
	return nil
}

// ticks is AfterFunc for what comes again and again, whatever happens.
func (c *core) ticks(d time.Duration, f func()) (stop func() bool) { return c.clock.timer(d, aTick, f) }

func (c *core) network(up bool) {
	c.sim.sched.busy = c.sim.sched.now
	c.sim.sched.trace.number('N', uint64(len(strconv.FormatBool(up))))
	c.sim.sched.trace.say("the core's link to the cloud is up: %v", up)
	c.sys.SetNetwork(up)
}

// startNATS opens the desk, not ready yet, and begins to push.
func (c *core) startNATS() (err error) {
	m := c.sim
	conn := m.net.connectCore()
	if c.pusher, err = brokers.NewPusher(brokers.PusherConfig{Conn: conn, Epoch: c.epoch, Log: quiet}); err != nil {
		return err
	}
	for i := range m.brokers {
		c.pusher.AddBroker(BrokerOf(i))
	}
	c.beat()
	if err = c.startCourier(); err != nil {
		return err
	}
	c.desk, err = brokers.OpenDesk(brokers.DeskConfig{
		Conn: conn, Gate: c.gate, Courier: c.courier, Log: quiet, Instance: c.epoch, Clock: ticks{c.clock}, Schedule: c.clock.schedule,
	})
	return err
}

// quiet is where the product's own lines go: what they say is seen otherwise.
var quiet = slog.New(slog.DiscardHandler)

func (c *core) beat() {
	c.pusher.Beat()
	c.clock.timer(max(authapi.HeartbeatInterval, c.calm()), aTick, c.beat)
}

// keep takes the keeper's steps, one a second.
func (c *core) keep() {
	if c.ending {
		return
	}
	c.keeper.Step()
	c.clock.timer(max(keeperTick, c.calm()), aTick, c.keep)
}

const (
	keeperTick = time.Second
	// A run of less than shortRun has every tick until it is healed.
	shortRun = 10 * time.Minute
	// beforehand is how long before something happens all goes on as always.
	beforehand = 2500 * time.Millisecond
	markEvery  = time.Minute // of the keeper
)

// calm is how long nothing is going to happen: what comes again each second may be left out
// until then, so that days pass in no time. It has a say in what is due by itself: the keeper's
// marks, and whose trust is to be renewed or has ended.
func (c *core) calm() time.Duration {
	m := c.sim
	until, calm := m.sched.calmUntil()
	if !calm || m.plan.Duration < shortRun && !m.healed || !c.ready {
		return 0
	}
	until = min(until-beforehand, c.marked+markEvery)
	due := c.views.NextDueMs() - c.trust.NowMs()
	return min(until-m.sched.now, time.Duration(min(due, int64(time.Hour/time.Millisecond)))*time.Millisecond)
}

// settle waits for the first word from the cloud.
func (c *core) settle(k *cloudClient) {
	s := c.sim.sched
	s.await(func(wake func()) {
		k.onProbe = wake
		s.after(settleMax, aTask, c.clock, wake)
	})
	k.onProbe = nil
}

func (c *core) hooks() projections.Hooks {
	return projections.Hooks{
		Closed: func(s *projections.Session, reason messages.CloseReason, detail string) {
			if c.pusher != nil && reason != messages.CloseReason_CLOSE_BY_BROKER {
				c.pusher.SessionClosed(s.Broker, brokers.Closed{Token: s.Digest, Thing: s.Thing, CertificateID: s.Certificate, Reason: reason.String() + ": " + detail})
			}
		},
		Evict: func(s *projections.Session) {
			c.sys.Submit(context.Background(), messages.CloseSession{
				Thing: s.Thing, Component: s.Component, Session: s.Digest, Reason: messages.CloseReason_CLOSE_EVICTED,
				Detail: "more sessions than performance.maxActiveAuthTokens",
			}, messages.Cause{}, func(messages.Reply) {})
		},
		Config: func(s config.Section) {
			c.cloud.Tune(s.Performance.CloudRequestQueueSize, s.Performance.MaxConcurrentCloudRequests)
			if c.authority != nil {
				c.authority.Wake()
			}
		},
		PolicyChanged: func(seq uint64, _ string) {
			if c.pusher != nil {
				c.pusher.PolicyChanged(seq)
			}
		},
	}
}

var errStopped = errors.New("the process has ended")

// do submits a command and waits for its reply.
func (c *core) do(cmd messages.Command) error {
	_, err := c.ask(cmd)
	return err
}

func (c *core) ask(cmd messages.Command) (reply messages.Reply, err error) {
	ok := c.sim.sched.await(func(wake func()) {
		c.sys.Submit(context.Background(), cmd, messages.Cause{}, func(r messages.Reply) {
			reply = r
			wake()
		})
	})
	if !ok {
		return nil, errStopped
	}
	if refusal, ok := reply.(*messages.Refusal); ok {
		return nil, refusal
	}
	return reply, nil
}

// takeFiles puts configuration and policy of the files into force. One that cannot be used
// refuses the start if there is none in force.
func (c *core) takeFiles() error {
	c.taking = true
	defer c.taken()
	for which, former := range [...]bool{fileSection: c.views.HasConfig(), filePolicy: c.views.HasPolicy()} {
		f := c.sim.files[which]
		command := messages.Command(messages.ReplaceConfig{Document: []byte(f.doc), Source: messages.Source_SOURCE_FILE, Origin: "gatehouse.yaml"})
		if which == filePolicy {
			command = messages.ReplacePolicy{Document: []byte(f.doc), Source: messages.Source_SOURCE_FILE, Origin: "policy.yaml"}
		}
		reply, err := c.ask(command)
		if isBusy(err) && former && !c.ready {
			c.again = true // it is looked at again once all is up
			continue
		}
		if err != nil {
			return err
		}
		c.tookFile(which, f, reply)
		if r, ok := reply.(messages.Rejected); ok && !former {
			return fmt.Errorf("%T: %v", command, r.Errors)
		}
	}
	return nil
}

// tookFile tells who wrote a file what became of it.
func (c *core) tookFile(which int, f file, r messages.Reply) {
	m := c.sim
	if f.by != nil {
		m.replied(&order{action: f.by, begun: f.begun}, r)
	}
	if now := &m.files[which]; now.by == f.by {
		now.told = true
	}
}

// fileChanged hears that a file is another one.
func (c *core) fileChanged() {
	if c.taking {
		c.again = true
		return
	}
	if !c.ready {
		c.again = true // the start has perhaps read it
		return
	}
	c.taking = true
	m := c.sim
	m.sched.spawn(c.clock, func() {
		m.sched.sleep(50 * time.Millisecond) // until it is quiet
		if err := c.takeFiles(); err != nil && !c.clock.dead {
			m.sched.trace.say("a file is not taken: %v", err)
			m.sched.sleep(5 * time.Second)
			if !c.clock.dead {
				c.fileChanged()
			}
		}
	})
}

func (c *core) taken() {
	c.taking = false
	if c.again && c.ready {
		c.again = false
		c.fileChanged()
	}
}

// isBusy reports whether there was no room: on a disk that is full only what restricts is
// taken.
func isBusy(err error) bool {
	r, ok := errors.AsType[*messages.Refusal](err)
	return ok && r.Code == messages.RefusedBusy
}

// stop ends the process in order: it says so in the log, then it is gone.
func (c *core) stop(then func()) {
	m := c.sim
	c.ready, c.ending = false, true
	if c.desk != nil {
		c.desk.SetReady(false)
	}
	end := func() {
		if m.core == c {
			then()
		}
	}
	m.sched.after(5*time.Second, anAction, nil, end) // an orderly end takes no longer
	if c.sys == nil {
		m.sched.after(0, anAction, nil, end)
		return
	}
	m.sched.spawn(c.clock, func() {
		if c.keeper != nil {
			c.keeper.Close()
		}
		_ = c.do(messages.MarkClock{Mark: c.trust.Mark()})
		_ = c.do(messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Stopped{Epoch: c.epoch, Reason: "asked to stop"}})
		m.sched.after(0, anAction, nil, end)
	})
}

// kill ends the process where it is.
func (c *core) kill() {
	c.ready = false
	c.sim.net.disconnectCore()
	c.clock.kill()
	if c.disk != nil {
		c.sim.store.crash()
	}
	if c.sys != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.sys.Close(ended) // whatever is under way is lost
	}
}
