package brokers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// DeskConfig is what a desk needs to know. Conn, Gate and Log are required.
type DeskConfig struct {
	// Conn is the daemon's connection: OnNATS of what Connect or Server.DaemonConn made. The
	// desk subscribes on it and does not close it.
	Conn Bus
	Gate Gate
	Log  *slog.Logger

	// Courier answers certificates requests; nil: they are a Service error.
	Courier *Courier

	// Permit says whether a broker may make a kind of request; nil permits all. It is
	// asked before the request is read (client-device-auth spec 7.2: "permission is
	// checked before arguments").
	Permit func(messages.BrokerID, authapi.Op) bool

	// Version is the daemon's semantic version, as `nats service info` shows it;
	// default 0.0.0.
	Version string
	// Instance names this run of the daemon in discovery and in the requests it names;
	// letters and digits. Required.
	Instance string

	// SessionLimit is how many verify, token and authenticate requests may be waiting
	// for an answer (default 2,048), CloseLimit how many close requests (default 4,096),
	// ReadLimit how many authorize and permissions requests may be waiting in memory
	// (default 8,192),
	// CertificateLimit how many certificates requests (default 512, four of one broker).
	// Beyond a limit the answer is Busy.
	SessionLimit, CloseLimit, ReadLimit, CertificateLimit int
	// Deadline is when a request that is still unanswered is answered Busy; default 5 s.
	Deadline time.Duration
	// Patience is how long a verify, token or authenticate request may wait for a worker:
	// then it is answered Busy and not begun, which would be for nothing if its broker gave
	// up meanwhile (client: after 2 s). Default 500 ms.
	Patience time.Duration
	// RetryAfter is what a Busy answer advises at least; default 100 ms.
	RetryAfter time.Duration
	Clock      Clock // default SystemClock
	// Schedule runs f on its own, after it has returned: for the simulator. f does not wait.
	// Default: workers of each lane.
	Schedule func(f func())
}

func (c *DeskConfig) complete() error {
	if c.Conn == nil || c.Gate == nil || c.Log == nil {
		return errors.New("desk: Conn, Gate and Log are required")
	}
	if _, err := messages.ParseBrokerID(c.Instance); err != nil {
		return fmt.Errorf("desk: instance: %w", err)
	}
	if c.Permit == nil {
		c.Permit = func(messages.BrokerID, authapi.Op) bool { return true }
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	for p, otherwise := range map[*int]int{&c.SessionLimit: 2048, &c.CloseLimit: 4096, &c.ReadLimit: 8192, &c.CertificateLimit: 512} {
		if *p <= 0 {
			*p = otherwise
		}
	}
	if c.Deadline <= 0 {
		c.Deadline = 5 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = 500 * time.Millisecond
	}
	if c.RetryAfter <= 0 {
		c.RetryAfter = 100 * time.Millisecond
	}
	if c.Clock == nil {
		c.Clock = SystemClock{}
	}
	return nil
}

// state is where a desk is in its life.
type state int32

const (
	notReady state = iota
	ready
	stopping
)

// Desk answers the requests of brokers. It holds no decision of its own: it reads a
// request, asks the gate, and writes the answer, within bounds.
type Desk struct {
	cfg      DeskConfig
	state    atomic.Int32
	inflight atomic.Int64 // admitted requests of both lanes, plus inline ones
	idle     chan struct{}
	closed   atomic.Bool   // Close has returned: what is still unanswered stays so
	names    atomic.Uint64 // counts requests, to name them
	started  time.Time

	ops      map[authapi.Op]*counters
	failures atomic.Uint64 // requests that ended in a Service error
	stray    atomic.Uint64 // messages whose subject named no broker or operation
	closing  *lane
	sessions *lane
	couriers *lane
	subs     []func() error // each ends one subscription
}

// OpenDesk subscribes and answers NotReady until SetReady. Close ends it.
func OpenDesk(cfg DeskConfig) (*Desk, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	d := &Desk{cfg: cfg, ops: map[authapi.Op]*counters{}, idle: make(chan struct{}, 1), started: cfg.Clock.Now().UTC()}
	for _, op := range authapi.Ops() {
		d.ops[op] = &counters{op: op}
	}
	workers := max(2, runtime.GOMAXPROCS(0))
	if cfg.Schedule != nil {
		workers = 0
	}
	d.closing = newLane(cfg.CloseLimit, workers, d.handle, cfg.Schedule)
	d.sessions = newLane(cfg.SessionLimit, workers, d.handle, cfg.Schedule)
	d.couriers = newLane(cfg.CertificateLimit, min(2, workers), d.handle, cfg.Schedule)
	d.couriers.each = 4
	if err := d.subscribe(); err != nil {
		err = fmt.Errorf("desk: %w", err)
		return nil, errors.Join(err, d.Close(context.Background()))
	}
	return d, nil
}

// subscribe makes one subscription per operation: nats.go runs the callbacks of each on
// a goroutine of its own, so that no operation waits behind another.
func (d *Desk) subscribe() error {
	handlers := map[authapi.Op]nats.MsgHandler{
		authapi.OpAuthorize:    d.authorizer(),
		authapi.OpPermissions:  d.inline(authapi.OpPermissions, d.permissions),
		authapi.OpClose:        d.queued(authapi.OpClose, d.closing, d.close),
		authapi.OpVerify:       d.queued(authapi.OpVerify, d.sessions, d.verify),
		authapi.OpToken:        d.queued(authapi.OpToken, d.sessions, d.token),
		authapi.OpAuthenticate: d.queued(authapi.OpAuthenticate, d.sessions, d.authenticate),
		authapi.OpCertificates: d.queued(authapi.OpCertificates, d.couriers, d.certificates),
	}
	// Far more than may wait, so that the desk sees the excess and answers Busy rather than
	// have the library drop it (reliability spec C5).
	room := 8 * max(d.cfg.ReadLimit, d.cfg.SessionLimit, d.cfg.CloseLimit)
	for _, op := range authapi.Ops() {
		stop, err := d.cfg.Conn.Subscribe(authapi.AllBrokers(op), queueGroup, room, handlers[op])
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", authapi.AllBrokers(op), err)
		}
		d.subs = append(d.subs, stop)
	}
	if err := d.subscribeDiscovery(); err != nil {
		return err
	}
	if err := d.cfg.Conn.Flush(context.Background(), d.cfg.Deadline); err != nil {
		return fmt.Errorf("flush subscriptions: %w", err)
	}
	return nil
}

