package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Daemon is a running core. Close ends it.
type Daemon struct {
	cfg    Config
	logger *slog.Logger
	epoch  string
	clock  *actors.SystemClock

	keys    *keys.Store
	log     eventlog.Log
	logKey  note.Verifier // of its checkpoints
	fold    *folded       // what is made of the log; its views are views
	kept    atomic.Uint64 // the record of the last snapshot; 0: there is none that was used or written
	views   *projections.Views
	trust   *actors.TrustClock
	tlsTime func() time.Time // by which the cloud's certificate is judged
	cloud   actors.Cloud
	sys     *actors.System
	denials *actors.Denials
	keeper  *actors.Keeper
	refresh *actors.Refresher // nil: there is nobody to list the associated things

	enroller      *actors.Enroller
	registrar     *registrar.Registrar // nil: nobody is registered in the cloud
	registrations *registrar.Follower  // of what registers itself there; nil: it is listed alone

	authority   atomic.Pointer[actors.Authority]
	certificate *actors.Held          // the embedded broker's; nil: there is no such broker
	uploads     *cloudsync.Uploader   // of the authorities; nil: nobody tells the cloud
	follower    *shadow.Follower      // of the core's addresses in the cloud; nil: they are not followed
	credentials *tokenexchange.Server // nil: no local program gets credentials
	server      *brokers.Server
	conn        *brokers.Conn
	users       *users
	pusher      atomic.Pointer[brokers.Pusher]
	courier     *brokers.Courier
	admitting   sync.Mutex // held while an operator adds or removes a broker
	desk        *brokers.Desk
	mqtt        *mochi.Broker
	client      *client.Client

	answering atomic.Pointer[brokers.Desk] // the desk, once it may answer
	failed    atomic.Bool                  // an append failed

	documents documents
	measures  measures

	httpAddr string

	closers []func() // in the order of starting; run backwards
}

// Start brings a daemon up and returns when it answers. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	if cfg.Dir == "" || cfg.Logger == nil {
		return nil, errors.New("start: Config needs Dir and Logger")
	}
	d := &Daemon{cfg: cfg, logger: cfg.Logger, epoch: newEpoch()}
	if err := d.start(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// step is one of the steps of the start.
type step struct {
	name string
	run  func(context.Context) error
}

// steps are in the order of starting: what decides is up before anyone can ask.
func (d *Daemon) steps() []step {
	return []step{
		{"prepare directory", d.openDir},
		{"open log", d.takeUpLog},
		{"start core", d.openCore},
		{"take configuration", d.takeDocuments},
		{"serve credentials", d.serveCredentials},
		{"start authority", d.startAuthority},
		{"follow addresses", d.followAddresses},
		{"start NATS", d.startNATS},
		{"start MQTT broker", d.startMQTT},
		{"count", d.startMetrics},
		{"start admin service", d.startAdmin},
		{"publish events", d.publishEvents},
		{"start status page", d.startHTTP},
		{"watch files", d.watchFiles},
		{"write run file", d.writeRun},
		{"answer", d.answer},
		{"look back", d.lookBack},
		{"embedded MQTT broker", d.hear},
	}
}

func (d *Daemon) start(ctx context.Context) error {
	for _, step := range d.steps() {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// answer opens the desk, unless the log has failed already.
func (d *Daemon) answer(context.Context) error {
	d.desk.SetReady(true)
	d.answering.Store(d.desk)
	if d.failed.Load() {
		d.desk.SetReady(false)
	}
	return nil
}

// fatal hears that an append failed. Its outcome is unknown, so nobody is answered any
// more, not even from memory, while the process ends.
func (d *Daemon) fatal(err error) {
	d.failed.Store(true)
	if desk := d.answering.Load(); desk != nil {
		desk.SetReady(false)
	}
	if d.cfg.Fatal == nil {
		panic(err)
	}
	d.cfg.Fatal(err)
}

// onClose adds something to be undone by Close.
func (d *Daemon) onClose(f func()) { d.closers = append(d.closers, f) }

// Close ends the daemon in the reverse order of its start: nobody new is let in, what
// was accepted is answered, the log is made clean.
func (d *Daemon) Close() {
	for _, f := range slices.Backward(d.closers) {
		f()
	}
	d.closers = nil
}

func (d *Daemon) openDir(context.Context) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		return err
	}
	clock, err := actors.NewSystemClock()
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	d.clock = clock
	d.keys, err = keys.Open(filepath.Join(d.cfg.Dir, "keys"), keys.Options{Passphrase: d.cfg.Passphrase})
	return err
}

// takeUpLog opens the log, folds it, and goes on from where its clock stood.
func (d *Daemon) takeUpLog(context.Context) error {
	signer, verifier, err := d.keys.LogSigner()
	if err != nil {
		return err
	}
	d.logKey = verifier
	if err := d.openLog(signer, verifier); err != nil {
		return err
	}
	if d.cfg.Trust > 0 {
		d.views.SetTrustDurationMs(d.cfg.Trust.Milliseconds())
	}
	d.startClock(d.fold.anchor)
	return nil
}

// openCore starts the entities and what looks after them.
func (d *Daemon) openCore(ctx context.Context) (err error) {
	if err := d.startCloud(); err != nil {
		return err
	}
	d.sys, err = actors.New(actors.Config{
		Log: d.log, Views: d.views, Cloud: d.cloud, Clock: d.trust, Fail: d.fatal, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.denials = actors.NewDenials(d.sys, d.views.Known)
	d.views.SetPendingGroup(d.cfg.Registration.group())
	d.views.Live(d.hooks())
	if c, ok := d.cloud.(*cloudsync.Cloud); ok {
		c.OnNetworkChange(d.sys.SetNetwork)
		c.OnProbe(d.sys.Probing)
		settling, cancel := context.WithTimeout(ctx, settleTimeout)
		_ = c.Settle(settling) // a cloud that has not answered by then counts as away
		cancel()
		d.sys.SetNetwork(c.NetworkUp())
	} else {
		d.sys.SetNetwork(false)
	}
	d.onClose(d.stopCore)
	d.fetchCredentials()
	d.keeper = actors.NewKeeper(d.sys, d.views, d.clock, d.cfg.Recheck, d.logger)
	d.keeper.Start()
	d.onClose(d.keeper.Close)
	if err := d.startRegistrar(); err != nil {
		return fmt.Errorf("registrar: %w", err)
	}
	d.startEnroller()
	if d.cfg.Associations != nil {
		d.refresh = actors.NewRefresher(d.sys, d.cfg.Associations, d.views, d.clock, d.logger)
		d.refresh.Start()
		d.onClose(d.refresh.Close)
	}
	started := messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Started{Version: Version, Epoch: d.epoch, Mode: d.cfg.Mode}}
	if _, err = d.sys.Do(ctx, started, messages.Cause{}); isBusy(err) {
		d.logger.Warn("the start is not on record: the disk is nearly full; going on with what was in force", "error", err)
		return nil
	}
	return err
}

// isBusy reports whether the log, or the host, had no room at the moment: on a disk that is
// nearly full only what restricts is taken.
func isBusy(err error) bool {
	refusal, ok := errors.AsType[*messages.Refusal](err)
	return ok && refusal.Code == messages.RefusedBusy
}

// settleTimeout is how long the start waits for the first word from the cloud.
const settleTimeout = 3 * time.Second

// closeTimeout is how long an orderly end may take (reliability spec 2.3, E8).
const closeTimeout = 5 * time.Second

func (d *Daemon) stopCore() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, c := range []messages.Command{
		messages.MarkClock{Mark: d.trust.Mark()},
		messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Stopped{Epoch: d.epoch, Reason: "asked to stop"}},
	} {
		if _, err := d.sys.Do(ctx, c, messages.Cause{}); err != nil {
			d.logger.Warn("end not recorded", "error", err)
		}
	}
	if err := d.sys.Close(ctx); err != nil {
		d.logger.Warn("requests left unanswered", "error", err)
	}
}

