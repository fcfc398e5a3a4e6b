package dst

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// forger is a stage on which nothing happens but what a test tells the observer, true or
// not.
type forger struct {
	Stage
	*observer
	t    *testing.T
	at   time.Duration
	core Core
	disk forgedLog
	seq  uint64
	vers map[messages.StreamID]uint64
	tick int64 // of trust time, ms
	sure bool
}

// forgedLog is a log that may be another than it was.
type forgedLog struct {
	eventlog.Log
	records []messages.Record
	bad     error
}

func (l *forgedLog) Head() eventlog.Head { return eventlog.Head{Seq: uint64(len(l.records))} }
func (l *forgedLog) Verify(context.Context, func(done, total uint64)) (eventlog.Report, error) {
	return eventlog.Report{}, l.bad
}
func (l *forgedLog) Scan(_ context.Context, from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		for _, r := range l.records {
			if r.Seq >= from && r.Seq <= to && !yield(r, nil) {
				return
			}
		}
	}
}

func (f *forger) Now() time.Duration { return f.at }
func (f *forger) Steps() uint64      { return 1 }
func (f *forger) Last() []string     { return []string{"last"} }
func (f *forger) Log() eventlog.Log  { return &f.disk }
func (f *forger) Core() *Core        { return f.observer.core }

const forgedPolicy = `{"formatVersion":"2021-03-05","definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"}},` +
	`"policies":{"p":{"s":{"effect":"ALLOW","operations":["mqtt:*"],"resources":["mqtt:clientId:*","mqtt:topic:own/*"]}}}}`

// newForger tells the observer of a core that has begun, with a policy, a trust duration of
// ten minutes, and device 0 connected at broker 0 since two seconds.
func newForger(t *testing.T, setup func(*Plan)) *forger {
	p := &Plan{Config: Config{Devices: 4, Brokers: 2, Duration: time.Hour}, Setup: Setup{Policy: forgedPolicy}}
	if setup != nil {
		setup(p)
	}
	f := &forger{t: t, observer: newObserver(p), vers: map[messages.StreamID]uint64{}, tick: Beginning.UnixMilli(), sure: true}
	f.observer.stage = f
	f.begin(1)
	f.pass(time.Second)
	f.record(messages.StreamConfig, &messages.ConfigReplaced{Document: []byte(`{"security":{"clientDeviceTrustDurationMinutes":10}}`)})
	f.record(messages.StreamPolicy, &messages.PolicyReplaced{Document: []byte(forgedPolicy)})
	f.trust(0, Cert{})
	f.letIn(0, 0, 1)
	if f.violation != nil {
		t.Fatalf("what is true is taken for a violation: %v", f.violation)
	}
	f.pass(time.Second)
	return f
}

func (f *forger) begin(life int) {
	f.core = Core{Life: life, TrustMs: func() int64 { return f.tick }, Certain: func() bool { return f.sure }, Quiet: func() bool { return true }}
	f.Began(&f.core)
}

// pass lets time go by.
func (f *forger) pass(d time.Duration) {
	f.at += d
	f.tick += d.Milliseconds()
	f.stepped()
}

// record puts events on record.
func (f *forger) record(stream messages.StreamID, events ...messages.Event) {
	for _, e := range events {
		f.Durable([]messages.Record{f.make(stream, e)})
	}
}

func (f *forger) make(stream messages.StreamID, e messages.Event) messages.Record {
	body, schema, err := messages.EncodeEvent(e)
	if err != nil {
		f.t.Fatal(err)
	}
	f.seq++
	f.vers[stream]++
	rec := messages.Record{
		Seq: f.seq, Stream: stream, Version: f.vers[stream], Kind: e.Kind(), Schema: schema, Critical: e.Kind().Critical(),
		At: messages.Instant{TrustMs: f.tick, WallMs: f.tick}, Body: body,
	}
	rec.ID[0], rec.ID[1] = byte(f.seq), byte(f.seq>>8)
	f.disk.records = append(f.disk.records, rec)
	return rec
}

