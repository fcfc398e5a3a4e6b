package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pump   = messages.ThingName("pump-7")
	valve  = messages.ThingName("valve-1")
	broker = messages.BrokerID("b1")

	patience = 10 * time.Second // for what must happen; nothing waits it out unless it fails
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// allPolicy lets every thing connect and publish to a.
const allPolicy = `{"definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"}},"policies":{"p":{
	"c":{"operations":["mqtt:connect"],"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}"]},
	"s":{"operations":["mqtt:publish"],"resources":["mqtt:topic:a"]}}}}`

// rig is the whole of the running system on a log in memory.
type rig struct {
	t       testing.TB
	clock   *actorstest.Clock
	cloud   *actorstest.Cloud
	log     *actorstest.Log
	views   *projections.Views
	trust   *TrustClock
	sys     *System
	denials *Denials
	access  *Access
	fails   atomic.Int32
	// budgetMs is the trust duration for a restart in budget mode; 0: strict.
	budgetMs int64
	closed   chan string // sessions that ended, as the brokers hear of it
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	clock := actorstest.NewClock(noon)
	r := &rig{t: t, clock: clock, cloud: actorstest.NewCloud(), trust: NewTrustClock(clock, Anchor{}), closed: make(chan string, 10_000)}
	r.views = projections.New(nil)
	r.log = actorstest.NewLog(r.views.Apply)
	r.start(change...)
	return r
}

// start runs a system on what is there.
func (r *rig) start(change ...func(*Config)) {
	cfg := Config{Log: r.log, Views: r.views, Cloud: r.cloud, Clock: r.trust, Fail: func(error) { r.fails.Add(1) }}
	for _, f := range change {
		f(&cfg)
	}
	sys, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sys = sys
	r.denials = NewDenials(sys, r.views.Known)
	r.access = NewAccess(sys, r.denials)
	r.views.Live(projections.Hooks{
		Closed: func(s *projections.Session, why messages.CloseReason, _ string) { r.closed <- why.String() },
	})
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.log.Release()
		r.cloud.Release()
		if err := sys.Close(ctx); err != nil {
			r.t.Errorf("close: %v", err)
		}
	})
}

// restart ends the process without a word and starts another on the same log.
func (r *rig) restart(change ...func(*Config)) {
	r.t.Helper()
	views := projections.New(nil)
	memory, err := r.log.Reopen(actorstest.Options(views.Apply))
	if err != nil {
		r.t.Fatal(err)
	}
	var anchor Anchor
	for rec, err := range memory.Scan(r.t.Context(), 1, 1<<62) {
		if err != nil {
			r.t.Fatal(err)
		}
		anchor.Fold(&rec)
		views.Apply([]messages.Record{rec})
	}
	var options []ClockOption
	if r.budgetMs != 0 {
		options = append(options, Budget(r.budgetMs))
	}
	r.log, r.views, r.trust = actorstest.WrapLog(memory), views, NewTrustClock(r.clock, anchor, options...)
	r.start(change...)
}

// put submits a command and hands its reply to a channel.
func (r *rig) put(c messages.Command) <-chan messages.Reply {
	return r.putCtx(context.Background(), c)
}

func (r *rig) putCtx(ctx context.Context, c messages.Command) <-chan messages.Reply {
	replies := make(chan messages.Reply, 8) // room for one too many
	r.sys.Submit(ctx, c, messages.Cause{Request: "r1", Broker: broker}, func(m messages.Reply) { replies <- m })
	return replies
}

func (r *rig) do(c messages.Command) messages.Reply {
	r.t.Helper()
	return r.reply(r.put(c))
}

func (r *rig) reply(replies <-chan messages.Reply) messages.Reply {
	r.t.Helper()
	select {
	case m := <-replies:
		return m
	case <-time.After(patience):
		r.t.Fatal("no reply")
		return nil
	}
}

// code is the refusal's code, or the type of another reply.
func code(m messages.Reply) string {
	switch m := m.(type) {
	case *messages.Refusal:
		return m.Code.String()
	case messages.Verified:
		if !m.Valid {
			return "invalid"
		}
		return "valid"
	case messages.SessionReady:
		return "session"
	case messages.Done:
		return "done"
	case messages.ConnectDenied:
		return "connect denied"
	case messages.Replaced:
		return "replaced"
	case messages.Rejected:
		return "rejected"
	case messages.Rechecked:
		if !m.Asked {
			return "not asked"
		}
		return m.Verdict.String()
	}
	return "?"
}

// until waits for a condition that other goroutines bring about.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never came true: %s", what)
		}
	}
}

// heard is the next end of a session that brokers hear of.
func (r *rig) heard() string {
	r.t.Helper()
	select {
	case why := <-r.closed:
		return why
	case <-time.After(patience):
		r.t.Fatal("no session ended")
		return ""
	}
}

