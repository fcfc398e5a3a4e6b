package actors

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestOvertakenYes: a yes that was given before a no, and arrives after it, proves
// nothing, also where the no left no trace; the cloud is asked again.
func TestOvertakenYes(t *testing.T) {
	r := newRig(t)
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	r.cloud.Hold()
	yes := r.put(verifyOf(c))
	r.until("asked once", func() bool { return r.cloud.Waiting() == 1 })
	r.cloud.Revoke(c.id)
	no := r.put(verifyOf(c))
	r.until("asked twice", func() bool { return r.cloud.Waiting() == 2 })
	r.cloud.ReleaseAt(1)
	if got := code(r.reply(no)); got != "invalid" {
		t.Errorf("the no is %s", got)
	}
	r.cloud.Release()
	if got := code(r.reply(yes)); got != "invalid" {
		t.Errorf("the overtaken yes is %s", got)
	}
	if n := len(r.cloud.Asked()); n != 3 {
		t.Errorf("the cloud was asked %d times, want a third", n)
	}
	if n := len(r.kinds(messages.CertificateStream(c.id))); n != 0 {
		t.Errorf("a stranger left %d records", n)
	}
}

// TestOvertakenWhileWaiting: both answers wait for an append, the yes came first. The no
// goes before it, and it proves nothing any more.
func TestOvertakenWhileWaiting(t *testing.T) {
	r := newRig(t)
	r.policy()
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	if got := code(r.do(verifyOf(c))); got != "valid" {
		t.Fatalf("the certificate is %s", got)
	}
	r.cloud.Hold()
	open := messages.OpenSession{Thing: pump, Certificate: c.id, Broker: broker}
	yes := r.put(open)
	r.until("asked once", func() bool { return r.cloud.Waiting() == 1 })
	r.cloud.Detach(pump, c.id)
	no := r.put(open)
	r.until("asked twice", func() bool { return r.cloud.Waiting() == 2 })
	r.log.Hold()
	other := r.put(messages.RecordDenial{Known: true, Denial: &messages.AccessDenied{Thing: string(pump)}})
	r.until("it waits for the log", func() bool { return r.log.Holds(messages.KindAccessDenied) })
	r.cloud.Release() // the mailbox has both before the log's word
	r.log.Release()
	r.reply(other)
	for what, w := range map[string]<-chan messages.Reply{"yes": yes, "no": no} {
		if got := code(r.reply(w)); got == "session" {
			t.Errorf("the %s gave a session", what)
		}
	}
	if n := len(r.cloud.Asked()); n != 4 { // the certificate, both, and the first anew
		t.Errorf("the cloud was asked %d times, want 4", n)
	}
	if kinds := r.kinds(messages.DeviceStream(pump)); len(kinds) != 1 {
		t.Errorf("left %v, want the denial alone", kinds)
	}
}