// says has the cloud answer about a device's certificate and its attachment.
func (f *forger) says(device int, c Cert, v messages.CloudVerdict) {
	for _, thing := range []messages.ThingName{"", ThingOf(device)} {
		f.CloudSaid(&messages.CloudQuestion{Certificate: IDOf(c), Thing: thing}, f.at, &messages.CloudAnswer{Verdict: v})
	}
}

// trust has the cloud confirm a device and the core put that on record.
func (f *forger) trust(device int, c Cert) {
	f.says(device, c, messages.CloudConfirmed)
	f.record(messages.CertificateStream(IDOf(c)), &messages.CertificateVerified{Source: messages.Source_SOURCE_CLOUD, Der: DER(c)})
	f.record(messages.DeviceStream(ThingOf(device)), &messages.AttachmentVerified{CertificateId: string(IDOf(c)), Source: messages.Source_SOURCE_CLOUD})
}

func digestNo(session byte) (d messages.TokenDigest) {
	d[0] = session
	return d
}

// opens puts a session on record.
func (f *forger) opens(device, broker int, c Cert, session byte) {
	d := digestNo(session)
	f.record(messages.DeviceStream(ThingOf(device)), &messages.SessionOpened{Session: d[:], CertificateId: string(IDOf(c)), Broker: string(BrokerOf(broker))})
}

// ask is a client's try to connect, allowed.
func ask(device, broker int, c Cert, session byte, begun time.Duration) *Ask {
	return &Ask{
		Op: Connect, Client: device, Broker: broker, Begun: begun, Outcome: Allowed, Name: string(ThingOf(device)), Cert: c, CertID: IDOf(c),
		Session: digestNo(session), ClientThing: ThingOf(device),
	}
}

// letIn has a device with its own certificate get in.
func (f *forger) letIn(device, broker int, session byte) {
	c := Cert{Of: device}
	f.opens(device, broker, c, session)
	f.Asked(ask(device, broker, c, session, f.at))
}

// publishes has device 0 be allowed to publish.
func (f *forger) publishes(topic string) {
	f.Asked(&Ask{Op: Publish, Client: 0, Broker: 0, Begun: f.at, Outcome: Allowed, Name: topic, Session: digestNo(1), ClientThing: ThingOf(0)})
}

func (f *forger) quarantine(device int) {
	f.record(messages.DeviceStream(ThingOf(device)), &messages.DeviceQuarantined{Reason: "x"})
}

func (f *forger) refuse(c Cert) {
	f.record(messages.CertificateStream(IDOf(c)), &messages.CertificateRefused{})
}

func (f *forger) withdraw(device int, c Cert) {
	f.record(messages.DeviceStream(ThingOf(device)), &messages.AttachmentWithdrawn{CertificateId: string(IDOf(c))})
}

func (f *forger) restart() {
	f.Died(1, "killed")
	f.pass(time.Second)
	f.begin(2)
}

var own = Cert{}

