package load

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// gateWith is a gate some of whose answers are bent.
type gateWith struct {
	brokers.Gate
	authorize    func(next func() (brokers.Verdict, error), resource string) (brokers.Verdict, error)
	authenticate func(next func(reply func(brokers.Grant, error)), clientID string, reply func(brokers.Grant, error))
}

func (g *gateWith) Authorize(b messages.BrokerID, token, operation, resource []byte) (brokers.Verdict, error) {
	next := func() (brokers.Verdict, error) { return g.Gate.Authorize(b, token, operation, resource) }
	if g.authorize == nil {
		return next()
	}
	return g.authorize(next, string(resource))
}

func (g *gateWith) Authenticate(c brokers.Caller, clientID string, der []byte, reply func(brokers.Grant, error)) {
	next := func(reply func(brokers.Grant, error)) { g.Gate.Authenticate(c, clientID, der, reply) }
	if g.authenticate == nil {
		next(reply)
		return
	}
	g.authenticate(next, clientID, reply)
}

// TestAStallShowsInThePercentiles: a server that stands still for a second makes all wait
// who came meanwhile. A closed loop would have counted one slow request.
func TestAStallShowsInThePercentiles(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	stall := &gateWith{authorize: func(next func() (brokers.Verdict, error), _ string) (brokers.Verdict, error) {
		if asked.Add(1) == 300 {
			time.Sleep(time.Second) // the desk reads authorizations one after the other
		}
		return next()
	}}
	r := newRig(t, rigConfig{devices: 10, wrap: func(g brokers.Gate) brokers.Gate { stall.Gate = g; return stall }})
	out := r.play(mixOf(t, "{devices: 10, brokers: 1, arrivals: constant, timeout: 10s, operations: {publish: 1}, load: [{for: 4s, rate: 200}]}"))
	right(t, out)
	if !out.Valid {
		t.Errorf("invalid: %q", out.Invalid)
	}
	p := out.operation(Publish).Latency
	// 200 of 800 came during the stall: a quarter waited, the first of them a second.
	if p.MaxMs < 950 || p.P99Ms < 850 || p.P90Ms < 400 {
		t.Errorf("a stall of 1 s among 4: p90 %.0f ms, p99 %.0f ms, max %.0f ms", p.P90Ms, p.P99Ms, p.MaxMs)
	}
}

// lazy is a driver that answers at most so many requests a second, in their order.
type lazy struct {
	queue chan func()
	quit  chan struct{}
	done  sync.WaitGroup
}

func newLazy(perSecond int, patience time.Duration) *lazy {
	l := &lazy{queue: make(chan func(), 1<<20), quit: make(chan struct{})}
	l.done.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-ticker.C:
			}
			for range perSecond / 100 {
				select {
				case f := <-l.queue:
					f()
				default:
				}
			}
		}
	})
	return l
}

func (l *lazy) Ask(q Question, done func(Answer)) {
	sent := time.Now()
	l.queue <- func() {
		a := Answer{Outcome: Allowed, At: time.Now()}
		if a.At.Sub(sent) > 500*time.Millisecond {
			a.Outcome = TimedOut
		}
		if q.Op == Connect {
			a.Outcome, a.Session = Allowed, &Session{Key: string(q.Device.Thing)}
		}
		done(a)
	}
}
func (l *lazy) Listen(func(key, reason string)) {}
func (l *lazy) Drop(*Session)                   {}
func (l *lazy) Stale() time.Duration            { return 0 }
func (l *lazy) Can(Op) bool                     { return true }
func (l *lazy) Brokers() int                    { return 1 }
func (l *lazy) Close()                          { close(l.quit); l.done.Wait() }

// TestOverloadEndsInTimeAndCountsWhatWasNotSent: ten times what the other side can do.
func TestOverloadEndsInTimeAndCountsWhatWasNotSent(t *testing.T) {
	t.Parallel()
	driver := newLazy(200, 500*time.Millisecond)
	defer driver.Close()
	fleet, err := makeStrangers(10)
	must(t, err)
	m := mixOf(t, "{devices: 10, denied: 0%, inFlight: 100, timeout: 500ms, arrivals: constant, operations: {publish: 1}, load: [{for: 2s, rate: 2000}]}")
	begun := time.Now()
	out, err := Run(t.Context(), Options{Mix: m, Fleet: fleet, Driver: driver})
	must(t, err)
	right(t, out)
	p := out.operation(Publish)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if p.Offered != 3999 { // one each 0.5 ms, the first 0.5 ms after the beginning
		t.Errorf("%d were due, want 3,999", p.Offered)
	}
	if p.Outcomes["unsent"] < 2500 || out.InFlightMost != 100 || p.Latency.P50Ms < 490 {
		t.Errorf("%v, at most %d waiting, p50 %.0f ms", p.Outcomes, out.InFlightMost, p.Latency.P50Ms)
	}
	if out.DecidedPer > out.OfferedPer/4 {
		t.Errorf("%.0f a second were decided of %.0f", out.DecidedPer, out.OfferedPer)
	}
}

