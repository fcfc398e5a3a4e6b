package concurrency

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// generator sends authenticate requests at the moments of a schedule, whatever has become of
// those before, and notes what was answered when: latencies count from the moment of the
// schedule.
type generator struct {
	t       *testing.T
	nc      *nats.Conn
	name    messages.BrokerID
	bodies  [][]byte
	barred  map[int]bool // by the number of the body
	subject string
	inbox   string

	mu      sync.Mutex
	waiting map[int]asked // by the number of the request; guarded by mu, as all below
	n       int
}

type asked struct {
	at    time.Time
	body  int
	phase *phase
}

// phase is what came of a time of steady load.
type phase struct {
	sent, yes, busy, turned, falseAllows, falseDenies, failed int
	took                                                      []time.Duration // of those that were let in
	late                                                      time.Duration   // how far the generator itself fell behind
	unanswered                                                atomic.Int64
}

// inFlightMax is how many requests wait for an answer at most: those of forty brokers, each
// of which turns further devices away by itself.
const inFlightMax = 40 * client.DefaultMaxInFlight

// String tells them.
func (p *phase) String() string {
	return fmt.Sprintf("%d asked, %d in (p50 %v, p99 %v), %d busy, %d turned away by their brokers, %d failed, %d unanswered, generator late by %v",
		p.sent, p.yes, quantile(p.took, 0.5), quantile(p.took, 0.99), p.busy, p.turned, p.failed, p.unanswered.Load(), p.late.Round(time.Millisecond))
}

func newGenerator(t *testing.T, s *site, name messages.BrokerID, fleet []device, barred map[int]bool) *generator {
	g := &generator{
		t: t, nc: s.dial(name), name: name, barred: barred, waiting: map[int]asked{},
		subject: authapi.Subject(name, authapi.OpAuthenticate), inbox: authapi.InboxPrefix(name) + ".load.",
	}
	for _, d := range fleet {
		body, err := authapi.Encode(authapi.AuthenticateRequest{ClientID: string(d.thing), CertificatePEM: base64.StdEncoding.EncodeToString(d.der)})
		must(t, err)
		g.bodies = append(g.bodies, body)
	}
	sub, err := g.nc.Subscribe(g.inbox+"*", g.answered)
	must(t, err)
	must(t, sub.SetPendingLimits(-1, -1))
	must(t, g.nc.Flush())
	return g
}

func (g *generator) answered(m *nats.Msg) {
	now := time.Now()
	n, err := strconv.Atoi(strings.TrimPrefix(m.Subject, g.inbox))
	if err != nil {
		g.t.Errorf("an answer on %s", m.Subject)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.waiting[n]
	if !ok {
		g.t.Errorf("two answers to request %d", n)
		return
	}
	delete(g.waiting, n)
	a.phase.unanswered.Add(-1)
	refusal := authapi.ReadError(m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode), m.Data)
	switch {
	case m.Header.Get("Status") == "503": // the daemon is not there
		a.phase.failed++
	case refusal == nil:
		reply, err := authapi.ParseGrantReply(m.Data)
		switch {
		case err != nil:
			g.t.Error(err)
		case !reply.IsConnectAuthorized:
			a.phase.falseDenies++
		case g.barred[a.body]:
			a.phase.falseAllows++
		default:
			a.phase.yes++
			a.phase.took = append(a.phase.took, now.Sub(a.at))
		}
	case refusal.Code == messages.RefusedBusy:
		a.phase.busy++
	case refusal.Code == messages.RefusedInvalidCredential:
		if !g.barred[a.body] {
			a.phase.falseDenies++
		}
	default:
		a.phase.failed++
	}
}

// load sends so many requests a second for d.
func (g *generator) load(perSecond float64, d time.Duration) *phase {
	p := &phase{}
	start := time.Now()
	each := time.Duration(float64(time.Second) / perSecond)
	for i := 0; ; i++ {
		due := time.Duration(i) * each
		if due >= d {
			break
		}
		if ahead := due - time.Since(start); ahead > 0 {
			time.Sleep(ahead)
		} else {
			p.late = max(p.late, -ahead)
		}
		if time.Since(start) > 2*d {
			break // it cannot keep up at all: what was asked is what counts
		}
		g.send(p, start.Add(due))
	}
	must(g.t, g.nc.Flush())
	return p
}

func (g *generator) send(p *phase, due time.Time) {
	g.mu.Lock()
	g.n++
	n, body := g.n, g.n%len(g.bodies)
	if len(g.waiting) >= inFlightMax {
		p.turned++
		g.mu.Unlock()
		return
	}
	g.waiting[n] = asked{due, body, p}
	p.sent++
	g.mu.Unlock()
	p.unanswered.Add(1)
	must(g.t, g.nc.PublishRequest(g.subject, g.inbox+strconv.Itoa(n), g.bodies[body]))
}

// lostAfter is when nobody waits for an answer any more: the desk gives one within five
// seconds.
const lostAfter = 20 * time.Second