// lies are the ways in which what is seen can be wrong, by the invariant that must see it.
var lies = []struct {
	want, name string
	lie        func(f *forger)
}{
	{"D1", "a session is not on record", func(f *forger) { f.Asked(ask(0, 0, own, 9, f.at)) }},
	{"D1", "an acknowledged quarantine is not on record", func(f *forger) { f.Replied(&Action{Kind: Quarantine}, f.at, messages.Done{}) }},
	{"D1", "an acknowledged release is not on record", func(f *forger) {
		f.quarantine(0)
		f.pass(time.Second)
		f.Replied(&Action{Kind: Release}, f.at, messages.Done{})
	}},
	{"D1", "who was forgotten is still attached", func(f *forger) { f.Replied(&Action{Kind: Forget}, f.at, messages.Done{}) }},
	{"D1", "an acknowledged policy is not on record", func(f *forger) {
		other := strings.ReplaceAll(forgedPolicy, "own/*", "all")
		f.Replied(&Action{Kind: EditPolicy, Text: other}, f.at, messages.Replaced{})
	}},
	{"D1", "an acknowledged section is not on record", func(f *forger) { f.Replied(&Action{Kind: EditSection, Text: "{}"}, f.at, messages.Replaced{}) }},
	{"D2", "the read models in use lack what the log has", func(f *forger) {
		f.core.Views = projections.New(nil)
		f.folded()
	}},
	{"D3", "an event is on record twice", func(f *forger) {
		rec := f.make(messages.StreamLifecycle, &messages.Started{})
		rec.ID = f.disk.records[0].ID
		f.Durable([]messages.Record{rec})
	}},
	{"D3", "a request opens two sessions", func(f *forger) {
		for i := range byte(2) {
			d := digestNo(20 + i)
			rec := f.make(messages.DeviceStream(ThingOf(0)), &messages.SessionOpened{Session: d[:], CertificateId: string(IDOf(own)), Broker: "b0"})
			rec.Cause = messages.Cause{Request: "r", Broker: "b0"}
			f.Durable([]messages.Record{rec})
		}
	}},
	{"D3c", "a device is forgotten by one listing", func(f *forger) {
		f.Listed(&messages.AssociationList{Complete: true})
		f.record(messages.DeviceStream(ThingOf(0)), &messages.DeviceForgotten{Source: messages.Source_SOURCE_CLOUD})
	}},
	{"D3c", "a device is forgotten that a listing has", func(f *forger) {
		f.Listed(&messages.AssociationList{Complete: true})
		f.Listed(&messages.AssociationList{Complete: true, Things: []messages.ThingName{ThingOf(0)}})
		f.record(messages.DeviceStream(ThingOf(0)), &messages.DeviceForgotten{Source: messages.Source_SOURCE_CLOUD})
	}},
	{"D3c", "a device is forgotten by listings that broke off", func(f *forger) {
		f.Listed(&messages.AssociationList{})
		f.Listed(&messages.AssociationList{})
		f.record(messages.DeviceStream(ThingOf(0)), &messages.DeviceForgotten{Source: messages.Source_SOURCE_CLOUD})
	}},
	{"D4", "a record is skipped", func(f *forger) {
		f.make(messages.StreamLifecycle, &messages.Started{})
		f.record(messages.StreamLifecycle, &messages.Started{})
	}},
	{"D5", "the log opens with less", func(f *forger) {
		f.disk.records = f.disk.records[:3]
		f.restart()
	}},
	{"D6", "somebody gets in after an append failed", func(f *forger) {
		f.Failed(1)
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"D8", "a process begins while another is there", func(f *forger) { f.begin(2) }},
	{"D9", "the log does not verify", func(f *forger) {
		f.disk.bad = errors.New("a root differs")
		f.verified()
	}},
	{"D10", "a record is another after a restart", func(f *forger) {
		f.disk.records[2].At.TrustMs++
		f.restart()
	}},
	{"S1", "who is quarantined gets in", func(f *forger) {
		f.quarantine(0)
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"S1", "a refused certificate lets in", func(f *forger) {
		f.refuse(own)
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"S1", "a withdrawn attachment lets in", func(f *forger) {
		f.withdraw(0, own)
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"S1", "the cloud's no is not heeded", func(f *forger) {
		f.says(0, own, messages.CloudDenied)
		f.pass(2 * time.Second)
		f.letIn(0, 0, 2)
	}},
	{"S2", "a broker goes on with a closed session", func(f *forger) {
		d := digestNo(1)
		f.record(messages.DeviceStream(ThingOf(0)), &messages.SessionClosed{Session: d[:]})
		f.pass(7 * time.Second)
		f.publishes("own/x")
	}},
	{"S3", "the certificate was never verified", func(f *forger) { f.opens(0, 0, Cert{Gen: 1}, 2); f.Asked(ask(0, 0, Cert{Gen: 1}, 2, f.at)) }},
	{"S4", "no policy lets it publish", func(f *forger) { f.publishes("other") }},
	{"S4", "a policy of before does", func(f *forger) {
		f.record(messages.StreamPolicy, &messages.PolicyReplaced{Document: []byte(strings.ReplaceAll(forgedPolicy, "own/*", "all"))})
		f.pass(8 * time.Second)
		f.publishes("own/x")
	}},
	{"S4", "no policy lets it connect", func(f *forger) {
		f.record(messages.StreamPolicy, &messages.PolicyReplaced{Document: []byte(strings.ReplaceAll(forgedPolicy, "clientId:*", "clientId:x"))})
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"S4", "a bad document is taken", func(f *forger) { f.Replied(&Action{Kind: EditPolicy, Text: "{"}, 0, messages.Replaced{}) }},
	{"S5", "the core was away", func(f *forger) {
		f.Died(1, "killed")
		f.pass(time.Second)
		f.Asked(ask(0, 0, own, 1, f.at))
	}},
	{"S5", "a name that is no thing's", func(f *forger) {
		a := ask(0, 0, own, 1, f.at)
		a.Name = "sensor-#"
		f.Asked(a)
	}},
	{"S5", "no certificate", func(f *forger) { f.Asked(ask(0, 0, Cert{Spoilt: "garbage"}, 1, f.at)) }},
	{"S7", "a session of another thing", func(f *forger) {
		f.trust(1, Cert{Of: 1})
		f.Asked(ask(1, 0, Cert{Of: 1}, 1, f.at))
	}},
	{"S7", "a session at another broker", func(f *forger) { f.Asked(ask(0, 1, own, 1, f.at)) }},
	{"S7", "two clients on one session", func(f *forger) {
		a := ask(0, 0, own, 1, f.at)
		a.Client = 7
		f.Asked(a)
	}},
	{"S7", "a client acts on another's session", func(f *forger) {
		f.Asked(&Ask{Op: Publish, Client: 5, Broker: 0, Begun: f.at, Outcome: Allowed, Name: "own/x", Session: digestNo(1)})
	}},
	{"S8", "a question with other bytes", func(f *forger) {
		f.CloudSaid(&messages.CloudQuestion{Certificate: IDOf(own), DER: DER(Cert{Gen: 1})}, f.at, &messages.CloudAnswer{})
	}},
	{"S8", "another certificate than was presented", func(f *forger) {
		a := ask(0, 0, own, 1, f.at)
		a.CertID = IDOf(Cert{Gen: 1})
		f.Asked(a)
	}},
	{"S8", "other bytes on record", func(f *forger) {
		f.record(messages.CertificateStream(IDOf(own)), &messages.CertificateVerified{Der: DER(Cert{Gen: 1})})
	}},
	{"S10", "a known device is admitted as pending", func(f *forger) {
		f.record(messages.DeviceStream(ThingOf(0)), &messages.DevicePending{CertificateId: string(IDOf(own))})
	}},
	{"S11", "a broker hears of another's session", func(f *forger) { f.Dropped(0, 1, digestNo(1), "") }},
	{"S12", "trust of before counts although the time is not known", func(f *forger) {
		f.Died(1, "the power is cut")
		f.pass(time.Minute)
		f.Booted(time.Minute)
		f.begin(2)
		f.sure = false
		f.letIn(0, 0, 2)
	}},
	{"T1", "an old yes lets in", func(f *forger) {
		f.pass(12 * time.Minute)
		f.letIn(0, 0, 2)
	}},
	{"T1", "an old yes lets publish", func(f *forger) {
		f.pass(15 * time.Minute)
		f.publishes("own/x")
	}},
	{"T2", "trust time goes back", func(f *forger) {
		f.tick -= 5000
		f.stepped()
		f.pass(2 * time.Second)
		f.at += 2 * time.Minute
		f.stepped()
	}},
	{"T3", "an expired certificate lets in", func(f *forger) {
		c := Cert{Spoilt: "expired"}
		f.trust(0, c)
		f.opens(0, 0, c, 2)
		f.Asked(ask(0, 0, c, 2, f.at))
	}},
	{"T3", "a certificate of the future lets in", func(f *forger) {
		c := Cert{Spoilt: "future"}
		f.trust(0, c)
		f.opens(0, 0, c, 2)
		f.Asked(ask(0, 0, c, 2, f.at))
	}},
	{"T4", "trust is renewed without an answer", func(f *forger) {
		f.restart()
		f.record(messages.CertificateStream(IDOf(own)), &messages.CertificateVerified{})
	}},
	{"T5", "voided trust lets in", func(f *forger) {
		f.record(messages.StreamClock, &messages.TrustVoided{BeforeMs: f.tick + 1})
		f.pass(time.Second)
		f.letIn(0, 0, 2)
	}},
	{"C-I1", "a certificate of nobody's authority", func(f *forger) {
		der := DER(own)
		f.authority.issued["x"] = der
		f.Serves(0, [][]byte{der}, nil)
	}},
	{"C-I2", "a certificate that is not on record", func(f *forger) { f.Serves(0, [][]byte{DER(own)}, nil) }},
	{"C-I2", "a serial number twice", func(f *forger) {
		for range 2 {
			f.record(messages.StreamCA, &messages.CertificateOrdered{Serial: "0123456789abcdef"})
		}
	}},
	{"L1", "no answer for long", func(f *forger) {
		begun := f.at
		f.pass(10 * time.Second)
		f.Asked(&Ask{Op: Connect, Begun: begun, Outcome: Unavailable})
	}},
	{"L1", "an order is refused although all is well", func(f *forger) {
		f.healed = f.at
		f.pass(time.Minute)
		f.Replied(&Action{Kind: Release, At: f.at}, f.at, messages.Refuse(messages.RefusedBusy, "x"))
	}},
	{"L2", "a device is refused although all is well", func(f *forger) {
		f.pass(10 * time.Minute)
		a := ask(0, 0, own, 0, f.at)
		a.Outcome = Denied
		f.Asked(a)
	}},
	{"L3", "a device loses its session although all is well", func(f *forger) {
		f.staying = f.at
		f.Dropped(0, 0, digestNo(1), "lapsed")
	}},
	{"L7", "who asks is told to come back although all is well", func(f *forger) {
		f.staying = f.at
		f.Asked(&Ask{Op: Publish, Begun: f.at, Outcome: Busy, Session: digestNo(1)})
	}},
	{"L5", "a certificate is nearly over", func(f *forger) {
		f.authority.serves[0] = servedView{from: Beginning, to: Beginning.Add(3 * time.Second)}
		f.pass(time.Second)
		f.current()
	}},
}

// TestEveryInvariantCanFire: each lie is seen, by the invariant that is meant for it.
func TestEveryInvariantCanFire(t *testing.T) {
	fired := map[string]bool{}
	for _, c := range lies {
		t.Run(c.want+" "+c.name, func(t *testing.T) {
			f := newForger(t, nil)
			c.lie(f)
			if f.violation == nil || f.violation.Invariant != c.want {
				t.Fatalf("got %v, want %s", f.violation, c.want)
			}
			fired[c.want] = true
		})
	}
	for _, i := range invariants {
		if !fired[i.Name] && !demanded[i.Name] {
			t.Errorf("nothing shows that %s can fire", i.Name)
		}
	}
}

// demanded are the invariants that TestDemandsCanFire shows.
var demanded = map[string]bool{"L4": true, "L6": true}

// liar is a real stage that hides something.
type liar struct {
	Stage
	hides func(a *Action) bool
}

func (l *liar) Do(a *Action) {
	if !l.hides(a) {
		l.Stage.Do(a)
	}
}

// deaf is an observer that does not hear something.
type deaf struct{ *observer }

func (d *deaf) Dropped(client, broker int, session messages.TokenDigest, why string) {
	if !strings.Contains(why, "QUARANTINED") {
		d.observer.Dropped(client, broker, session, why)
	}
}

// TestDemandsCanFire: in the second phase, what does not go on is seen.
func TestDemandsCanFire(t *testing.T) {
	quarantined := []Action{{ID: 900, At: 10 * time.Minute, Kind: Quarantine, Thing: 1}}
	for _, c := range []struct {
		want    string
		actions []Action
		hides   func(a *Action) bool
		deaf    bool
	}{
		{want: ""},
		{want: "", actions: quarantined},
		{want: "L2", hides: func(a *Action) bool { return a.ID > actionsMax && a.Kind == Connect && a.Thing == 1 }},
		{want: "L6", actions: quarantined, hides: func(a *Action) bool { return a.ID > actionsMax && a.Kind == Connect && a.Thing == 1 }},
		{want: "L4", hides: func(a *Action) bool { return a.ID > actionsMax && a.Kind == Quarantine }},
		{want: "L4", deaf: true},
	} {
		p := testPlan(5, 3, 10*time.Minute, c.actions...)
		slices.SortStableFunc(p.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
		for i := range p.Actions {
			p.Actions[i].ID = i + 1
		}
		p.Setup.Policy = forgedPolicy
		r, err := playOn(t.Context(), p, Options{Samples: -1}, func(w Witness) Stage {
			if c.deaf {
				w = &deaf{w.(*observer)}
			}
			l := &liar{NewSim(p, w, 20), c.hides}
			if l.hides == nil {
				l.hides = func(*Action) bool { return false }
			}
			return l
		})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if r.Violation != nil {
			got = r.Violation.Invariant
		}
		if got != c.want {
			t.Errorf("got %q (%v), want %q", got, r.Violation, c.want)
		}
	}
}

// truths are what looks like a lie, and is allowed.
var truths = map[string]func(f *forger){
	"a request that was under way when a device was quarantined": func(f *forger) {
		f.opens(0, 0, own, 2)
		begun := f.at
		f.pass(time.Second)
		f.quarantine(0)
		f.Asked(ask(0, 0, own, 2, begun))
	},
	"a closed session, within what a broker may not have heard": func(f *forger) {
		d := digestNo(1)
		f.record(messages.DeviceStream(ThingOf(0)), &messages.SessionClosed{Session: d[:]})
		f.pass(5 * time.Second)
		f.publishes("own/x")
	},
	"a closed session, with a late push of before": func(f *forger) {
		d := digestNo(1)
		sent := f.at
		f.record(messages.DeviceStream(ThingOf(0)), &messages.SessionClosed{Session: d[:]})
		f.pass(4 * time.Second)
		f.Pushed(0, sent)
		f.pass(5 * time.Second)
		f.publishes("own/x")
	},
	"a policy of before, within what a broker may not have heard": func(f *forger) {
		f.record(messages.StreamPolicy, &messages.PolicyReplaced{Document: []byte(strings.ReplaceAll(forgedPolicy, "own/*", "all"))})
		f.pass(4 * time.Second)
		f.publishes("own/x")
	},
	"a yes just within the trust duration": func(f *forger) {
		f.pass(10 * time.Minute)
		f.letIn(0, 0, 2)
	},
	"trust that was confirmed anew after it was voided": func(f *forger) {
		f.record(messages.StreamClock, &messages.TrustVoided{BeforeMs: f.tick + 1})
		f.pass(time.Second)
		f.trust(0, own)
		f.letIn(0, 0, 2)
	},
	"a re-anchoring that is on record": func(f *forger) {
		f.tick -= 5000
		f.stepped()
		f.record(messages.StreamClock, &messages.ClockReanchored{})
		f.pass(2 * time.Minute)
	},
	"records that landed unseen before a crash": func(f *forger) {
		f.make(messages.StreamLifecycle, &messages.Started{})
		f.restart()
	},
}

// TestNoFalseAlarm: what is promised so is not taken for a lie.
func TestNoFalseAlarm(t *testing.T) {
	for name, truth := range truths {
		t.Run(name, func(t *testing.T) {
			f := newForger(t, nil)
			if truth(f); f.violation != nil {
				t.Fatal(f.violation)
			}
		})
	}
}