// SetReady says whether requests are answered (true) or refused with NotReady. Without
// effect once the desk is closing.
func (d *Desk) SetReady(yes bool) {
	from, to := notReady, ready
	if !yes {
		from, to = ready, notReady
	}
	d.state.CompareAndSwap(int32(from), int32(to))
}

// Close refuses what comes from now on, waits until what was taken in is answered, at
// most until ctx ends or Deadline passes, and unsubscribes. It returns an error if
// requests were left unanswered. It does not wait if Waiting is 0.
func (d *Desk) Close(ctx context.Context) error {
	if state(d.state.Swap(int32(stopping))) == stopping {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.cfg.Clock.AfterFunc(d.cfg.Deadline, cancel)()
	var errs []error
	for d.inflight.Load() > 0 {
		select {
		case <-d.idle:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("close desk: %d requests unanswered: %w", d.inflight.Load(), ctx.Err()))
		}
		if ctx.Err() != nil {
			break
		}
	}
	for _, stop := range d.subs {
		if err := stop(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			errs = append(errs, fmt.Errorf("close desk: %w", err))
		}
	}
	if err := d.cfg.Conn.Flush(ctx, d.cfg.Deadline); err != nil && ctx.Err() == nil {
		errs = append(errs, fmt.Errorf("close desk: flush: %w", err))
	}
	d.closing.stop()
	d.sessions.stop()
	d.couriers.stop()
	d.closed.Store(true)
	return errors.Join(errs...)
}

// Waiting is how many requests are taken in and not answered.
func (d *Desk) Waiting() int { return int(d.inflight.Load()) }

// Counts returns the tally of every operation, in the order of authapi.Ops.
func (d *Desk) Counts() []OpCounts {
	var all []OpCounts
	for _, op := range authapi.Ops() {
		all = append(all, d.ops[op].snapshot())
		if op == authapi.OpCertificates && d.cfg.Courier != nil {
			counts := d.cfg.Courier.Counts()
			all[len(all)-1].Certificates = &counts
		}
	}
	return all
}

// enter counts a request in, unless the desk is not open for it.
func (d *Desk) enter() *messages.Refusal {
	d.inflight.Add(1) // before the state is read, so that Close sees either the count or its own mark
	if state(d.state.Load()) == ready {
		return nil
	}
	d.leave()
	return messages.Refuse(messages.RefusedNotReady, "the desk is not open")
}

func (d *Desk) leave() {
	if d.inflight.Add(-1) == 0 && state(d.state.Load()) == stopping {
		select {
		case d.idle <- struct{}{}:
		default:
		}
	}
}

// caller checks where a message came from. On false there is nobody to answer.
func (d *Desk) caller(m *nats.Msg, c *counters) (messages.BrokerID, bool) {
	broker, op, err := authapi.ParseSubject(m.Subject)
	if err != nil || op != c.op {
		d.sampled(d.stray.Add(1), "request on a subject of no broker", "subject", m.Subject)
		return "", false
	}
	if err := authapi.CheckReply(broker, m.Reply); err != nil {
		d.sampled(c.dropped.Add(1), "request dropped: it asks for a reply outside the broker's inbox", "broker", broker, "op", c.op, "error", err)
		return "", false
	}
	return broker, true
}

// sampled logs the first and then every thousandth occurrence: strangers must not fill
// the disk through the log either.
func (d *Desk) sampled(n uint64, text string, args ...any) {
	if n%1000 == 1 {
		d.cfg.Log.Warn(text, append(args, "count", n)...)
	}
}

// recovered turns a panic into a Service refusal.
func (d *Desk) recovered(c *counters, p any) *messages.Refusal {
	c.panics.Add(1)
	d.cfg.Log.Error("panic in a request", "op", c.op, "panic", p, "stack", string(debug.Stack()))
	return messages.Refuse(messages.RefusedService, "panic: %v", p)
}