func (d *Daemon) logClose() {
	if err := d.log.Close(); err != nil {
		d.logger.Error("event log was not closed cleanly; the next start repairs it", "error", err)
	}
}

func (d *Daemon) startCloud() error {
	if d.cfg.Cloud == nil {
		d.cloud = noCloud{}
		return nil
	}
	cfg := *d.cfg.Cloud
	performance := d.views.Section().Performance
	cfg.DataPlane.Now = d.tlsTime
	if cfg.Queue.Now == nil {
		cfg.Queue.Now = time.Now // it measures waiting, which no jump of the wall clock changes
	}
	cfg.Queue.Size, cfg.Queue.Workers = performance.CloudRequestQueueSize, performance.MaxConcurrentCloudRequests
	c, err := cloudsync.New(cfg)
	if err != nil {
		return fmt.Errorf("cloud: %w", err)
	}
	d.cloud = c
	d.onClose(c.Close)
	return nil
}

// noCloud answers nothing: only what is stored counts.
type noCloud struct{}

// Ask implements actors.Cloud.
func (noCloud) Ask(_ messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	done(messages.CloudAnswer{Detail: "no cloud is configured"})
	return nil
}

// hooks tell brokers, and the log, what the read models notice.
func (d *Daemon) hooks() projections.Hooks {
	return projections.Hooks{
		Closed: func(s *projections.Session, reason messages.CloseReason, detail string) {
			if p := d.pusher.Load(); p != nil && reason != messages.CloseReason_CLOSE_BY_BROKER {
				p.SessionClosed(s.Broker, brokers.Closed{Token: s.Digest, Thing: s.Thing, CertificateID: s.Certificate, Reason: closeText(reason, detail)})
			}
		},
		Evict: func(s *projections.Session) {
			d.sys.Submit(context.Background(), messages.CloseSession{
				Thing: s.Thing, Component: s.Component, Session: s.Digest, Reason: messages.CloseReason_CLOSE_EVICTED,
				Detail: "more sessions than performance.maxActiveAuthTokens",
			}, messages.Cause{}, func(messages.Reply) {})
		},
		PolicyChanged: func(seq uint64, revision string) {
			d.logger.Info("policy in force", "policy_revision", revision, "seq", seq)
			if p := d.pusher.Load(); p != nil {
				p.PolicyChanged(seq)
			}
		},
		Config: d.tune,
	}
}

// tune applies what of a new configuration is not read at each use.
func (d *Daemon) tune(s config.Section) {
	d.tuneMetrics()
	if a := d.authority.Load(); a != nil {
		a.Wake()
	}
	if c, ok := d.cloud.(interface{ Tune(queueSize, workers int) }); ok {
		c.Tune(s.Performance.CloudRequestQueueSize, s.Performance.MaxConcurrentCloudRequests)
	}
}

// MQTTAddr is where the embedded broker listens; "" if there is none.
func (d *Daemon) MQTTAddr() string {
	if d.mqtt == nil {
		return ""
	}
	return d.mqtt.Addr().String()
}

// NATSURL is where brokers connect; "" if only in process.
func (d *Daemon) NATSURL() string {
	if d.server == nil {
		return d.cfg.NATS.URL
	}
	return d.server.URL()
}

// closeText says in words why a session ended, for brokers and their logs.
func closeText(reason messages.CloseReason, detail string) string {
	word := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(reason.String(), "CLOSE_"), "_", " "))
	if detail == "" {
		return word
	}
	return word + ": " + detail
}
