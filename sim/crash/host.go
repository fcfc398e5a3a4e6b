package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	random "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// host is the product's running system on a node's log: entities, deciders, read models,
// put together as the daemon does it (cmd/internal/daemon), with a cloud that says what it
// is told to.
type host struct {
	n     *node
	views *projections.Views
	trust *actors.TrustClock
	sys   *actors.System
	cloud atomic.Uint32 // a messages.CloudVerdict: what the cloud says to everything
	boom  atomic.Bool   // the next handler panics
}

const brokerID = messages.BrokerID("b")

// trustMs is how long a yes of the cloud counts: a campaign is shorter.
const trustMs = int64(24 * time.Hour / time.Millisecond)

// pendingGroup is the policy's group for devices that nobody registered.
const pendingGroup = "pending"

func newHost(n *node) *host { return &host{n: n, views: projections.New(n.log)} }

func (h *host) start() error {
	var anchor actors.Anchor
	var batch []messages.Record
	for rec, err := range h.n.store.Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			return err
		}
		anchor.Fold(&rec)
		batch = append(batch, rec)
	}
	h.views.Apply(batch)
	h.views.SetTrustDurationMs(trustMs)
	h.views.SetPendingGroup(pendingGroup)
	clock, err := actors.NewSystemClock()
	if err != nil {
		return err
	}
	h.trust = actors.NewTrustClock(clock, anchor)
	h.sys, err = actors.New(actors.Config{
		Log: tapped{h.n.store, h.n}, Views: h.views, Cloud: h, Clock: h.trust, Fail: h.n.fatal, Logger: h.n.log, Random: h.random,
	})
	if err != nil {
		return err
	}
	h.views.Live(projections.Hooks{})
	err = h.command(mark(who{h: h}), "") // as the daemon does: the next start goes on from here
	if refusal, ok := errors.AsType[*messages.Refusal](err); err != nil && (!ok || refusal.Code != messages.RefusedBusy) {
		return err // Busy: the disk is full, which is no reason not to start
	}
	if h.views.HasPolicy() {
		return nil
	}
	return h.command(messages.ReplacePolicy{Document: []byte(policyText(0)), Origin: "crash"}, "")
}

func (h *host) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.sys.Close(ctx)
}

// random implements actors.Config.Random, which each handler draws a nonce from: the place
// where one that is to panic does.
func (h *host) random(b []byte) {
	if h.boom.CompareAndSwap(true, false) {
		panic(panicMark)
	}
	_, _ = rand.Read(b) // never fails
}

// tapped is the log as the host sees it: appends pass the node's traps.
type tapped struct {
	*eventlog.Store
	n *node
}

// Append implements actors.Log.
func (t tapped) Append(b eventlog.Batch, done func([]messages.Record, error)) { t.n.appendTo(b, done) }

// Ask implements actors.Cloud.
func (h *host) Ask(_ messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	verdict := messages.CloudVerdict(h.cloud.Load())
	go done(messages.CloudAnswer{Verdict: verdict, Detail: "the campaign says so"})
	return nil
}

// command has a command carried out.
func (h *host) command(c messages.Command, request string) error {
	_, err := h.ask(c, request)
	return err
}

func (h *host) ask(c messages.Command, request string) (messages.Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.sys.Do(ctx, c, messages.Cause{Request: request, Broker: brokerID})
}

// askPanicking is ask where the reply panics once it is known.
func (h *host) askPanicking(c messages.Command, request string) (messages.Reply, error) {
	replies := make(chan messages.Reply, 1)
	h.sys.Submit(context.Background(), c, messages.Cause{Request: request, Broker: brokerID}, func(r messages.Reply) {
		replies <- r
		panic(panicMark)
	})
	reply := <-replies
	if refusal, ok := reply.(*messages.Refusal); ok {
		return nil, refusal
	}
	return reply, nil
}

