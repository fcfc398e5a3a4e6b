package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

const policy = `{"definitions":{"g":{"selectionRule":"thingName: pump-*","policyName":"p"}},"policies":{"p":{"s":{
	"operations":["mqtt:connect","mqtt:publish"],
	"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}","mqtt:topic:pumps/*"]}}}}`

// house is a core on a log in memory, with a gate before it.
type house struct {
	*gate.Gate
	t     *testing.T
	sys   *actors.System
	log   *actorstest.Log
	cloud *actorstest.Cloud
	clock *actorstest.Clock
	views *projections.Views
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, cloud: actorstest.NewCloud(), clock: actorstest.NewClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))}
	views := projections.New(nil)
	h.views = views
	h.log = actorstest.NewLog(views.Apply)
	trust := actors.NewTrustClock(h.clock, actors.Anchor{})
	var err error
	if h.sys, err = actors.New(actors.Config{Log: h.log, Views: views, Cloud: h.cloud, Clock: trust}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.log.Release()
		if err := h.sys.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	views.Live(projections.Hooks{})
	h.Gate = gate.New(h.sys, views, trust, actors.NewDenials(h.sys, views.Known))
	h.replace(policy)
	return h
}

func (h *house) replace(doc string) {
	h.t.Helper()
	if _, err := h.sys.Do(h.t.Context(), messages.ReplacePolicy{Document: []byte(doc), Origin: "test"}, messages.Cause{}); err != nil {
		h.t.Fatal(err)
	}
}

func certificate(t *testing.T, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (h *house) authenticate(broker messages.BrokerID, clientID string, der []byte) (brokers.Grant, error) {
	h.t.Helper()
	type answer struct {
		grant brokers.Grant
		err   error
	}
	answers := make(chan answer, 1)
	h.Authenticate(brokers.Caller{Broker: broker, Request: "r1"}, clientID, der, func(g brokers.Grant, err error) { answers <- answer{g, err} })
	select {
	case a := <-answers:
		return a.grant, a.err
	case <-time.After(10 * time.Second):
		h.t.Fatal("no answer")
		return brokers.Grant{}, nil
	}
}

func (h *house) authorize(broker messages.BrokerID, token messages.Token, resource string) (bool, error) {
	v, err := h.Authorize(broker, []byte(string(token)), []byte("mqtt:publish"), []byte(resource))
	return v.Allowed, err
}

func callerOf(broker messages.BrokerID) brokers.Caller {
	return brokers.Caller{Broker: broker, Request: "r2"}
}

func refusedAs(err error) string {
	if r, ok := errors.AsType[*messages.Refusal](err); ok {
		return r.Code.String()
	}
	return "no refusal"
}

// TestGate follows a client through the gate: in, what it may do, out.
func TestGate(t *testing.T) {
	h := newHouse(t)
	der := certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7", "valve-1")
	g, err := h.authenticate("b1", "pump-7", der)
	if err != nil || !g.ConnectAuthorized || g.Token == "" || g.Thing != "pump-7" || g.DecisionID != "r1" || len(g.Permissions) == 0 {
		t.Fatalf("grant %+v, %v", g, err)
	}
	for resource, want := range map[string]bool{"mqtt:topic:pumps/7": true, "mqtt:topic:valves/1": false, "mqtt:topic:": false} {
		if got, err := h.authorize("b1", g.Token, resource); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", resource, got, err, want)
		}
	}
	if _, err := h.authorize("b2", g.Token, "mqtt:topic:pumps/7"); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("through another broker: %v", err)
	}
	if _, err := h.Permissions(brokers.Caller{Broker: "b2"}, []byte(string(g.Token))); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("permissions through another broker: %v", err)
	}
	if g, err := h.authenticate("b1", "valve-1", der); err != nil || g.ConnectAuthorized || g.Token != "" {
		t.Errorf("a device that may not connect: %+v, %v", g, err)
	}
	closed := make(chan error, 2)
	h.CloseSession(brokers.Caller{Broker: "b2"}, []byte(string(g.Token)), func(err error) { closed <- err })
	if err := <-closed; err != nil {
		t.Errorf("close by another broker is no error: %v", err)
	}
	if got, err := h.authorize("b1", g.Token, "mqtt:topic:pumps/7"); err != nil || !got {
		t.Errorf("another broker closed the session: %v", err)
	}
	h.CloseSession(brokers.Caller{Broker: "b1"}, []byte(string(g.Token)), func(err error) { closed <- err })
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := h.authorize("b1", g.Token, "mqtt:topic:pumps/7"); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("after close: %v", err)
	}
}

