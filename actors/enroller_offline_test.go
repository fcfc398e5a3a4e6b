package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// TestOfflineAdmission: pending, in the one group, until the cloud has decided.
func TestOfflineAdmission(t *testing.T) {
	f := newFleet(t)
	f.cloudAway(true)
	c := f.ca.issue(t, string(pump))
	token := f.expectConnect(pump, c, "ok")
	if got := f.may(token); got != "b" {
		t.Errorf("it may publish to %q", got)
	}
	if v := f.views.Authorize("b2", []byte(string(token)), []byte("mqtt:publish"), []byte("mqtt:topic:b"), f.sys.Trust(), f.trust.NowMs()); v.Allowed {
		t.Error("another broker may use its token")
	}
	f.replace(strings.ReplaceAll(pendingPolicy, "mqtt:topic:b", "mqtt:topic:c"))
	if got := f.may(token); got != "c" {
		t.Errorf("by another policy it may publish to %q", got)
	}
	f.replace(allPolicy) // no such group
	if got := f.may(token); got != "" {
		t.Errorf("without a group of pending devices it may publish to %q", got)
	}
	other := f.ca.issue(t, string(valve))
	f.expectConnect(valve, other, "connect denied")
	f.replace(pendingPolicy)
	f.again(true)
	if got := f.may(token); got != "b" {
		t.Errorf("after a restart it may publish to %q", got)
	}

	f.cloudAway(false)
	f.enroller.Step()
	if got := f.heard(); got != "CLOSE_REGISTERED" {
		t.Fatalf("its session ended: %s", got)
	}
	f.idle()
	if got := f.may(token); got != "" {
		t.Errorf("its former session may publish to %q", got)
	}
	token = f.expectConnect(pump, c, "ok")
	if got := f.may(token); got != "a b" {
		t.Errorf("registered, it may publish to %q", got)
	}
	f.cloudAway(true)
	if got := f.may(f.expectConnect(pump, c, "ok")); got != "a b" {
		t.Errorf("registered, and the cloud away again, it may publish to %q", got)
	}
	kinds := f.kinds(messages.DeviceStream(pump))
	if countKind(kinds, messages.KindDevicePending) != 1 || countKind(kinds, messages.KindDeviceRegistered) != 1 || countKind(kinds, messages.KindPendingWithdrawn) != 0 {
		t.Errorf("on record: %v", kinds)
	}
}

// TestOfflineAdmissionWithAHangingCloud: a link that swallows what is sent keeps out nobody who
// may be admitted without the cloud; while the link is thought up it is waited for.
func TestOfflineAdmissionWithAHangingCloud(t *testing.T) {
	f := newFleet(t)
	f.cloud.Hold()
	c := f.ca.issue(t, string(pump))
	up := f.authenticate(pump, c)
	f.until("it is asked", func() bool { return f.cloud.Waiting() == 1 })
	f.clock.Advance(cloudPatience)
	select {
	case got := <-up:
		t.Errorf("with the link up: %s before the cloud spoke", got)
	default:
	}
	f.sys.SetNetwork(false)
	timers := f.clock.Timers()
	down := f.authenticate(pump, c)
	f.until("it is asked", func() bool { return f.cloud.Waiting() == 2 && f.clock.Timers() > timers })
	f.clock.Advance(cloudPatience)
	if got := f.answer(down); got != "ok" {
		t.Errorf("with the link down: %s, want ok", got)
	}
	f.cloud.Release() // a late no does nothing: when the link is back the registrar decides
	if got := f.answer(up); got == "ok" {
		t.Error("the one that waited for the cloud got in on its no")
	}
	if kinds := f.kinds(messages.DeviceStream(pump)); countKind(kinds, messages.KindDevicePending) != 1 || countKind(kinds, messages.KindPendingWithdrawn) != 0 {
		t.Errorf("on record: %v", kinds)
	}
}

