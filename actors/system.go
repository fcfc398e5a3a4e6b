package actors

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	cmap "github.com/orcaman/concurrent-map"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Log is what the host needs of the event log.
type Log interface {
	Append(b eventlog.Batch, done func([]messages.Record, error))
	Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error]
	Version(stream messages.StreamID) (uint64, error)
	Snapshot(key string) (s eventlog.Snapshot, found bool, err error)
	PutSnapshot(key string, s eventlog.Snapshot) error
}

// Views is what the host needs of the read models. Safe for concurrent use.
type Views interface {
	// Restrict applies what an event takes away, before it is durable.
	Restrict(stream messages.StreamID, e messages.Event, at messages.Instant)
	// Abandon says that an event Restrict was told of will not be in the log: a document
	// that was about to replace another does not.
	Abandon(stream messages.StreamID, e messages.Event)
	// Quarantine refuses everything about the entity of stream until the next start.
	Quarantine(stream messages.StreamID)
	// CertificateTrust is what the log says of a certificate.
	CertificateTrust(id messages.CertificateID) messages.CertificateTrust
	// Holders lists the things a certificate is attached to.
	Holders(id messages.CertificateID) []messages.ThingName
	// ConnectAllowed says whether the policy in force lets thing connect, and which
	// policy that is.
	ConnectAllowed(thing messages.ThingName) (bool, string)
	// PendingConnectAllowed says it of thing as a pending device, which is in one group of
	// the policy alone.
	PendingConnectAllowed(thing messages.ThingName) (bool, string)
	// CertificateKnown reports whether the log holds, or held, the cloud's word about a
	// certificate, or cannot be read about it.
	CertificateKnown(id messages.CertificateID) bool
	// TrustDurationMs and CloseOnRevoke are the configuration in force.
	TrustDurationMs() int64
	CloseOnRevoke() bool
	// VoidedMs is the moment before which no trust counts; 0: none was voided.
	VoidedMs() int64
	// Voided reports whether the last confirmation of a certificate, or of its attachment
	// to a thing, was stamped by a clock that was wrong: stream is the entity that holds it.
	Voided(stream messages.StreamID, id messages.CertificateID) bool
}

// Cloud is what the host needs of the cloud. Safe for concurrent use.
type Cloud interface {
	// Ask queues the question and returns; done is called once, from elsewhere. An error
	// means that the queue is full and done will not be called.
	Ask(q messages.CloudQuestion, done func(messages.CloudAnswer)) error
}

// Config is what a System is made of. Log, Views, Cloud and Clock are required.
type Config struct {
	Log   Log
	Views Views
	Cloud Cloud
	Clock *TrustClock
	// Random fills b with secret random bytes. Default: crypto/rand.
	Random func(b []byte)
	// Fail is called once, on its own, when an append failed: its outcome is unknown, so
	// the process must end and recover from disk. Default: the System only refuses from
	// then on.
	Fail func(error)
	// LiveMax is how many entities stay resident before idle ones are passivated.
	// Default 50,000 (1.2 KiB each and its state, of a certificate about 1 KiB; a device takes
	// two): 100 MiB at most.
	LiveMax int
	// RecoveriesMax is how many entities may read the log at the same time, and as many for
	// what restricts. Default 8.
	RecoveriesMax int
	// LaneMax bounds the commands under way per lane; beyond it the answer is Busy.
	// Default {16384, 8192, 1024}. What restricts has a lane of its own and can only be
	// refused by a flood of restrictions.
	LaneMax [messages.Lanes]int
	// Schedule runs f on its own, for the simulator. Default: goroutines that stay,
	// see workers.
	Schedule func(f func())
	// Spawn runs f, which waits for the outside, on its own: for the simulator, which must
	// know what is under way. Default: a goroutine.
	Spawn func(f func())
	// Park returns how its caller waits for an entity or for its turn: wait returns when wake
	// has been called, before or after, or soon after ctx is done. For the simulator, which may
	// leave the latter out. Default: a channel.
	Park func() (wait func(ctx context.Context), wake func())
	// Within ends ctx because of cause after d. For the simulator. Default: the machine's
	// clock, context.WithTimeoutCause.
	Within func(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc)
	Logger *slog.Logger // default: discard
}