// do makes an event of a kind happen.
func (h *host) do(o order, arm func()) (string, error) {
	recipe, ok := recipes[o.Kind]
	if !ok {
		return "", fmt.Errorf("there is no recipe for %s", o.Kind)
	}
	w := who{h: h, n: o.N}
	if !o.Again && recipe.before != nil {
		h.sys.SetNetwork(true)
		h.cloud.Store(uint32(messages.CloudConfirmed))
		for _, c := range recipe.before(w) {
			if err := h.command(c, ""); err != nil {
				return "", fmt.Errorf("before %s: %T: %w", o.Kind, c, err)
			}
		}
	}
	h.sys.SetNetwork(!recipe.offline)
	h.cloud.Store(uint32(messages.CloudConfirmed))
	if recipe.denied {
		h.cloud.Store(uint32(messages.CloudDenied))
	}
	if h.n.cfg.Bug == bugForgetsIDs && o.Again {
		w.n += 1_000_000 // to somebody else
	}
	arm()
	c, err := recipe.command(w)
	if err != nil {
		return "", err
	}
	ask := h.ask
	switch o.Panic {
	case panicsBefore: // and not of the note that the link came or went, which goes to the same entity as this
		if err := h.command(messages.RunRefresh{}, ""); err != nil {
			return "", err
		}
		h.boom.Store(true)
	case panicsAfter:
		ask = h.askPanicking
	}
	reply, err := ask(c, o.Request)
	if s, ok := reply.(messages.SessionReady); ok {
		return sessionReply + string(s.Token), err
	}
	return fmt.Sprintf("%T", reply), err
}

// sessionReply begins a reply that hands out a token.
const sessionReply = "session "

// digest sums up what is decided by: all of it, and without what says when and in which
// place of the log, so that the same thing done twice shows and the same thing confirmed
// twice does not. Sessions are only in the first: each has a token of its own.
func (h *host) digest() (all, effects string) {
	var a, e strings.Builder
	v := h.views
	for _, thing := range v.Things() {
		d, _ := v.Device(thing)
		fmt.Fprintf(&a, "%s %q %v", thing, d.Quarantined, d.Groups)
		fmt.Fprintf(&e, "%s %q %v", thing, d.Quarantined, d.Groups)
		slices.SortFunc(d.Attachments, func(x, y projections.Attachment) int {
			return strings.Compare(string(x.Certificate), string(y.Certificate))
		})
		for _, at := range d.Attachments {
			fmt.Fprintf(&a, " %+v", at)
			fmt.Fprintf(&e, " %s %v", at.Certificate, at.Trust.Verified)
		}
		slices.SortFunc(d.Sessions, func(x, y *projections.Session) int { return int(x.OpenedSeq) - int(y.OpenedSeq) })
		for _, s := range d.Sessions {
			fmt.Fprintf(&a, " %x %s %s %d %v", s.Digest, s.Certificate, s.Broker, s.OpenedSeq, s.Dead())
		}
		if p := d.Pending; p != nil {
			fmt.Fprintf(&a, " %s %d %d", p.Certificate, p.AdmittedMs, p.Seq)
			fmt.Fprintf(&e, " %s", p.Certificate)
		}
		a.WriteByte('\n')
		e.WriteByte('\n')
	}
	for _, stream := range []messages.StreamID{messages.StreamPolicy, messages.StreamConfig} {
		d := v.Document(stream)
		fmt.Fprintf(&a, "%s %d %s\n", stream, d.Seq, d.Revision)
		fmt.Fprintf(&e, "%s %d %s\n", stream, d.Seq, d.Revision)
	}
	for i := range 400 {
		b := messages.BrokerID(fmt.Sprintf("broker-%d", i))
		if rights, said := v.BrokerRights(b); said {
			fmt.Fprintf(&a, "%s %+v\n", b, rights)
			fmt.Fprintf(&e, "%s %+v\n", b, rights)
		}
	}
	fmt.Fprintf(&a, "%d %+v\n", v.VoidedMs(), v.Counts())
	c := v.Counts()
	c.Sessions = 0
	fmt.Fprintf(&e, "%+v\n", c)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:12]) }
	return sum(a.String()), sum(e.String())
}

// authorize asks the read models about tokens, each o.N times for the time it takes.
func (h *host) authorize(o order) said {
	s := said{Op: "authorized"}
	for _, token := range o.Tokens {
		verdict := h.views.Authorize(brokerID, []byte(token), []byte("mqtt:publish"), []byte("mqtt:topic:a"), h.sys.Trust(), h.trust.NowMs())
		s.Allowed = append(s.Allowed, verdict.Err == nil && verdict.Allowed)
	}
	return s
}

// loadKinds are what devices and operators bring about all day.
var loadKinds = []messages.Kind{
	messages.KindSessionOpened, messages.KindAttachmentVerified, messages.KindSessionClosed, messages.KindCertificateVerified,
	messages.KindDeviceQuarantined, messages.KindDeviceReleased, messages.KindDeviceForgotten, messages.KindAccessDenied,
}