// TestPermissionsWhileThePolicyChanges: between the decision to replace the policy and
// its durability there is no list that would be right.
func TestPermissionsWhileThePolicyChanges(t *testing.T) {
	h := newHouse(t)
	der := certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7")
	g, err := h.authenticate("b1", "pump-7", der)
	if err != nil {
		t.Fatal(err)
	}
	caller := brokers.Caller{Broker: "b1"}
	h.log.Hold()
	done := make(chan struct{})
	h.sys.Submit(t.Context(), messages.ReplacePolicy{Document: []byte("{}"), Origin: "test"}, messages.Cause{}, func(messages.Reply) { close(done) })
	deadline := time.After(10 * time.Second)
	for allowed := true; allowed; { // the restriction is felt before it is durable
		select {
		case <-deadline:
			t.Fatal("the next policy is not felt")
		default:
			allowed, err = h.authorize("b1", g.Token, "mqtt:topic:pumps/7")
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := h.Permissions(caller, []byte(string(g.Token))); refusedAs(err) != "Busy" {
		t.Errorf("permissions meanwhile: %v, want Busy", err)
	}
	h.log.Release()
	<-done
	if after, err := h.Permissions(caller, []byte(string(g.Token))); err != nil || after.ConnectAuthorized || after.Token != "" || len(after.Permissions) != 0 {
		t.Errorf("under a policy that lets nobody connect: %+v, %v", after, err)
	}
}

// TestGrantOfAnEverlastingCertificate: the year 9999 with a long trust is more than a
// duration can say.
func TestGrantOfAnEverlastingCertificate(t *testing.T) {
	h := newHouse(t)
	if _, err := h.sys.Do(t.Context(), messages.ReplaceConfig{Document: []byte(`{"security":{"clientDeviceTrustDurationMinutes":2147483647}}`), Origin: "test"}, messages.Cause{}); err != nil {
		t.Fatal(err)
	}
	der := certificate(t, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7")
	g, err := h.authenticate("b1", "pump-7", der)
	if err != nil || !g.ExpiresAt.After(h.clock.Wall().Add(24*time.Hour)) {
		t.Errorf("expires %v, %v", g.ExpiresAt, err)
	}
}

// TestLapsedTrustGrantsNothing: the list of permissions is refused with the authorization.
func TestLapsedTrustGrantsNothing(t *testing.T) {
	h := newHouse(t)
	der := certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7")
	g, err := h.authenticate("b1", "pump-7", der)
	if err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(2 * time.Minute)
	if _, err := h.authorize("b1", g.Token, "mqtt:topic:pumps/7"); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("authorize: %v", err)
	}
	if _, err := h.Permissions(brokers.Caller{Broker: "b1"}, []byte(string(g.Token))); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("permissions: %v", err)
	}
}

// TestTheTimeLeapsUnderARequest: the cloud's answer to it tells that it is later than the
// core thought. The request has not waited for longer by that.
func TestTheTimeLeapsUnderARequest(t *testing.T) {
	h := newHouse(t)
	der := certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7")
	h.cloud.SetTime(func() time.Time { return h.clock.Wall().Add(20 * time.Minute) })
	if g, err := h.authenticate("b1", "pump-7", der); err != nil || !g.ConnectAuthorized {
		t.Errorf("authenticated %+v, %v", g, err)
	}
}

// TestNobodyWaitsAnyMore: a request that comes to be decided too late is not.
func TestNobodyWaitsAnyMore(t *testing.T) {
	h := newHouse(t)
	der := certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	h.cloud.Register(messages.CertificateIDOf(der), "pump-7")
	h.cloud.SetTime(func() time.Time { h.clock.Advance(6 * time.Second); return h.clock.Wall() })
	if g, err := h.authenticate("b1", "pump-7", der); refusedAs(err) != "Busy" {
		t.Errorf("authenticated %+v, %v; want Busy", g, err)
	}
}