// System runs the entities. Safe for concurrent use.
type System struct {
	log        Log
	views      Views
	cloud      Cloud
	clock      *TrustClock
	random     func([]byte)
	onFail     func(error)
	logger     *slog.Logger
	retryAfter time.Duration

	run     func(f func())
	spawn   func(f func())
	park    func() (wait func(context.Context), wake func())
	within  func(context.Context, time.Duration, error) (context.Context, context.CancelFunc)
	actors  *actor.ActorSystem
	router  *router
	permits chan struct{}
	// urgentPermits are as many for what restricts.
	urgentPermits chan struct{}
	laneMax       [messages.Lanes]int64
	inLane        [messages.Lanes]atomic.Int64
	network       atomic.Bool
	issuer        atomic.Pointer[Authority] // whose client certificates are internal components'; nil: nobody's
	failed        atomic.Bool
	// stamps is held for reading from the moment a decision is stamped until its events
	// are in the log's queue, and for writing while the clock is set back: so the log has
	// every stamp of the wrong clock before the ClockReanchored that voids it.
	stamps  sync.RWMutex
	failing sync.Once
	panics  atomic.Int64

	refresher atomic.Pointer[Refresher] // nil: nothing refreshes
	enroller  atomic.Pointer[Enroller]  // nil: nobody registers

	// Commands under way are counted, not awaited by a WaitGroup: one that is handed in
	// while Close waits would make a WaitGroup panic.
	closing  atomic.Bool
	under    atomic.Int64
	idle     chan struct{} // closed when the last command after closing is answered
	idleOnce sync.Once
	endOnce  sync.Once

	endWorkers func() // nil with a Schedule of the caller's

	override func(messages.StreamID) (family, bool) // tests plant families that misbehave
}

// Proto.Actor's registry has 1,024 buckets, each a map of 32 shards with a lock of its own:
// 3 MB and 10 ms for each system that is empty. A lock a bucket will do.
func init() { cmap.SHARD_COUNT = 1 }

// warnings lets Proto.Actor speak to the operator only when something is wrong.
type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// scheduler lends Proto.Actor the host's way of running things.
type scheduler struct{ run func(func()) }

func (s scheduler) Schedule(f func()) { s.run(f) }
func (scheduler) Throughput() int     { return 300 } // Proto.Actor's own default

// New starts an empty system; entities come to life with the first command for them.
func New(cfg Config) (*System, error) {
	if cfg.Log == nil || cfg.Views == nil || cfg.Cloud == nil || cfg.Clock == nil {
		return nil, errors.New("actors: Config needs Log, Views, Cloud and Clock")
	}
	s := &System{
		log: cfg.Log, views: cfg.Views, cloud: cfg.Cloud, clock: cfg.Clock,
		random: cfg.Random, onFail: cfg.Fail, logger: cfg.Logger,
		retryAfter: time.Second,
		permits:    make(chan struct{}, orDefault(cfg.RecoveriesMax, 8)),
		run:        cfg.Schedule, idle: make(chan struct{}),
	}
	s.urgentPermits = make(chan struct{}, cap(s.permits))
	if s.random == nil {
		s.random = func(b []byte) { _, _ = rand.Read(b) } // never fails: it ends the program instead
	}
	if s.spawn = cfg.Spawn; s.spawn == nil {
		s.spawn = func(f func()) { go f() }
	}
	if s.park = cfg.Park; s.park == nil {
		s.park = park
	}
	if s.within = cfg.Within; s.within == nil {
		s.within = context.WithTimeoutCause
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	for lane, fallback := range [messages.Lanes]int{16384, 8192, 1024} {
		s.laneMax[lane] = int64(orDefault(cfg.LaneMax[lane], fallback))
	}
	s.network.Store(true)
	s.actors = actor.NewActorSystemWithConfig(actor.Configure(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(warnings{s.logger.Handler()}) })))
	if s.run == nil {
		w := newWorkers()
		s.run, s.endWorkers = w.run, w.stop
	}
	props := actor.PropsFromProducer(func() actor.Actor { return &entity{sys: s} },
		actor.WithDispatcher(scheduler{s.run}))
	s.router = newRouter(s, orDefault(cfg.LiveMax, 50_000), props)
	return s, nil
}

func orDefault(n, fallback int) int {
	if n <= 0 {
		return fallback
	}
	return n
}