// TestOfflineAdmissionEnds: whatever ends it ends the session at once, and the device is not
// admitted again.
func TestOfflineAdmissionEnds(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name string
		end  func(f *fleet, c identity)
		why  string
	}{
		{"the registrar says no", func(f *fleet, _ identity) {
			f.office.set(func(o *office) { o.denies = "revoked" })
			f.cloudAway(false)
		}, "CLOSE_PENDING_ENDED"},
		{"it is registered under another name", func(f *fleet, _ identity) {
			f.office.set(func(o *office) { o.renames = valve })
			f.cloudAway(false)
		}, "CLOSE_PENDING_ENDED"},
		{"the cloud does not vouch for what was accepted", func(f *fleet, c identity) {
			f.office.set(func(o *office) { o.cloud = actorstest.NewCloud() })
			f.cloudAway(false)
		}, "CLOSE_PENDING_ENDED"},
		{"the cloud vouches for the certificate, and it is not the thing's", func(f *fleet, c identity) {
			f.office.set(func(o *office) { o.cloud = actorstest.NewCloud() })
			f.cloud.Register(c.id, valve)
			f.cloudAway(false)
		}, "CLOSE_PENDING_ENDED"},
		{"quarantine", func(f *fleet, _ identity) { f.do(messages.QuarantineDevice{Thing: pump, Reason: "odd"}) }, "CLOSE_PENDING_ENDED"},
		{"quarantine, and release", func(f *fleet, _ identity) {
			f.do(messages.QuarantineDevice{Thing: pump, Reason: "odd"})
			f.do(messages.ReleaseDevice{Thing: pump})
		}, "CLOSE_PENDING_ENDED"},
		{"it is forgotten", func(f *fleet, _ identity) { f.do(messages.ForgetDevice{Thing: pump}) }, "CLOSE_FORGOTTEN"},
		{"offline registration is switched off", func(f *fleet, _ identity) {
			f.cfg.Offline.Enabled = false
			f.enroll()
			f.enroller.Step()
		}, "CLOSE_PENDING_ENDED"},
		{"its authority leaves the configuration", func(f *fleet, _ identity) {
			f.cfg.Authorities = registration.Authorities{}
			f.enroll()
			f.enroller.Step()
		}, "CLOSE_PENDING_ENDED"},
		{"the rules say no now", func(f *fleet, _ identity) {
			f.cfg.Rules = registration.Rules{}
			f.enroll()
			f.enroller.Step()
		}, "CLOSE_PENDING_ENDED"},
		{"nobody decides for a month", func(f *fleet, _ identity) {
			f.clock.Advance(31 * day)
			f.enroller.Step()
		}, "CLOSE_PENDING_ENDED"},
		{"its time is up", func(f *fleet, _ identity) {
			f.clock.Advance(day)
			NewKeeper(f.sys, f.views, f.clock, 0, nil).Step()
		}, "CLOSE_PENDING_ENDED"},
		{"its time is up, and the cloud there", func(f *fleet, _ identity) {
			f.office.set(func(o *office) { o.fails = errors.New("throttled") })
			f.cloudAway(false)
			f.clock.Advance(day)
			NewKeeper(f.sys, f.views, f.clock, 0, nil).Step()
		}, "CLOSE_PENDING_ENDED"},
	} {
		for _, closeOnRevoke := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, closeOnRevoke %t", c.name, closeOnRevoke), func(t *testing.T) {
				f := newFleet(t)
				config := fmt.Sprintf(`{"sessions":{"closeOnRevoke":%t},"security":{"clientDeviceTrustDurationMinutes":1440}}`, closeOnRevoke)
				if got := code(f.do(messages.ReplaceConfig{Document: []byte(config)})); got != "replaced" {
					t.Fatal(got)
				}
				f.cloudAway(true)
				cert := f.ca.issue(t, string(pump))
				token := f.expectConnect(pump, cert, "ok")
				f.clock.Advance(day/2 - time.Second)
				if got := f.may(token); got != "b" {
					t.Fatalf("it may publish to %q", got)
				}
				c.end(f, cert)
				if got := f.heard(); got != c.why {
					t.Errorf("its session ended: %s, want %s", got, c.why)
				}
				f.idle()
				if got := f.may(token); got != "" {
					t.Errorf("it may publish to %q", got)
				}
				f.cloudAway(true)
				f.expectConnect(pump, cert, "InvalidCredential")
				f.again(true)
				f.expectConnect(pump, cert, "InvalidCredential")
				if got := f.may(token); got != "" {
					t.Errorf("after a restart it may publish to %q", got)
				}
			})
		}
	}
}