// load has several workers do what devices and operators do, and says what was acknowledged.
func (h *host) load(o order) {
	h.cloud.Store(uint32(messages.CloudConfirmed))
	var wg sync.WaitGroup
	for w := range max(o.N, 1) {
		wg.Go(func() {
			rng := random.New(random.NewPCG(o.Seed, uint64(w)))
			for i := 0; o.Stop == 0 || i < o.Stop/max(o.N, 1); i++ {
				who := who{h: h, n: int(o.Seed)<<24 | w<<20 | i}
				if err := h.loadOne(loadKinds[rng.IntN(len(loadKinds))], who); err != nil {
					h.n.say(said{Op: "failed", Error: err.Error()})
					if refusal, ok := errors.AsType[*messages.Refusal](err); !ok || refusal.Code != messages.RefusedBusy {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	h.n.say(said{Op: "loaded"})
}

func (h *host) loadOne(kind messages.Kind, w who) error {
	recipe := recipes[kind]
	var commands []messages.Command
	if recipe.before != nil {
		commands = recipe.before(w)
	}
	last, err := recipe.command(w)
	if err != nil {
		return err
	}
	for i, c := range append(commands, last) {
		request := fmt.Sprintf("load-%d-%d", w.n, i)
		if err := h.command(c, request); err != nil {
			return err
		}
		h.tellMine(request)
	}
	return nil
}

// probeKinds are done to a worn device to see which state its entity has.
var probeKinds = []messages.Kind{
	messages.KindDeviceReleased, messages.KindSessionOpened, messages.KindSessionClosed, messages.KindDeviceQuarantined, messages.KindDeviceReleased, messages.KindDeviceForgotten,
}

// wear has so much happen to a device that its entity keeps a snapshot.
func (h *host) wear(o order) error {
	w := who{h: h, n: o.N}
	h.cloud.Store(uint32(messages.CloudConfirmed))
	list := []messages.Command{w.verify(), w.open()}
	for i := range o.Bytes {
		switch i % 4 {
		case 0, 1:
			list = append(list, w.open())
		case 2:
			list = append(list, w.quarantine())
		case 3:
			c, err := recipes[messages.KindDeviceReleased].command(w)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
	}
	for i, c := range list {
		h.sys.SetNetwork(i < 2) // the attachment is confirmed once, at the beginning
		request := fmt.Sprintf("wear-%d-%d", o.N, i)
		if err := h.command(c, request); err != nil {
			return err
		}
		h.tellMine(request)
	}
	return nil
}

// tellMine says what was appended for a request that has been answered.
func (h *host) tellMine(request string) {
	h.n.mu.Lock()
	acks := h.n.mine[request]
	delete(h.n.mine, request)
	h.n.mu.Unlock()
	var line []byte
	for _, a := range acks {
		line = fmt.Appendf(line, "a %d %s\n", a.Seq, a.ID)
	}
	h.n.write(line)
}

// probe does something to a device that exists already, and says what came of it.
func (h *host) probe(o order) {
	o.Again = true
	h.n.do(o)
}

// Snapshot implements actors.Log, truly or not (see nodeConfig.Snapshots).
func (t tapped) Snapshot(key string) (eventlog.Snapshot, bool, error) {
	s, found, err := t.Store.Snapshot(key)
	switch t.n.cfg.Snapshots {
	case snapshotsNone:
		return eventlog.Snapshot{}, false, nil
	case snapshotsOther:
		s.Version++
	case snapshotsGarbage:
		s.Data = append([]byte{}, s.Data[:len(s.Data)*2/3]...)
	case snapshotsOld:
		return t.Store.Snapshot("old/" + key)
	case snapshotsLie:
		return t.Store.Snapshot(strings.Replace(key, "thing-1", "thing-2", 1))
	}
	return s, found, err
}

// PutSnapshot implements actors.Log, and keeps the first of each key aside.
func (t tapped) PutSnapshot(key string, s eventlog.Snapshot) error {
	if _, found, err := t.Store.Snapshot("old/" + key); err == nil && !found {
		if err := t.Store.PutSnapshot("old/"+key, s); err != nil {
			return err
		}
	}
	return t.Store.PutSnapshot(key, s)
}