// batchWith waits until an event of that kind is with the log.
func (r *rig) batchWith(kind messages.Kind) {
	r.t.Helper()
	r.until("an append of "+kind.String(), func() bool {
		for _, b := range r.log.Batches() {
			for _, d := range b.Drafts {
				if d.Kind == kind {
					return true
				}
			}
		}
		return false
	})
}

// kinds lists the kinds in a stream.
func (r *rig) kinds(stream messages.StreamID) []messages.Kind {
	r.t.Helper()
	var list []messages.Kind
	for rec, err := range r.log.Memory.Read(context.Background(), stream, 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, rec.Kind)
	}
	return list
}

// at rest says that all counts of what is under way are back at zero.
func (r *rig) atRest() {
	r.t.Helper()
	r.until("nothing is under way", func() bool {
		for i := range r.sys.inLane {
			if r.sys.inLane[i].Load() != 0 {
				return false
			}
		}
		return r.sys.under.Load() == 0
	})
	for i := range r.sys.router.shards {
		s := &r.sys.router.shards[i]
		s.mu.Lock()
		for _, sl := range s.slots {
			if n := sl.load.Load(); n != 0 {
				r.t.Errorf("%s counts %d under way", sl.stream, n)
			}
		}
		s.mu.Unlock()
	}
}

// identity is a device's certificate.
type identity struct {
	der []byte
	id  messages.CertificateID
}

var identities = struct {
	sync.Mutex
	key  *ecdsa.PrivateKey
	made map[string]identity
}{made: map[string]identity{}}

// certificate makes a certificate for name, the same each time, valid for a year from
// the day before noon.
func certificate(t testing.TB, name string) identity {
	return certificateFor(t, name, noon.Add(-24*time.Hour), noon.Add(365*24*time.Hour))
}

func certificateFor(t testing.TB, name string, from, to time.Time) identity {
	t.Helper()
	identities.Lock()
	defer identities.Unlock()
	key := name + from.String() + to.String()
	if c, ok := identities.made[key]; ok {
		return c
	}
	if identities.key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		identities.key = k
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(identities.made) + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, identities.key.Public(), identities.key)
	if err != nil {
		t.Fatal(err)
	}
	c := identity{der: der, id: messages.CertificateIDOf(der)}
	identities.made[key] = c
	return c
}

// policy puts the policy that allows all in force.
func (r *rig) policy() {
	r.t.Helper()
	if got := code(r.do(messages.ReplacePolicy{Document: []byte(allPolicy), Origin: "test"})); got != "replaced" {
		r.t.Fatalf("policy: %s", got)
	}
}

// join registers a thing with a certificate in the cloud and lets it connect.
func (r *rig) join(thing messages.ThingName) (identity, messages.Token) {
	r.t.Helper()
	c := certificate(r.t, string(thing))
	r.cloud.Register(c.id, thing)
	got, token := r.connect(thing, c)
	if got != "ok" {
		r.t.Fatalf("%s cannot connect: %s", thing, got)
	}
	return c, token
}

// connect authenticates as a broker does.
func (r *rig) connect(thing messages.ThingName, c identity) (string, messages.Token) {
	r.t.Helper()
	type answer struct {
		s   messages.SessionReady
		ok  bool
		err error
	}
	answers := make(chan answer, 2)
	r.access.Authenticate(context.Background(), messages.Cause{Request: "r1", Broker: broker}, string(thing), c.der,
		func(s messages.SessionReady, ok bool, err error) { answers <- answer{s, ok, err} })
	select {
	case a := <-answers:
		switch {
		case a.ok != (a.err == nil && a.s.Token != ""):
			r.t.Fatalf("answer %+v", a)
		case a.err != nil:
			return code(a.err), ""
		case !a.ok:
			return "connect denied", ""
		}
		return "ok", a.s.Token
	case <-time.After(patience):
		r.t.Fatal("no answer")
		return "", ""
	}
}

func (r *rig) allowed(token messages.Token) bool {
	trust := r.sys.Trust()
	return r.views.Authorize(broker, []byte(string(token)), []byte("mqtt:publish"), []byte("mqtt:topic:a"), trust, r.trust.NowMs()).Allowed
}

// plant lets a decider of the test run streams instead of their own.
func plant(decide func(stream messages.StreamID, in messages.Input) (messages.Decision, error), streams ...messages.StreamID) family {
	return family{
		fresh: func() any { return nil },
		decide: func(stream messages.StreamID, _ any, _ device.Facts, in messages.Input) (messages.Decision, error) {
			return decide(stream, in)
		},
		evolve: func(state any, _ messages.Event, _ messages.Instant) any { return state },
	}
}

func (r *rig) override(stream messages.StreamID, f family) {
	r.sys.override = func(s messages.StreamID) (family, bool) { return f, s == stream }
}
