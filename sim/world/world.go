package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Beginning is when every world begins.
var Beginning = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// built is when the program of a world was made: no certificate of the cloud is judged by
// an earlier time.
var built = Beginning.Add(-validBefore)

// World is one core, its machine and its cloud. One goroutine uses it. Close it.
type World struct {
	Machine *Machine
	turns   *turns
	cloud   *cloud
	log     *eventlog.Memory
	core    *core                       // nil while the core is not running
	linkUp  bool                        // what the core's link to the cloud says
	budget  bool                        // see Config
	keys    keys.Keys                   // of the core's own authority; nil: it has none
	offline *actors.OfflineRegistration // nil: nobody registers
	fleet   *issuer                     // signs the certificates of devices that register
	rogue   *issuer                     // one of the same name
	ended   []Ended
	failed  error // an append failed, or the system did not come to rest
	steps   int   // of time, so far
	tick    time.Duration

	registrar *registrar
}

// core is one life of the core's process.
type core struct {
	clock  *process
	views  *projections.Views
	trust  *actors.TrustClock
	way    *way
	sys    *actors.System
	access *actors.Access
	gate   *gate.Gate
	keeper *actors.Keeper

	enroller  *actors.Enroller // nil: nobody registers
	refresher *actors.Refresher
	authority *actors.Authority // nil: none was needed
	broker    *actors.Held      // the certificate of a broker, with authority
	epoch     string
}

// Ended is a session that ended, as brokers hear of it.
type Ended struct {
	Thing  messages.ThingName // or the internal component
	Reason messages.CloseReason
}

// Config shapes a World. Its zero value is good.
type Config struct {
	// BudgetOffTime lets stored trust count for a shorter time while nobody knows how long
	// the machine was off (trust.unknownOffTime: budget). Default: it does not count.
	BudgetOffTime bool
	// Battery: the machine has a hardware clock that counts on while it is off.
	Battery bool
}

// New makes a world whose core runs on an empty log, with its link to the cloud up.
func New(cfg Config) (*World, error) {
	m := newMachine(Beginning, cfg.Battery)
	turns := newTurns()
	cloud, err := startCloud(m, turns)
	if err != nil {
		return nil, fmt.Errorf("start the emulated cloud: %w", err)
	}
	w := &World{Machine: m, turns: turns, cloud: cloud, linkUp: true, budget: cfg.BudgetOffTime}
	w.registrar = &registrar{w: w}
	for _, i := range []**issuer{&w.fleet, &w.rogue} {
		if *i, err = newIssuer("Fleet CA", m.start); err != nil {
			return nil, err
		}
	}
	w.log = eventlog.NewMemory(w.logOptions())
	if err := w.start(); err != nil {
		_ = w.Close() // it fails of the same
		return nil, fmt.Errorf("start the core: %w", err)
	}
	return w, nil
}

func (w *World) logOptions() eventlog.Options {
	return eventlog.Options{
		KnownKind: messages.Known,
		Applied: func(records []messages.Record) {
			if w.core != nil {
				w.core.views.Apply(records)
			}
		},
		Fatal: w.fail,
	}
}

func (w *World) fail(err error) { w.failed = errors.Join(w.failed, err) }

// start brings the core up on the log there is, in the daemon's order.
func (w *World) start() error {
	c := &core{clock: w.Machine.process(), views: projections.New(nil), epoch: fmt.Sprintf("epoch-%d", w.log.Head().Seq)}
	anchor, err := w.replay(c.views)
	if err != nil {
		return err
	}
	var options []actors.ClockOption
	if w.budget {
		options = append(options, actors.Budget(c.views.TrustDurationMs()))
	}
	c.trust = actors.NewTrustClock(c.clock, anchor, options...)
	if c.way, err = w.cloud.connect(c.clock, func() time.Time { return c.trust.TLSTime(built) }, w.turns); err != nil {
		return err
	}
	w.turns.busy = c.way.busy
	c.sys, err = actors.New(actors.Config{
		Log: w.log, Views: c.views, Cloud: c.way, Clock: c.trust, Fail: w.fail, Schedule: w.turns.run, Spawn: w.turns.spawn,
	})
	if err != nil {
		c.way.close()
		return err
	}
	w.core = c
	denials := actors.NewDenials(c.sys, c.views.Known)
	c.access = actors.NewAccess(c.sys, denials)
	c.gate = gate.New(c.sys, c.views, c.trust, denials)
	c.views.Live(w.hooks(c))
	c.sys.SetNetwork(w.linkUp)
	if w.keys != nil {
		if err := w.StartAuthority(); err != nil {
			return err
		}
	}
	c.keeper = actors.NewKeeper(c.sys, c.views, c.clock, 0, nil)
	c.keeper.Step()
	if err := w.startEnroller(); err != nil {
		return err
	}
	c.refresher = actors.NewRefresher(c.sys, c.way.list, c.views, c.clock, nil)
	c.refresher.Start()
	if _, err := w.Do(messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Started{Epoch: c.epoch, Mode: "sim"}}); err != nil {
		return err
	}
	return w.settle()
}

func (w *World) replay(views *projections.Views) (anchor actors.Anchor, err error) {
	for rec, err := range w.log.Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			return anchor, err
		}
		anchor.Fold(&rec)
		views.Apply([]messages.Record{rec})
	}
	return anchor, nil
}

func (w *World) hooks(c *core) projections.Hooks {
	return projections.Hooks{
		Closed: func(s *projections.Session, why messages.CloseReason, _ string) {
			w.ended = append(w.ended, Ended{cmp.Or(s.Thing, messages.ThingName(s.Component)), why})
		},
		Evict: func(s *projections.Session) {
			c.sys.Submit(context.Background(), messages.CloseSession{
				Thing: s.Thing, Component: s.Component, Session: s.Digest, Reason: messages.CloseReason_CLOSE_EVICTED, Detail: "more sessions than performance.maxActiveAuthTokens",
			}, messages.Cause{}, func(messages.Reply) {})
		},
	}
}

// settle waits until nothing goes on without time passing.
func (w *World) settle() error {
	if err := w.turns.settle(); err != nil {
		w.fail(err)
	}
	return w.failed
}

// Do gives the core one command and returns its reply; a refusal is an error.
func (w *World) Do(c messages.Command) (messages.Reply, error) {
	var reply messages.Reply
	w.core.sys.Submit(context.Background(), c, messages.Cause{Request: "world"}, func(r messages.Reply) { reply = r })
	if err := w.await(func() bool { return reply != nil }); err != nil {
		return nil, fmt.Errorf("%T: %w", c, err)
	}
	if refusal, ok := reply.(*messages.Refusal); ok {
		return nil, refusal
	}
	return reply, nil
}

// awaitMax is how long, in the world's time, an answer may take.
const awaitMax = 15 * time.Second

// await lets the system come to rest, and then time pass, until ok.
func (w *World) await(ok func() bool) error {
	for end := w.Machine.Since() + awaitMax; ; {
		if err := w.settle(); err != nil || ok() {
			return err
		}
		if w.Machine.Since() >= end {
			return fmt.Errorf("no answer within %v of the world's time", awaitMax)
		}
		if due := w.Machine.pass(min(end, w.Machine.Since()+time.Second)); due != nil {
			w.turns.spawn(due)
		}
	}
}
