package actors

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// TestGrantActsWhenItIsDurable: nobody sees a session, and no reply is given, before the
// events are on disk; at the reply the read models know them.
func TestGrantActsWhenItIsDurable(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, _ := r.join(pump)
	before := r.views.Counts().Sessions
	r.log.Hold()
	seen := make(chan int, 1)
	r.sys.Submit(context.Background(), messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}, messages.Cause{}, func(m messages.Reply) {
		if code(m) != "session" {
			t.Errorf("reply %v", m)
		}
		seen <- r.views.Counts().Sessions
	})
	r.until("the append waits", func() bool { return r.log.Holds(messages.KindSessionOpened) })
	select {
	case <-seen:
		t.Fatal("replied before the events are durable")
	default:
	}
	if got := r.views.Counts().Sessions; got != before {
		t.Errorf("%d sessions are seen, want %d", got, before)
	}
	r.log.Release()
	if got := <-seen; got != before+1 {
		t.Errorf("at the reply %d sessions are seen, want %d", got, before+1)
	}
}

// TestRestrictionActsAtOnce: it is seen before it is durable, and replied to after.
func TestRestrictionActsAtOnce(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	if !r.allowed(token) {
		t.Fatal("a fresh session is denied")
	}
	r.log.Hold()
	replies := r.put(messages.QuarantineDevice{Thing: pump})
	r.batchWith(messages.KindDeviceQuarantined)
	if r.allowed(token) {
		t.Error("allowed after the quarantine was decided")
	}
	if len(replies) != 0 {
		t.Error("replied before it is durable")
	}
	if why := r.heard(); why != "CLOSE_QUARANTINED" {
		t.Errorf("brokers heard %s", why)
	}
	r.log.Release()
	if got := code(r.reply(replies)); got != "done" {
		t.Errorf("reply %s", got)
	}
}

