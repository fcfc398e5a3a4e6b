package dst

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// cloudRig is a cloud, as the core asks it, with its other end.
type cloudRig interface {
	cloudsync.Verifier
	activate(c Cert, active bool)
	attach(thing messages.ThingName, c Cert, attached bool)
	trouble(way string) // "" ends it
}

// cloudSuite is what the core relies on, of whatever answers for the cloud.
func cloudSuite(t *testing.T, r cloudRig) {
	mine, other := Cert{Of: 1, Gen: 1}, Cert{Of: 2, Gen: 1}
	thing := ThingOf(1)
	identity := func(c Cert) messages.CloudAnswer {
		return r.Ask(t.Context(), messages.CloudQuestion{Certificate: IDOf(c), DER: DER(c)})
	}
	belongs := func(c Cert) messages.CloudAnswer {
		return r.Ask(t.Context(), messages.CloudQuestion{Certificate: IDOf(c), Thing: thing})
	}
	want := func(what string, a messages.CloudAnswer, v messages.CloudVerdict, f messages.CloudFailure) {
		t.Helper()
		if a.Verdict != v || a.Failure != f {
			t.Errorf("%s: got %v, failure %v (%s), want %v, %v", what, a.Verdict, a.Failure, a.Detail, v, f)
		}
		spoke := f != messages.FailureUnreachable && f != messages.FailureNotService
		if spoke == a.Date.IsZero() || spoke && (Beginning.Sub(a.Date).Abs() > time.Minute || a.Date.Nanosecond() != 0) {
			t.Errorf("%s: dated %v", what, a.Date)
		}
	}
	yes, no, silence := messages.CloudConfirmed, messages.CloudDenied, messages.CloudSilent
	want("a certificate that nobody knows", identity(mine), no, 0)
	want("belongs to nobody", belongs(mine), no, 0)
	r.activate(mine, true)
	r.activate(other, true)
	want("an active certificate", identity(mine), yes, 0)
	want("active, and not attached", belongs(mine), no, 0)
	r.attach(thing, mine, true)
	want("attached", belongs(mine), yes, 0)
	want("another's", belongs(other), no, 0)
	for way, f := range map[string]messages.CloudFailure{
		"throttle": messages.FailureThrottled, "denied": messages.FailureRefused, "server-error": messages.FailureServer,
		"nonsense": messages.FailureNotService, "down": messages.FailureUnreachable,
	} {
		r.trouble(way)
		want(way, identity(mine), silence, f)
		want(way, belongs(mine), silence, f)
		date, err := r.Probe(t.Context())
		if (err != nil) != (f == messages.FailureUnreachable) {
			t.Errorf("%s: probe: %v", way, err)
		}
		if told := !date.IsZero(); told != (err == nil) && f != messages.FailureNotService || told && Beginning.Sub(date).Abs() > time.Minute {
			t.Errorf("%s: a probe tells %v", way, date)
		}
		r.trouble("")
	}
	want("well again", belongs(mine), yes, 0)
	r.attach(thing, mine, false)
	want("detached", belongs(mine), no, 0)
	r.activate(mine, false)
	want("inactive", identity(mine), no, 0)
	r.activate(mine, true)
	want("active again", identity(mine), yes, 0)
}

// fakeCloud is the simulator's, asked by a task.
type fakeCloud struct {
	*cloudClient
	s *sched
}

func (f *fakeCloud) run(task func()) {
	f.s.spawn(nil, task)
	for f.s.step(f.s.now + time.Minute) {
	}
}

// Ask implements cloudsync.Verifier.
func (f *fakeCloud) Ask(ctx context.Context, q messages.CloudQuestion) (a messages.CloudAnswer) {
	f.s.now = 0 // the suite's time stands
	f.run(func() { a = f.cloudClient.Ask(ctx, q) })
	return a
}

// Probe implements cloudsync.Verifier.
func (f *fakeCloud) Probe(ctx context.Context) (date time.Time, err error) {
	f.run(func() { date, err = f.cloudClient.Probe(ctx) })
	return date, err
}

func (f *fakeCloud) activate(c Cert, active bool) { f.c.registry.setCertificate(0, IDOf(c), active) }
func (f *fakeCloud) attach(t messages.ThingName, c Cert, attached bool) {
	f.c.registry.setAttached(0, t, IDOf(c), attached)
}
func (f *fakeCloud) trouble(way string) {
	f.c.trouble = [ways]trouble{}
	if way != "" {
		f.c.trouble[wayOf(way)].on = true
	}
}

func TestTheFakeCloudPassesTheSuite(t *testing.T) {
	s := newSched(1, newTracer(0))
	defer s.close()
	c := newCloud(s, 1, 0, newSeen())
	cloudSuite(t, &fakeCloud{&cloudClient{c: c, of: newMachine(s, true).process()}, s})
}

// realCloud is the emulated one, asked over TLS by the product's client.
type realCloud struct {
	*cloudsync.DataPlane
	t     *testing.T
	cloud *awsemutest.Cloud
	made  map[messages.CertificateID]bool
}

func (r *realCloud) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *realCloud) activate(c Cert, active bool) {
	status := awsemu.StatusInactive
	if active {
		status = awsemu.StatusActive
	}
	id := IDOf(c)
	if !r.made[id] {
		_, err := r.cloud.Registry.AddCertificate(DER(c), status)
		r.check(err)
		r.made[id] = true
		return
	}
	r.check(r.cloud.Registry.SetStatus(id, status))
}

func (r *realCloud) attach(t messages.ThingName, c Cert, attached bool) {
	if !attached {
		r.check(r.cloud.Registry.Detach(t, IDOf(c)))
		return
	}
	r.check(r.cloud.Registry.AddThing(t))
	r.check(r.cloud.Registry.Attach(t, IDOf(c)))
}

func (r *realCloud) trouble(way string) {
	r.check(r.cloud.Offline(way == "down"))
	var faults []fault.Fault
	switch way {
	case "throttle":
		faults = []fault.Fault{{Status: 429, ErrorType: "ThrottlingException"}}
	case "denied":
		faults = []fault.Fault{{Status: 403, ErrorType: "AccessDeniedException"}}
	case "server-error":
		faults = []fault.Fault{{Status: 500, ErrorType: "InternalServerException"}}
	case "nonsense":
		faults = []fault.Fault{{Body: "<html>", ContentType: "text/html"}}
	}
	r.check(r.cloud.SetFaults(fault.Script{Faults: faults}))
}

func TestTheRealClientPassesTheSuite(t *testing.T) {
	now := func() time.Time { return Beginning }
	cloud := awsemutest.Start(t, 0, now)
	pair, err := cloud.Identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	client, err := cloudsync.NewDataPlane(cloudsync.DataPlaneConfig{
		Endpoint: cloud.URL(), ServerName: awsemu.ServerName, Identity: tls.Certificate(pair), Roots: cloud.Servers.Pool(), Now: now, Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cloudSuite(t, &realCloud{client, t, cloud, map[messages.CertificateID]bool{}})
}