// Submit hands a command to its entity. reply is called exactly once, from another
// goroutine or before Submit returns, and must not block. A context that is done before
// the entity takes the command up makes it Busy; what restricts is carried out anyway.
func (s *System) Submit(ctx context.Context, c messages.Command, cause messages.Cause, reply func(messages.Reply)) {
	env := &envelope{sys: s, ctx: ctx, since: s.clock.Boot(), command: c, cause: cause, lane: c.Lane(), reply: reply}
	s.under.Add(1)
	waiting := s.inLane[env.lane].Add(1)
	switch {
	case s.closing.Load():
		env.answer(messages.Refuse(messages.RefusedNotReady, "stopping"))
	case waiting > s.laneMax[env.lane]:
		env.answer(&messages.Refusal{Code: messages.RefusedBusy, Reason: fmt.Sprintf("more than %d requests under way", s.laneMax[env.lane]), RetryAfter: s.retryAfter})
	default:
		if r := s.router.deliver(env); r != nil {
			env.answer(r)
		}
	}
}

// left counts a command as answered.
func (s *System) left() {
	if s.under.Add(-1) == 0 && s.closing.Load() {
		s.idleOnce.Do(func() { close(s.idle) })
	}
}

// Do submits a command and waits for its reply. A *messages.Refusal comes back as the
// error.
func (s *System) Do(ctx context.Context, c messages.Command, cause messages.Cause) (messages.Reply, error) {
	replies := make(chan messages.Reply, 1)
	wait, wake := s.park()
	s.Submit(ctx, c, cause, func(r messages.Reply) {
		replies <- r
		wake()
	})
	wait(ctx)
	select {
	case r := <-replies:
		if refusal, ok := r.(*messages.Refusal); ok {
			return nil, refusal
		}
		return r, nil
	default:
		return nil, ctx.Err()
	}
}

// tell submits a command that nobody waits for.
func (s *System) tell(c messages.Command, cause messages.Cause) {
	s.Submit(context.Background(), c, cause, func(r messages.Reply) {
		if refusal, ok := r.(*messages.Refusal); ok && refusal.Code != messages.RefusedNotReady {
			s.logger.Warn("command was refused", "command", fmt.Sprintf("%T", c), "stream", c.Target(), "error", refusal)
		}
	})
}

// Trust is the rule of the moment by which stored answers count.
func (s *System) Trust() messages.Trust {
	return s.clock.Trust(s.views.TrustDurationMs(), s.views.VoidedMs())
}

// NetworkUp reports the state of the core's link to the cloud, as last set. A new
// System takes it to be up: then the cloud is asked, and its silence is local judgement.
func (s *System) NetworkUp() bool { return s.network.Load() }

// SetNetwork says that the link to the cloud came or went, and records it.
func (s *System) SetNetwork(up bool) {
	if s.network.Swap(up) != up {
		s.tell(messages.Note{Stream: messages.StreamSync, Event: &messages.NetworkChanged{Up: up}}, messages.Cause{})
		if r := s.refresher.Load(); r != nil {
			r.network(up)
		}
		if e := s.enroller.Load(); e != nil {
			e.network(up)
		}
	}
}

// Panics counts the handlers that panicked.
func (s *System) Panics() int64 { return s.panics.Load() }

// Live counts the resident entities.
func (s *System) Live() int64 { return s.router.live.Load() }

// fail ends all answers that rest on the log.
func (s *System) fail(err error) {
	s.failed.Store(true)
	s.failing.Do(func() {
		s.logger.Error("an append failed; its outcome is unknown, so nothing more is answered", "error", err)
		if s.onFail != nil {
			s.run(func() { s.onFail(err) }) // on its own: it may call Close, which waits for answers
		}
	})
}

// Close refuses new commands and waits until those under way are answered or ctx is
// done. The log must be closed after it.
func (s *System) Close(ctx context.Context) error {
	s.closing.Store(true)
	if s.under.Load() == 0 {
		s.idleOnce.Do(func() { close(s.idle) })
	}
	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		err = fmt.Errorf("close: %d commands are not answered: %w", s.under.Load(), ctx.Err())
	}
	s.endOnce.Do(func() {
		s.actors.Shutdown()
		if s.endWorkers != nil {
			s.endWorkers()
		}
	})
	return err
}