// TestReplyExactlyOnce: every way a command can end answers once and leaves no count
// behind; and the entity answers the next one.
func TestReplyExactlyOnce(t *testing.T) {
	note := messages.Note{Stream: messages.StreamSync, Event: &messages.NetworkChanged{Up: true}}
	decide := func(d messages.Decision, err error) func(*rig) {
		return func(r *rig) {
			var once sync.Once
			r.override(messages.StreamSync, plant(func(_ messages.StreamID, in messages.Input) (messages.Decision, error) {
				first := false
				once.Do(func() { first = true })
				if first {
					return d, err
				}
				return messages.Decision{Reply: messages.Done{}}, nil
			}))
		}
	}
	event := []messages.Event{&messages.NetworkChanged{Up: true}}
	verify := messages.AskCloud{Question: messages.CloudQuestion{Certificate: "c"}, Then: note}
	for _, c := range []struct {
		name    string
		prepare func(r *rig)
		command messages.Command
		want    string
		next    string // of the same command again; "" for done
		calm    func(r *rig)
	}{
		{"plain", func(*rig) {}, note, "done", "", nil},
		{"decider fails", decide(messages.Decision{}, errors.New("cannot")), note, "Service", "", nil},
		{"decider panics", func(r *rig) {
			var n atomic.Int32
			r.override(messages.StreamSync, plant(func(messages.StreamID, messages.Input) (messages.Decision, error) {
				if n.Add(1) == 1 {
					panic("as it was told")
				}
				return messages.Decision{Reply: messages.Done{}}, nil
			}))
		}, note, "Service", "", nil},
		{"nothing is decided", decide(messages.Decision{}, nil), note, "Service", "", nil},
		{"events without a reply", decide(messages.Decision{Events: event}, nil), note, "Service", "", nil},
		{"two questions at once", decide(messages.Decision{Effects: []messages.Effect{verify, verify}}, nil), note, "done", "", nil},
		{"a reply and a question", decide(messages.Decision{Effects: []messages.Effect{verify}, Reply: messages.Done{}}, nil), note, "done", "", nil},
		{"the fold of its own event panics", func(r *rig) {
			f := plant(func(messages.StreamID, messages.Input) (messages.Decision, error) {
				return messages.Decision{Events: event, Reply: messages.Done{}}, nil
			})
			f.evolve = func(any, messages.Event, messages.Instant) any { panic("cannot fold") }
			r.override(messages.StreamSync, f)
		}, note, "Service", "InvalidCredential", nil},
		{"an event that cannot be encoded", decide(messages.Decision{Events: []messages.Event{tooLarge()}, Reply: messages.Done{}}, nil), note, "Service", "", nil},
		{"no space", func(r *rig) { r.log.Refuse(eventlog.ErrFull) }, note, "Busy", "", func(r *rig) { r.log.Refuse(nil) }},
		{"log busy", func(r *rig) { r.log.Refuse(eventlog.ErrBusy) }, note, "Busy", "", func(r *rig) { r.log.Refuse(nil) }},
		{"log refuses the batch", func(r *rig) { r.log.Refuse(eventlog.ErrBatch) }, note, "Service", "", func(r *rig) { r.log.Refuse(nil) }},
		{"log closed", func(r *rig) { r.log.Refuse(eventlog.ErrClosed) }, note, "NotReady", "", func(r *rig) { r.log.Refuse(nil) }},
		{"somebody else wrote the stream", func(r *rig) {
			r.do(note)
			r.log.Memory.Append(eventlog.Batch{Stream: messages.StreamSync, Expected: 1, Drafts: []eventlog.Draft{{ID: messages.EventID{9}, Kind: messages.KindNetworkChanged, Schema: 1}}}, func(_ []messages.Record, err error) {
				if err != nil {
					r.t.Error(err)
				}
			})
		}, note, "Service", "", nil},
		{"append panics", func(r *rig) { r.log.PanicOnce() }, note, "Service", "NotReady", nil},
		{"append fails", func(r *rig) { r.log.Memory.Fail(errors.New("disk is gone"), false) }, note, "NotReady", "NotReady", nil},
		{"an error nobody knows is a failure", func(r *rig) { r.log.Refuse(errors.New("what?")) }, note, "NotReady", "NotReady", nil},
		{"log cannot be read", func(r *rig) { r.log.RefuseReads(errors.New("io")) }, note, "InvalidCredential", "InvalidCredential", nil},
		{"a stream that is none", func(*rig) {}, messages.Note{Stream: "core/nothing", Event: &messages.Started{}}, "InvalidCredential", "InvalidCredential", nil},
		{"a thing that is none", func(*rig) {}, messages.ForgetDevice{Thing: "a b"}, "InvalidCredential", "InvalidCredential", nil},
		{"cloud full", func(r *rig) { r.cloud.SetFull(true) }, verifyOf(certificate(t, "pump-7")), "Service", "Service", nil},
		{"cloud answers twice", func(r *rig) { r.cloud.SetTwice(true) }, verifyOf(certificate(t, "pump-7")), "invalid", "invalid", nil},
		{"stopping", func(r *rig) { _ = r.sys.Close(context.Background()) }, note, "NotReady", "NotReady", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.prepare(r)
			first := r.put(c.command)
			if got := code(r.reply(first)); got != c.want {
				t.Errorf("reply %s, want %s", got, c.want)
			}
			if c.calm != nil {
				c.calm(r)
			}
			want := c.next
			if want == "" {
				want = "done"
			}
			if got := code(r.do(c.command)); got != want {
				t.Errorf("the next reply is %s, want %s", got, want)
			}
			r.atRest()
			if len(first) != 0 {
				t.Errorf("replied again: %v", <-first)
			}
		})
	}
}

func verifyOf(c identity) messages.VerifyCertificate {
	return messages.VerifyCertificate{Certificate: c.id, DER: c.der, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour * 9000)}
}

// tooLarge is an event over the bound of a record.
func tooLarge() messages.Event {
	return &messages.PolicyReplaced{Document: make([]byte, messages.RecordBodyMaxBytes+1)}
}

// TestReplyThatPanics hurts its caller alone.
func TestReplyThatPanics(t *testing.T) {
	r := newRig(t)
	note := messages.Note{Stream: messages.StreamSync, Event: &messages.NetworkChanged{Up: true}}
	r.sys.Submit(context.Background(), note, messages.Cause{}, func(messages.Reply) { panic("as it was told") })
	if got := code(r.do(note)); got != "done" {
		t.Errorf("the next reply is %s", got)
	}
	r.atRest()
	if r.sys.Panics() != 1 {
		t.Errorf("%d panics are counted, want 1", r.sys.Panics())
	}
}