// TestSameMomentIsNotALoop: refused and confirmed within one millisecond.
func TestSameMomentIsNotALoop(t *testing.T) {
	r := newRig(t)
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	r.cloud.Script(messages.CloudConfirmed, messages.CloudDenied, messages.CloudConfirmed)
	for i, want := range []string{"valid", "invalid", "valid"} {
		if got := code(r.do(verifyOf(c))); got != want {
			t.Errorf("answer %d is %s, want %s", i, got, want)
		}
	}
	if n := len(r.cloud.Asked()); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

// TestRevocationClosesAllHolders: what the certificate's entity learns ends the sessions
// of every thing that holds it: at once in the read models, and for good in the log.
func TestRevocationClosesAllHolders(t *testing.T) {
	r := newRig(t)
	r.policy()
	c := certificate(t, "shared")
	r.cloud.Register(c.id, pump, valve)
	var tokens []messages.Token
	for _, thing := range []messages.ThingName{pump, valve} {
		got, token := r.connect(thing, c)
		if got != "ok" {
			t.Fatal(got)
		}
		tokens = append(tokens, token)
	}
	_, bystander := r.join("bystander")
	r.cloud.Revoke(c.id)
	if got := code(r.do(messages.RecheckCertificate{Certificate: c.id})); got != "denied" {
		t.Errorf("recheck: %s", got)
	}
	for i, token := range tokens {
		if r.allowed(token) {
			t.Errorf("session %d is allowed after the reply", i)
		}
	}
	for _, thing := range []messages.ThingName{pump, valve} {
		r.until("the close is in the log", func() bool {
			return slices.Contains(r.kinds(messages.DeviceStream(thing)), messages.KindSessionClosed)
		})
	}
	if !r.allowed(bystander) {
		t.Error("a bystander's session closed")
	}
	for range tokens {
		if why := r.heard(); why != "CLOSE_CERTIFICATE_REFUSED" {
			t.Errorf("brokers heard %s", why)
		}
	}
	r.restart()
	for i, token := range tokens {
		if r.allowed(token) {
			t.Errorf("session %d is allowed after a restart", i)
		}
	}
}

// TestLostCloseIsUnsafeForNobody: the process ends between the refusal and the closing
// of the sessions it told of; the next one refuses them from the log alone.
func TestLostCloseIsUnsafeForNobody(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	r.cloud.Revoke(c.id)
	version, err := r.log.Version(messages.CertificateStream(c.id))
	if err != nil {
		t.Fatal(err)
	}
	r.log.Hold()
	recheck := r.put(messages.RecheckCertificate{Certificate: c.id})
	r.batchWith(messages.KindCertificateRefused)
	r.log.Commit() // the refusal is durable, and nothing after it
	r.reply(recheck)
	r.batchWith(messages.KindSessionClosed)
	if v, _ := r.log.Version(messages.CertificateStream(c.id)); v != version+1 {
		t.Fatalf("the refusal is not in the log")
	}
	if slices.Contains(r.kinds(messages.DeviceStream(pump)), messages.KindSessionClosed) {
		t.Fatal("the close was not lost: mend this test")
	}
	old := r.log
	r.restart()
	if r.allowed(token) {
		t.Error("allowed by the next process")
	}
	if got, _ := r.connect(pump, c); got != "InvalidCredential" {
		t.Errorf("connects: %s", got)
	}
	r.cloud.Register(c.id, pump)
	if got, _ := r.connect(pump, c); got != "ok" || r.allowed(token) {
		t.Errorf("verified again: %s, the old token is allowed: %v", got, r.allowed(token))
	}
	old.Release()
}

// TestParity: with sessions.closeOnRevoke off a revocation is felt at the next
// authentication only (vectors/api-sessions-metrics, "certificate revoked after create").
func TestParity(t *testing.T) {
	r := newRig(t)
	r.policy()
	if got := code(r.do(messages.ReplaceConfig{Document: []byte(`{"sessions":{"closeOnRevoke":false}}`)})); got != "replaced" {
		t.Fatal(got)
	}
	c, token := r.join(pump)
	r.cloud.Revoke(c.id)
	r.do(messages.RecheckCertificate{Certificate: c.id})
	if !r.allowed(token) {
		t.Error("the session ended")
	}
	if got, _ := r.connect(pump, c); got != "InvalidCredential" {
		t.Errorf("connects again: %s", got)
	}
	r.restart()
	if !r.allowed(token) {
		t.Error("the session ended with the process")
	}
}

func (r *rig) keeper(recheck time.Duration) *Keeper {
	k := NewKeeper(r.sys, r.views, r.clock, recheck, nil)
	k.Start()
	r.t.Cleanup(k.Close)
	return k
}

// pass lets time go by second by second, with peace between the steps.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	for range d / time.Second {
		r.clock.Advance(time.Second)
		r.atRest()
	}
}

// TestKeeperRenewsBeforeTrustEnds: a device that stays connected stays trusted while the
// cloud can be asked, without an event for every question.
func TestKeeperRenewsBeforeTrustEnds(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	r.keeper(0)
	for i := range 600 {
		r.pass(time.Second)
		if !r.allowed(token) {
			t.Fatalf("denied after %d seconds", i+1)
		}
	}
	if n := len(r.cloud.Asked()); n > 2+2*2*10+4 {
		t.Errorf("the cloud was asked %d times in ten minutes", n)
	}
	if n := len(r.kinds(messages.DeviceStream(pump))); n > 2+2*10+2 {
		t.Errorf("%d events in ten minutes", n)
	}
}

// TestKeeperAsksAgainForLackOfRoom: a recheck that the queue to the cloud has no room for, or
// that waited in it for too long, is put again at once when there is some, however little is left of the trust.
func TestKeeperAsksAgainForLackOfRoom(t *testing.T) {
	for name, crowd := range map[string]func(c *actorstest.Cloud, full bool){
		"no room": (*actorstest.Cloud).SetBusy,
		"never its turn": func(c *actorstest.Cloud, full bool) {
			c.SetFailure(map[bool]messages.CloudFailure{true: messages.FailureNotAsked}[full])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.policy()
			_, token := r.join(pump)
			r.keeper(0)
			crowd(r.cloud, true)
			r.pass(54 * time.Second) // of the minute for which trust counts
			crowd(r.cloud, false)
			for i := range 10 {
				r.pass(time.Second)
				if !r.allowed(token) {
					t.Fatalf("trust lapsed %d seconds after there was room to ask", i+1)
				}
			}
		})
	}
}