// TestWithdrawingWaitsForNoTurn: what a configuration takes back ends at once, however many
// there are.
func TestWithdrawingWaitsForNoTurn(t *testing.T) {
	f := newFleet(t)
	f.cloudAway(true)
	var tokens []messages.Token
	for i := range 2 * settleMax {
		name := messages.ThingName(fmt.Sprintf("dev-%d", i))
		tokens = append(tokens, f.expectConnect(name, f.ca.issue(t, string(name)), "ok"))
	}
	f.cfg.Offline.Enabled = false
	f.enroll()
	f.enroller.Step()
	f.atRest()
	for i, token := range tokens {
		if got := f.may(token); got != "" {
			t.Errorf("dev-%d may publish to %q", i, got)
		}
	}
	if list := f.views.PendingDevices(); len(list) != 0 {
		t.Errorf("%d are pending still", len(list))
	}
}

// TestOfflineLimits: as many in an hour, and at once, as the configuration says, whoever
// comes at the same time, and also over a restart.
func TestOfflineLimits(t *testing.T) {
	f := newFleet(t)
	f.cloudAway(true)
	certs := make([]identity, 70)
	for i := range certs {
		certs[i] = f.ca.issue(t, fmt.Sprintf("dev-%d", i))
	}
	burst := func(from, to int) (in []int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := from; i < to; i++ {
			wg.Add(1)
			f.access.Authenticate(context.Background(), messages.Cause{Broker: broker}, fmt.Sprintf("dev-%d", i), certs[i].der, func(_ messages.SessionReady, ok bool, err error) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				switch {
				case ok:
					in = append(in, i)
				case code(err) != "Pending":
					t.Errorf("dev-%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		return in
	}
	first := burst(0, 40)
	if len(first) != 10 {
		t.Fatalf("%d were admitted, 10 an hour may be", len(first))
	}
	f.again(true)
	if more := burst(40, 60); len(more) != 0 {
		t.Errorf("%d more were admitted after a restart", len(more))
	}
	name := messages.ThingName(fmt.Sprintf("dev-%d", first[0]))
	f.expectConnect(name, certs[first[0]], "ok") // who is pending needs no room
	f.clock.Advance(time.Hour)
	if more := burst(40, 60); len(more) != 5 {
		t.Errorf("an hour later %d more were admitted, 15 may be pending", len(more))
	}
	f.cloudAway(false)
	for f.enroller.Step(); len(f.views.PendingDevices()) > 0; f.enroller.Step() {
		f.clock.Advance(time.Second)
		f.idle()
	}
	f.cloudAway(true)
	f.clock.Advance(time.Hour)
	if more := burst(60, 70); len(more) == 0 {
		t.Error("nobody was admitted when all were settled")
	}
}

// TestOfflineDisabled is the default.
func TestOfflineDisabled(t *testing.T) {
	f := newFleet(t, func(c *EnrollerConfig) { c.Offline = OfflineRegistration{} })
	f.cloudAway(true)
	f.expectConnect(pump, f.ca.issue(t, string(pump)), "InvalidCredential")
	f.sys.SetNetwork(true) // there, and silent: no reason to admit anybody
	g := newFleet(t)
	g.cloud.SetSilent(true)
	g.expectConnect(pump, g.ca.issue(t, string(pump)), "InvalidCredential")
	if held, _, _ := g.views.PendingCount(g.trust.NowMs(), nil); held != 0 {
		t.Errorf("%d are pending", held)
	}
}

// TestOfflineClocks: what is admitted counts by a clock that nobody doubts, in its own time.
func TestOfflineClocks(t *testing.T) {
	f := newFleet(t)
	f.budgetMs = time.Minute.Milliseconds()
	f.do(messages.MarkClock{Mark: f.trust.Mark()})
	f.cloudAway(true)
	c, d := f.ca.issue(t, string(pump)), f.ca.issue(t, string(valve))
	token := f.expectConnect(pump, c, "ok")
	f.clock.SetSynced(false)
	f.clock.Reboot(f.clock.Wall())
	f.again(true)
	if got := f.may(token); got != "" {
		t.Errorf("nobody knows the time, and it may publish to %q", got)
	}
	f.expectConnect(pump, c, "InvalidCredential")
	f.expectConnect(valve, d, "InvalidCredential")
	f.clock.SetSynced(true)
	f.trust.Step()
	if got := f.may(token); got != "b" {
		t.Errorf("the time is known, and it may publish to %q", got)
	}
	f.clock.Advance(time.Minute)
	if got := f.may(token); got != "" {
		t.Errorf("beyond the trust duration it may publish to %q", got)
	}
}

// dying is a log that stops after some appends to a stream: the process is as good as dead.
type dying struct {
	*actorstest.Log
	mu       sync.Mutex
	stream   messages.StreamID
	left     int
	swallows bool // the last append is durable, and its word is lost
}

func (l *dying) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	l.mu.Lock()
	if _, ok := b.Stream.Certificate(); ok || b.Stream == l.stream {
		l.left--
	}
	left := l.left
	l.mu.Unlock()
	switch {
	case left >= 0:
		l.Log.Append(b, done)
	case left == -1 && l.swallows:
		l.Log.Append(b, func([]messages.Record, error) { done(nil, eventlog.ErrClosed) })
	default:
		done(nil, eventlog.ErrClosed)
	}
}

// TestKilledWhileSettling: after each append, and with its word lost: what is on record is
// taken up again, nobody has more rights than that says, and in the end the device is
// registered, or denied, once.
func TestKilledWhileSettling(t *testing.T) {
	for _, denies := range []string{"", "revoked"} {
		for _, swallows := range []bool{false, true} {
			for n := range 6 {
				t.Run(fmt.Sprintf("denied %t, word lost %t, after %d appends", denies != "", swallows, n), func(t *testing.T) {
					f := newFleet(t)
					f.office.set(func(o *office) { o.denies = denies })
					c := f.ca.issue(t, string(pump))
					log := &dying{Log: f.log, stream: messages.DeviceStream(pump), left: n, swallows: swallows}
					f.enroller.Close()
					f.restart(func(cfg *Config) { log.Log = f.log; cfg.Log = log })
					f.enroll()
					f.cloudAway(true)
					_, token := f.connect(pump, c)
					for range 3 {
						f.cloudAway(false)
						f.enroller.Step()
						f.idle()
						if got := f.may(token); strings.Contains(got, "a") {
							t.Fatalf("its pending session may publish to %q", got)
						}
						f.clock.Advance(tryAgainMax)
					}

					f.log = log.Log
					f.again(false)
					if got := f.may(token); strings.Contains(got, "a") {
						t.Fatalf("after the restart its pending session may publish to %q", got)
					}
					for range 3 {
						f.enroller.Step()
						f.idle()
						f.clock.Advance(tryAgainMax)
					}
					if list := f.views.PendingDevices(); len(list) != 0 {
						t.Fatalf("pending still: %+v", list)
					}
					kinds := f.kinds(messages.DeviceStream(pump))
					if countKind(kinds, messages.KindDevicePending) > 1 || countKind(kinds, messages.KindDeviceRegistered) > 1 || countKind(kinds, messages.KindPendingWithdrawn) > 1 {
						t.Errorf("on record: %v", kinds)
					}
					if denies == "" {
						for f.clock.Advance(comeAgain); ; f.clock.Advance(comeAgain) {
							if got, _ := f.connect(pump, c); got == "ok" {
								return
							} else if got != "Pending" {
								t.Fatalf("it connects: %s", got)
							}
							f.idle()
						}
					}
					f.cloudAway(true)
					if countKind(kinds, messages.KindDevicePending) > 0 {
						f.expectConnect(pump, c, "InvalidCredential")
					}
				})
			}
		}
	}
}