// TestFailedAppend (reliability spec, D6): afterwards nobody is told anything but
// NotReady, and Fail is called once.
func TestFailedAppend(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, _ := r.join(pump)
	r.log.Hold()
	var waiting []<-chan messages.Reply
	for range 5 {
		waiting = append(waiting, r.put(messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}))
		waiting = append(waiting, r.put(messages.QuarantineDevice{Thing: valve}))
	}
	r.batchWith(messages.KindDeviceQuarantined)
	r.log.Memory.Fail(errors.New("disk is gone"), true)
	r.log.Release()
	for _, w := range waiting {
		if got := code(r.reply(w)); got != "NotReady" {
			t.Errorf("reply %s after a failed append", got)
		}
	}
	for _, cmd := range []messages.Command{verifyOf(c), messages.ForgetDevice{Thing: pump}, messages.MarkClock{Mark: &messages.ClockMarked{}}} {
		if got := code(r.do(cmd)); got != "NotReady" {
			t.Errorf("%T: reply %s after a failed append", cmd, got)
		}
	}
	r.until("Fail is called", func() bool { return r.fails.Load() > 0 })
	r.atRest()
	if n := r.fails.Load(); n != 1 {
		t.Errorf("Fail was called %d times", n)
	}
}

// TestGrantIsRefusedOnAFullDisk, also one that closes another session to make room; what
// restricts goes in.
func TestGrantIsRefusedOnAFullDisk(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	open := messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}
	for range 15 {
		if got := code(r.do(open)); got != "session" {
			t.Fatal(got)
		}
	}
	r.log.Refuse(eventlog.ErrFull)
	if got := code(r.do(open)); got != "Busy" {
		t.Errorf("the session that pushes another out: %s, want Busy", got)
	}
	if !r.allowed(token) {
		t.Error("a refused grant closed a session")
	}
	if got := code(r.do(messages.CloseSession{Thing: pump, Session: token.Digest()})); got != "done" || r.allowed(token) {
		t.Errorf("close on a full disk: %s, still allowed: %v", got, r.allowed(token))
	}
}

// TestRefusedPolicyLeavesTheFormer: a policy the log does not take is not half in force.
func TestRefusedPolicyLeavesTheFormer(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	r.log.Refuse(eventlog.ErrFull)
	if got := code(r.do(messages.ReplacePolicy{Document: []byte("{}")})); got != "Busy" {
		t.Fatalf("reply %s", got)
	}
	if _, _, settled := r.views.Settled(); !settled || !r.allowed(token) {
		t.Error("the former policy is not fully in force")
	}
	r.log.Refuse(nil)
	if got := code(r.do(messages.ReplacePolicy{Document: []byte("{}")})); got != "replaced" || r.allowed(token) {
		t.Errorf("the next try: %s, allowed %v", got, r.allowed(token))
	}
}

// TestLongRequestIDs come from brokers: they must not look like a failed log.
func TestLongRequestIDs(t *testing.T) {
	r := newRig(t)
	long := messages.Cause{Request: string(make([]byte, 300)) + "\xff"}
	if _, err := r.sys.Do(t.Context(), messages.MarkClock{Mark: &messages.ClockMarked{}}, long); err != nil {
		t.Error(err)
	}
	if r.fails.Load() != 0 {
		t.Error("the process was told to end")
	}
}