// settle waits until every request is answered, or lost.
func (g *generator) settle() {
	for left := true; left; time.Sleep(5 * time.Millisecond) { // polls: answers are not announced
		left = false
		g.mu.Lock()
		for _, a := range g.waiting {
			left = left || time.Since(a.at) < lostAfter
		}
		g.mu.Unlock()
	}
}

// meet has d come while the cloud can be asked about it.
func (g *generator) meet(d device) {
	body, err := authapi.Encode(authapi.AuthenticateRequest{ClientID: string(d.thing), CertificatePEM: base64.StdEncoding.EncodeToString(d.der)})
	must(g.t, err)
	m, err := g.nc.Request(g.subject, body, 10*time.Second)
	must(g.t, err)
	if name := m.Header.Get(authapi.HeaderError); name != "" {
		g.t.Fatalf("%s is not known: %s", d.thing, name)
	}
}

// capacity is how many a second are let in with 64 in flight.
func (g *generator) capacity(d time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range 64 {
		wg.Go(func() {
			for i := w; time.Since(start) < d; i += 64 {
				if m, err := g.nc.Request(g.subject, g.bodies[i%len(g.bodies)], 10*time.Second); err == nil && m.Header.Get(authapi.HeaderError) == "" {
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(start).Seconds()
}

// TestOverloadLeavesNothingBehind: at five times what it can do the desk says Busy to those
// it cannot serve, denies nobody, lets nobody in whom it must not, and carries out what an
// operator orders; and when the load is gone everything is as before (reliability spec 2.3,
// E5 and F6; 3, L7).
func TestOverloadLeavesNothingBehind(t *testing.T) {
	s := open(t, []messages.BrokerID{"east"}, nil)
	fleet, barred := make([]device, 500), map[int]bool{}
	for i := range fleet {
		fleet[i] = newDevice(t)
	}
	g := newGenerator(t, s, "east", fleet, barred)
	for _, d := range fleet {
		g.meet(d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s.cloud.away.Store(true)
	s.await("the daemon to notice that the cloud is away", func(st daemon.Status) bool { return !st.CloudReachable })
	for i := 0; i < len(fleet); i += 50 {
		must(t, s.operator(ctx, daemon.OpQuarantine, fleet[i].thing))
		barred[i] = true
	}
	capacity := g.capacity(sized(time.Second, 10*time.Second))
	base := g.load(capacity/2, sized(2*time.Second, 20*time.Second))
	g.settle()
	t.Logf("capacity %.0f/s; at half of it: %v", capacity, base)

	// What an operator orders meanwhile is about other devices, so that the fleet stays as it is.
	others := make([]messages.ThingName, 1000)
	for i := range others {
		others[i] = newDevice(t).thing
	}
	over := make(chan struct{})
	var orders []time.Duration
	refused := 0
	var operating sync.WaitGroup
	operating.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
			at := time.Now()
			if err := s.operator(ctx, daemon.OpQuarantine, others[i%len(others)]); err != nil {
				refused++
				t.Logf("an order: %v", err)
			}
			orders = append(orders, time.Since(at))
		}
	})
	storm := g.load(5*capacity, sized(3*time.Second, time.Minute))
	close(over)
	operating.Wait()
	calm := time.Now()
	g.mu.Lock()
	t.Logf("at five times the capacity: %v; %d orders of the operator, p50 %v, p99 %v", storm, len(orders), quantile(orders, 0.5), quantile(orders, 0.99))
	g.mu.Unlock()

	// Window by window until it is as before.
	const window = 500 * time.Millisecond
	soon := sized(time.Minute, 10*time.Second)
	like := max(2*quantile(base.took, 0.99), sized(250*time.Millisecond, 20*time.Millisecond))
	back := false
	for time.Since(calm) < soon+window {
		after := g.load(capacity/2, window)
		g.settle()
		if p99 := quantile(after.took, 0.99); after.busy == 0 && p99 <= like {
			t.Logf("as before after %v: p99 %v", time.Since(calm).Round(time.Millisecond), p99)
			back = true
			break
		}
	}
	for name, p := range map[string]*phase{"half": base, "five times": storm} {
		if p.falseAllows+p.falseDenies > 0 {
			t.Errorf("%s: %d false allows, %d false denies", name, p.falseAllows, p.falseDenies)
		}
		// A machine so busy that nobody reads for two seconds has NATS cut connections off; who
		// asked then has no answer, which is not a no.
		if n := int64(p.failed) + p.unanswered.Load(); n > 0 && night() {
			t.Errorf("%s: %d failed or were never answered", name, n)
		}
	}
	if refused > 0 && night() {
		t.Errorf("%d orders of the operator failed", refused)
	}
	if storm.busy == 0 {
		t.Error("nobody was busy: there was no overload")
	}
	if !back {
		t.Errorf("%v after the overload a p99 of %v is not reached", soon, like)
	}
	// What a person may wait is measured where nothing else runs; elsewhere it must stay in bounds.
	if p99, most := quantile(orders, 0.99), sized(2*time.Second, 100*time.Millisecond); p99 > most {
		t.Errorf("an order of an operator takes %v (p99), at most %v", p99, most)
	}
}