func TestWrongAnswersAreFound(t *testing.T) {
	t.Parallel()
	const mix = "{devices: 20, brokers: 2, denied: 50%, away: 50ms, revokedFor: 300ms, operations: {publish: 20, permissions: 5, churn: 5, imposter: 5, stranger: 5, revoke: 2}, load: [{for: 2s, rate: 200}]}"
	for name, c := range map[string]struct {
		gate           gateWith
		allows, denies bool
		example        string
	}{
		"an allow too many": {gate: gateWith{authorize: func(next func() (brokers.Verdict, error), resource string) (brokers.Verdict, error) {
			v, err := next()
			v.Allowed = v.Allowed || strings.HasPrefix(resource, "mqtt:topic:load/sensor-000")
			return v, err
		}}, allows: true, example: "/denied was allowed"},
		"a deny too many": {gate: gateWith{authorize: func(next func() (brokers.Verdict, error), resource string) (brokers.Verdict, error) {
			v, err := next()
			v.Allowed = v.Allowed && !strings.HasPrefix(resource, "mqtt:topic:sensors/sensor-000")
			return v, err
		}}, denies: true, example: "/load was denied"},
		"an imposter is let in": {gate: gateWith{authenticate: func(next func(func(brokers.Grant, error)), clientID string, reply func(brokers.Grant, error)) {
			next(func(g brokers.Grant, err error) {
				if err != nil {
					g, err = brokers.Grant{ConnectAuthorized: true, Token: "gh1_planted", Thing: messages.ThingName(clientID)}, nil
				}
				reply(g, err)
			})
		}}, allows: true, example: "connecting as sensor-"},
		"sessions are forgotten": {gate: gateWith{authorize: func(next func() (brokers.Verdict, error), resource string) (brokers.Verdict, error) {
			if strings.HasPrefix(resource, "mqtt:topic:sensors/sensor-000") {
				return brokers.Verdict{}, messages.Refuse(messages.RefusedInvalidToken, "planted")
			}
			return next()
		}}, denies: true, example: "its session was unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigConfig{devices: 20, brokers: 2, wrap: func(g brokers.Gate) brokers.Gate { c.gate.Gate = g; return &c.gate }})
			out := r.play(mixOf(t, mix))
			if (out.WrongAllows > 0) != c.allows || (out.WrongDenies > 0) != c.denies {
				t.Errorf("%d wrong allows, %d wrong denies: %+v", out.WrongAllows, out.WrongDenies, out.Examples)
			}
			found := false
			for _, e := range out.Examples {
				found = found || strings.Contains(e.What, c.example)
			}
			if !found {
				t.Errorf("%+v", out.Examples)
			}
			if v := out.Verdict(); !strings.Contains(v, "must be") {
				t.Error(v)
			}
		})
	}
}

// TestEvictedSessionsAreNoWrongDenies: fewer sessions than devices are allowed at once, so
// that sessions end all the time.
func TestEvictedSessionsAreNoWrongDenies(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 40, brokers: 2, section: `{"security": {"clientDeviceTrustDurationMinutes": 60}, "performance": {"maxActiveAuthTokens": 10}}`})
	m := mixOf(t, "{devices: 40, brokers: 2, operations: {publish: 3, connect: 1}, load: [{for: 2s, rate: 200}]}")
	out := r.play(m)
	if out.Wrong() > 0 || out.Ended["CLOSE_EVICTED"] < 20 {
		t.Errorf("%d wrong (%+v), ended: %v", out.Wrong(), out.Examples, out.Ended)
	}
}

func TestStormIsOverWhenAllAreIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 400, brokers: 4, desk: func(c *brokers.DeskConfig) { c.SessionLimit = 20 }})
	m := mixOf(t, "{devices: 400, brokers: 4, connected: 100%, operations: {publish: 1}, load: [{for: 500ms, rate: 100}, {for: 6s, rate: 100, storm: 100%, within: 1ms}]}")
	out := r.play(m)
	right(t, out)
	if len(out.Storms) != 1 {
		t.Fatalf("storms: %+v", out.Storms)
	}
	s := out.Storms[0]
	if s.Devices < 390 || s.In != s.Devices || s.AllIn == nil || *s.AllIn <= 0 || *s.AllIn > 6 || s.Tries < int64(s.Devices) || s.Denied > 0 {
		t.Errorf("%+v", s)
	}
	if s.Busy == 0 {
		t.Error("with 20 places nobody was told to come again")
	}
	if b := out.operation(Back); b.Outcomes["allowed"] != int64(s.Devices) {
		t.Errorf("back: %v", b.Outcomes)
	}
}