// TestPanicsQuarantine (reliability spec, E1): five in ten minutes, and nobody else is
// affected.
func TestPanicsQuarantine(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	_, other := r.join(valve)
	r.override(messages.DeviceStream(pump), plant(func(_ messages.StreamID, in messages.Input) (messages.Decision, error) {
		if _, ok := in.Command.(messages.ForgetDevice); ok {
			panic("as it was told")
		}
		return messages.Decision{Reply: messages.Done{}}, nil
	}))
	r.restart() // the planted decider takes over from the first command on
	r.override(messages.DeviceStream(pump), plant(func(_ messages.StreamID, in messages.Input) (messages.Decision, error) {
		if _, ok := in.Command.(messages.ForgetDevice); ok {
			panic("as it was told")
		}
		return messages.Decision{Reply: messages.Done{}}, nil
	}))
	boom, fine := messages.ForgetDevice{Thing: pump}, messages.ReleaseDevice{Thing: pump}
	for range 4 {
		if got := code(r.do(boom)); got != "Service" {
			t.Errorf("a panic is answered %s", got)
		}
	}
	r.clock.Advance(11 * time.Minute)
	r.views.SetTrustDurationMs(time.Hour.Milliseconds())
	for range 4 {
		r.do(boom)
	}
	if got := code(r.do(fine)); got != "done" || !r.allowed(token) {
		t.Errorf("after four panics in ten minutes: %s, allowed %v", got, r.allowed(token))
	}
	r.do(boom)
	if got := code(r.do(fine)); got != "InvalidCredential" || r.allowed(token) {
		t.Errorf("after five: %s, allowed %v", got, r.allowed(token))
	}
	if !r.allowed(other) || code(r.do(messages.ReleaseDevice{Thing: valve})) != "done" {
		t.Error("another device is affected")
	}
	if r.sys.Panics() != 9 {
		t.Errorf("%d panics are counted, want 9", r.sys.Panics())
	}
}

// TestPoisonQuarantinesOneEntity (reliability spec, E2): an event that cannot be folded.
func TestPoisonQuarantinesOneEntity(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	_, other := r.join(valve)
	version, err := r.log.Version(messages.DeviceStream(pump))
	if err != nil {
		t.Fatal(err)
	}
	r.log.Memory.Append(eventlog.Batch{Stream: messages.DeviceStream(pump), Expected: version, Drafts: []eventlog.Draft{
		{ID: messages.EventID{1}, Kind: messages.KindSessionClosed, Schema: 1, Critical: true, Body: []byte{0xff}},
	}}, func(_ []messages.Record, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	for _, when := range []string{"live", "after a restart"} {
		r.views.SetTrustDurationMs(time.Hour.Milliseconds())
		got := code(r.do(messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}))
		if when == "live" && got == "Service" { // its actor found out by the conflict
			got = code(r.do(messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}))
		}
		if got != "InvalidCredential" || r.allowed(token) {
			t.Errorf("%s: poisoned, yet %s, allowed %v", when, got, r.allowed(token))
		}
		if got, _ := r.connect(valve, certificate(t, string(valve))); got != "ok" || !r.allowed(other) {
			t.Errorf("%s: another device: %s, allowed %v", when, got, r.allowed(other))
		}
		r.restart()
	}
}

// TestLanes: a full lane says Busy with a time to come back, and what restricts passes.
func TestLanes(t *testing.T) {
	r := newRig(t, func(c *Config) { c.LaneMax = [messages.Lanes]int{4, 1, 1} })
	r.policy()
	c, token := r.join(pump)
	r.log.Hold()
	first := r.put(messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker})
	r.until("it waits for the log", func() bool { return r.log.Holds(messages.KindSessionOpened) })
	refused, ok := r.do(messages.OpenSession{Thing: valve, Certificate: c.id, Broker: broker}).(*messages.Refusal)
	if !ok || refused.Code != messages.RefusedBusy || refused.RetryAfter <= 0 {
		t.Errorf("a full lane answers %v", refused)
	}
	closing := r.put(messages.CloseSession{Thing: pump, Session: token.Digest()})
	other := r.put(messages.QuarantineDevice{Thing: valve})
	r.batchWith(messages.KindDeviceQuarantined) // beside the lane that is full
	r.log.Release()
	for what, w := range map[string]<-chan messages.Reply{"session": first, "done": closing} {
		if got := code(r.reply(w)); got != what {
			t.Errorf("reply %s, want %s", got, what)
		}
	}
	r.reply(other)
	r.atRest()
}

