package actors

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// authenticate asks as a broker does, and does not wait.
func (r *rig) authenticate(thing messages.ThingName, c identity) <-chan string {
	answers := make(chan string, 2)
	r.access.Authenticate(r.t.Context(), messages.Cause{Broker: broker}, string(thing), c.der, func(_ messages.SessionReady, ok bool, err error) {
		if err == nil && !ok {
			answers <- "connect denied"
			return
		}
		answers <- refusalCode(err)
	})
	return answers
}

func (r *rig) answer(answers <-chan string) string {
	r.t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(patience):
		r.t.Fatal("no answer")
		return ""
	}
}

// TestHangingCloud: a cloud that takes the question and says nothing does not keep out a
// device that may come in without it: it has its answer within two seconds (reliability
// spec 2.3, D1c). Who needs the cloud waits for it.
func TestHangingCloud(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, _ := r.join(pump)
	r.cloud.Hold()
	start := r.clock.Boot()
	known := r.authenticate(pump, c)
	for question := range 2 {
		r.until("it is asked", func() bool { return r.cloud.Waiting() == question+1 && r.clock.Timers() == 1 })
		r.clock.Advance(cloudPatience)
	}
	if got := r.answer(known); got != "ok" {
		t.Errorf("a known device: %s, want ok", got)
	}
	if took := r.clock.Boot() - start; took >= 2*time.Second {
		t.Errorf("it took %v, want less than two seconds", took)
	}
	stranger := certificate(t, "valve-1")
	r.cloud.Register(stranger.id, valve)
	unknown := r.authenticate(valve, stranger)
	r.until("the stranger is asked about", func() bool { return r.cloud.Waiting() == 3 })
	r.clock.Advance(2 * time.Second)
	select {
	case got := <-unknown:
		t.Errorf("a stranger got %s before the cloud spoke", got)
	default:
	}
	sessions := r.views.Counts().Sessions
	r.cloud.Release() // late yeses change nothing
	if got := r.answer(unknown); got != "ok" {
		t.Errorf("the stranger: %s, want ok", got)
	}
	r.atRest()
	if n := r.views.Counts().Sessions; n != sessions+1 {
		t.Errorf("%d sessions, want one more than %d", n, sessions)
	}
	if n := r.clock.Timers(); n != 0 {
		t.Errorf("%d timers are left", n)
	}
}

// crowded is a cloud whose queue is full while it is told so.
type crowded struct {
	Cloud
	full atomic.Bool
}

func (c *crowded) Ask(q messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	if c.full.Load() {
		return messages.Refuse(messages.RefusedBusy, "unable to queue: full")
	}
	return c.Cloud.Ask(q, done)
}

// TestFullQueue: a fleet that comes back at once is let in by what is stored; who needs
// the cloud is told to come again, which is not a deny.
func TestFullQueue(t *testing.T) {
	cloud := &crowded{}
	r := newRig(t, func(c *Config) { cloud.Cloud, c.Cloud = c.Cloud, cloud })
	r.policy()
	c, _ := r.join(pump)
	cloud.full.Store(true)
	if got := r.answer(r.authenticate(pump, c)); got != "ok" {
		t.Errorf("a known device: %s, want ok", got)
	}
	if got := r.answer(r.authenticate(valve, certificate(t, "valve-1"))); got != "Service" {
		t.Errorf("a stranger: %s, want Service", got)
	}
	r.clock.Advance(time.Duration(r.views.TrustDurationMs()+1) * time.Millisecond)
	if got := r.answer(r.authenticate(pump, c)); got != "Service" {
		t.Errorf("a known device whose trust has lapsed: %s, want Service", got)
	}
	if got := r.kinds(messages.CertificateStream(c.id)); slices.Contains(got, messages.KindCertificateRefused) {
		t.Error("nobody said no, and the certificate is forgotten")
	}
}

// TestLateNo: a no that came too late for the device's answer counts, without another
// question, which may get no answer.
func TestLateNo(t *testing.T) {
	for _, what := range []string{"certificate", "attachment"} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.policy()
			c, before := r.join(pump)
			want := messages.CloseReason_CLOSE_CERTIFICATE_REFUSED.String()
			if what == "certificate" {
				r.cloud.Revoke(c.id)
			} else {
				r.cloud.Detach(pump, c.id)
				want = messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN.String()
			}
			r.cloud.Hold()
			answers := r.authenticate(pump, c)
			for question := range 2 {
				r.until("it is asked", func() bool { return r.cloud.Waiting() == question+1 && r.clock.Timers() == 1 })
				r.clock.Advance(cloudPatience)
			}
			if got := r.answer(answers); got != "ok" {
				t.Fatalf("while the cloud hangs: %s", got)
			}
			asked := len(r.cloud.Asked())
			r.cloud.Release()
			for range 2 { // both sessions of the device
				if got := r.heard(); got != want {
					t.Errorf("a session ended with %s, want %s", got, want)
				}
			}
			if r.allowed(before) {
				t.Error("allowed after the no")
			}
			if n := len(r.cloud.Asked()); n != asked {
				t.Errorf("%d questions, want %d", n, asked)
			}
		})
	}
}