func TestOverMQTT(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 30, mqtt: true})
	driver, err := NewMQTT(MQTTConfig{Address: r.mqtt, Roots: r.roots, Timeout: 5 * time.Second})
	must(t, err)
	defer driver.Close()
	m := mixOf(t, `{devices: 30, brokers: 1, denied: 20%, away: 200ms, revokedFor: 300ms, timeout: 5s,
		operations: {publish: 60, subscribe: 10, churn: 10, stranger: 5, imposter: 5, revoke: 3}, load: [{for: 2s, rate: 80}, {for: 2s, rate: 80, storm: 50%}]}`)
	out, err := Run(t.Context(), Options{Mix: m, Fleet: r.fleet, Driver: driver, Operator: r})
	must(t, err)
	right(t, out)
	for _, op := range []Op{Publish, Subscribe, Connect, Disconnect, Stranger, Imposter, Revoke, Felt} {
		if o := out.operation(op); o.Outcomes["allowed"]+o.Outcomes["denied"] == 0 {
			t.Errorf("%s: %v", op, o.Outcomes)
		}
	}
	if s := out.Storms; len(s) != 1 || s[0].In != s[0].Devices {
		t.Errorf("storms: %+v", s)
	}
	m.Operations.Verify = 1
	if _, err := Run(t.Context(), Options{Mix: m, Fleet: r.fleet, Driver: driver, Operator: r}); err == nil || !strings.Contains(err.Error(), "verify cannot be asked over MQTT") {
		t.Error(err)
	}
}

func TestWhatCannotBegin(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 3})
	driver := r.nats(time.Second)
	run := func(doc string, fleet []*Device, operator Operator) error {
		_, err := Run(t.Context(), Options{Mix: mixOf(t, doc), Fleet: fleet, Driver: driver, Operator: operator})
		return err
	}
	strangers, err := makeStrangers(2)
	must(t, err)
	for name, c := range map[string]struct {
		doc   string
		fleet []*Device
		want  string
	}{
		"too few devices":      {"{devices: 4, load: [{for: 1s}]}", r.fleet, "the fleet has 3 devices, the mix wants 4"},
		"nobody may revoke":    {"{devices: 3, operations: {revoke: 1}, load: [{for: 1s, rate: 1}]}", r.fleet, "an operator's credentials"},
		"strangers as a fleet": {"{devices: 2, load: [{for: 1s}]}", strangers, "is denied: is it registered in the cloud"},
	} {
		if err := run(c.doc, c.fleet, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.desk.SetReady(false)
	if err := run("{devices: 2, prepare: 1s, load: [{for: 1s}]}", r.fleet, nil); err == nil || !strings.Contains(err.Error(), "after 1s 0 of 2 devices are connected; the last answer was unavailable") {
		t.Error(err)
	}
}

func TestResultIsWhatItsSchemaSays(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 10})
	m := mixOf(t, "{name: 'a <b> & c', devices: 10, brokers: 1, load: [{for: 1s, rate: 100}, {name: storm, for: 1s, storm: 50%}]}")
	out := r.play(m)
	doc, err := json.Marshal(out)
	must(t, err)
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	must(t, err)
	if err := compiled(t, ResultSchema()).Validate(v); err != nil {
		t.Error(err)
	}
	var text, page bytes.Buffer
	must(t, out.WriteText(&text))
	must(t, out.WriteHTML(&page))
	for _, want := range []string{"No answer was wrong", "publish", "storm at 1 s: 5 devices; all were in"} {
		if !strings.Contains(text.String(), want) || !strings.Contains(page.String(), want) {
			t.Errorf("%q is missing in the text or on the page:\n%s", want, text.String())
		}
	}
	if strings.Contains(page.String(), "<b>") {
		t.Error("the mix's name is markup on the page")
	}
}

func TestLateSendingMakesFiguresInvalid(t *testing.T) {
	t.Parallel()
	driver := newLazy(100_000, time.Second)
	defer driver.Close()
	fleet, err := makeStrangers(2)
	must(t, err)
	m := mixOf(t, "{devices: 2, denied: 0%, operations: {publish: 1}, load: [{for: 1s, rate: 200}]}")
	m.LagLimit = Duration(time.Millisecond)
	slow := 0
	out, err := Run(context.WithoutCancel(t.Context()), Options{Mix: m, Fleet: fleet, Driver: driver, Progress: func(Progress) {
		if slow++; slow == 2 {
			time.Sleep(100 * time.Millisecond) // the generator is kept from sending
		}
	}})
	must(t, err)
	if out.Valid || len(out.Invalid) != 1 || !strings.Contains(out.Verdict(), "behind the schedule") {
		t.Errorf("lag p99 %.1f ms: %+v", out.Lag.P99Ms, out.Invalid)
	}
}