// TestKeeperNoticesRevocation within the interval that was set.
func TestKeeperNoticesRevocation(t *testing.T) {
	for name, take := range map[string]func(r *rig, c identity){
		"revoked":  func(r *rig, c identity) { r.cloud.Revoke(c.id) },
		"detached": func(r *rig, c identity) { r.cloud.Detach(pump, c.id) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.policy()
			c, token := r.join(pump)
			r.keeper(500 * time.Millisecond)
			take(r, c)
			r.clock.Advance(time.Second)
			r.until("the session has ended", func() bool { return !r.allowed(token) })
			if got, _ := r.connect(pump, c); got != "InvalidCredential" {
				t.Errorf("connects again: %s", got)
			}
			r.atRest()
		})
	}
}

// TestKeeperAsksOnce about the same while the answer is out, however long that takes.
func TestKeeperAsksOnce(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.join(pump)
	r.cloud.Hold()
	r.keeper(time.Second)
	before := len(r.cloud.Asked())
	for range 30 {
		r.clock.Advance(time.Second)
	}
	r.until("both are asked", func() bool { return len(r.cloud.Asked()) >= before+2 })
	if n := len(r.cloud.Asked()) - before; n != 2 {
		t.Errorf("%d questions are out, want one about the certificate and one about the attachment", n)
	}
	r.cloud.Release()
	r.atRest()
}

// TestKeeperClosesLapsed: offline, when trust ends; the device's log says so.
func TestKeeperClosesLapsed(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	r.sys.SetNetwork(false)
	r.cloud.SetSilent(true)
	r.keeper(0)
	r.pass(59 * time.Second)
	if !r.allowed(token) {
		t.Error("denied before trust ended")
	}
	r.pass(2 * time.Second)
	if why := r.heard(); why != "CLOSE_TRUST_LAPSED" || r.allowed(token) {
		t.Errorf("closed for %s, allowed %v", why, r.allowed(token))
	}
	if !slices.Contains(r.kinds(messages.DeviceStream(pump)), messages.KindSessionClosed) {
		t.Error("the log does not say so")
	}
}

// TestKeeperTakesSilenceForNoAnswer: the link is up, the cloud is not: trust counts until
// it ends, then the sessions close.
func TestKeeperTakesSilenceForNoAnswer(t *testing.T) {
	r := newRig(t)
	r.policy()
	_, token := r.join(pump)
	r.cloud.SetSilent(true)
	r.keeper(0)
	r.pass(59 * time.Second)
	if !r.allowed(token) {
		t.Error("denied before trust ended")
	}
	r.pass(20 * time.Second)
	if why := r.heard(); why != "CLOSE_TRUST_LAPSED" {
		t.Errorf("closed for %s", why)
	}
}

// TestKeeperClosesExpired, also online and long before anybody would be asked again
// (reliability spec, B5).
func TestKeeperClosesExpired(t *testing.T) {
	r := newRig(t)
	r.views.SetTrustDurationMs((24 * time.Hour).Milliseconds())
	r.policy()
	c := certificateFor(t, "short", noon.Add(-time.Hour), noon.Add(10*time.Second))
	r.cloud.Register(c.id, pump)
	got, token := r.connect(pump, c)
	if got != "ok" {
		t.Fatal(got)
	}
	r.keeper(0)
	r.pass(9 * time.Second)
	if !r.allowed(token) {
		t.Error("denied before notAfter")
	}
	r.pass(time.Second)
	if !r.allowed(token) {
		t.Error("denied at notAfter, which still is valid (RFC 5280, 4.1.2.5)")
	}
	r.clock.Advance(time.Millisecond)
	if r.allowed(token) {
		t.Error("allowed after notAfter")
	}
	r.clock.Advance(time.Second)
	if why := r.heard(); why != "CLOSE_CERTIFICATE_EXPIRED" {
		t.Errorf("closed for %s", why)
	}
	r.atRest()
}

// TestKeeperStops: after Close no step runs, also one that was about to.
func TestKeeperStops(t *testing.T) {
	r := newRig(t)
	k := r.keeper(0)
	k.Close()
	k.Close()
	r.atRest()
	n := len(r.log.Batches())
	if r.clock.Timers() != 0 {
		t.Errorf("%d timers wait", r.clock.Timers())
	}
	k.run() // the timer fired while Close held it back
	r.atRest()
	if len(r.log.Batches()) != n || r.clock.Timers() != 0 {
		t.Error("a step ran after Close")
	}
}