// TestOneEntityIsBounded: the flood for one device is told Busy; what restricts is not,
// and goes before all of the flood that waits, be it for the log or for the cloud.
func TestOneEntityIsBounded(t *testing.T) {
	for _, online := range []bool{false, true} {
		r := newRig(t)
		r.policy()
		c, token := r.join(pump)
		r.sys.SetNetwork(online)
		r.atRest()
		r.log.Hold()
		r.cloud.Hold()
		open := messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}
		var flood []<-chan messages.Reply
		for range perEntityMax {
			flood = append(flood, r.put(open))
		}
		if got := code(r.do(open)); got != "Busy" {
			t.Errorf("one too many: %s", got)
		}
		if online {
			r.until("the cloud is asked", func() bool { return r.cloud.Waiting() == perEntityMax })
			r.cloud.Release()
		}
		r.until("the first waits for the log", func() bool { return r.log.Holds(messages.KindSessionOpened) })
		stop := r.put(messages.QuarantineDevice{Thing: pump})
		r.log.Release() // the mailbox has the order before the log's word
		if got := code(r.reply(stop)); got != "done" || r.allowed(token) {
			t.Errorf("online %v: the restriction: %s", online, got)
		}
		sessions := 0
		for _, w := range flood {
			if code(r.reply(w)) == "session" {
				sessions++
			}
		}
		r.atRest()
		if sessions != 1 || r.views.Counts().Sessions != 0 {
			t.Errorf("online %v: %d of the flood came before the restriction, %d sessions are live", online, sessions, r.views.Counts().Sessions)
		}
	}
}

// TestDeadline: who waited past it is told Busy; what restricts is carried out anyway.
func TestDeadline(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	ctx, cancel := context.WithCancel(context.Background())
	r.log.Hold()
	held := r.put(messages.ReplacePolicy{Document: []byte("{}")})
	first := r.put(messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker})
	r.until("it waits for the log", func() bool { return r.log.Holds(messages.KindSessionOpened) })
	late := r.putCtx(ctx, messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker})
	stop := r.putCtx(ctx, messages.CloseSession{Thing: pump, Session: token.Digest()})
	cancel()
	r.log.Release()
	r.reply(held)
	for want, w := range map[string]<-chan messages.Reply{"session": first, "Busy": late, "done": stop} {
		if got := code(r.reply(w)); got != want {
			t.Errorf("reply %s, want %s", got, want)
		}
	}
	if !slices.Contains(r.kinds(messages.DeviceStream(pump)), messages.KindSessionClosed) {
		t.Error("the restriction was not carried out")
	}
	if _, err := r.sys.Do(ctx, messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}, messages.Cause{}); err == nil {
		t.Error("Do with a context that is done gave a session")
	}
}

// TestCloseWhileSubmitting: every command is answered, those that come too late as
// NotReady, and Close returns when nothing is under way.
func TestCloseWhileSubmitting(t *testing.T) {
	for range 20 {
		r := newRig(t)
		var submitted, answered atomic.Int64
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 200 {
					submitted.Add(1)
					thing := messages.ThingName([]string{"a", "b", "c", "d"}[i])
					r.sys.Submit(context.Background(), messages.QuarantineDevice{Thing: thing}, messages.Cause{}, func(messages.Reply) { answered.Add(1) })
				}
			})
		}
		if err := r.sys.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		r.atRest()
		if submitted.Load() != answered.Load() {
			t.Fatalf("%d submitted, %d answered", submitted.Load(), answered.Load())
		}
	}
}

// TestCloseGivesUp when its context ends before everyone is answered.
func TestCloseGivesUp(t *testing.T) {
	r := newRig(t)
	r.log.Hold()
	waiting := r.put(messages.QuarantineDevice{Thing: pump})
	r.batchWith(messages.KindDeviceQuarantined)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.sys.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
	r.log.Release()
	r.reply(waiting)
}

// TestRestart (reliability spec, D1 and D2): sessions, trust and quarantine are there,
// and the tokens authorize.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	_, barred := r.join(valve)
	r.do(messages.QuarantineDevice{Thing: valve, Reason: "r"})
	r.restart()
	if !r.allowed(token) || r.allowed(barred) {
		t.Errorf("after the restart: pump allowed %v, valve %v", r.allowed(token), r.allowed(barred))
	}
	r.sys.SetNetwork(false)
	r.cloud.SetSilent(true)
	if got, _ := r.connect(pump, c); got != "ok" {
		t.Errorf("offline within trust: %s", got)
	}
	if got, _ := r.connect(valve, certificate(t, string(valve))); got != "InvalidCredential" {
		t.Errorf("quarantined: %s", got)
	}
	if d, ok := r.views.Device(pump); !ok || len(d.Sessions) != 2 {
		t.Errorf("shown %+v", d)
	}
}

var _ Views = (*projections.Views)(nil)
