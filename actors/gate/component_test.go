package gate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
)

// TestComponentAtTheGate: an internal component asks as brokers of the reference do, with
// verify and token, and for each action.
func TestComponentAtTheGate(t *testing.T) {
	h := newHouse(t)
	authority, err := actors.StartAuthority(t.Context(), actors.AuthorityConfig{
		System: h.sys, Keys: keys.NewSeeded([32]byte{1}), Clock: h.clock, Settings: func() actors.AuthoritySettings {
			return actors.AuthoritySettings{Type: ca.TypeECDSAP256, ServerValidity: time.Hour, ClientValidity: time.Hour}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(authority.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.IssueComponent(t.Context(), "aws.Bridge", key.Public(), time.Hour, "first")
	if err != nil {
		t.Fatal(err)
	}
	caller := brokers.Caller{Broker: "b1", Request: "r1"}
	answers := make(chan error, 1)
	answer := func() error {
		select {
		case err := <-answers:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
			return nil
		}
	}
	var valid bool
	h.VerifyIdentity(caller, issued.Certificate, func(v bool, err error) { valid = v; answers <- err })
	if err := answer(); err != nil || !valid {
		t.Fatalf("verify: %t, %v", valid, err)
	}
	var s brokers.Session
	h.OpenSession(caller, "", issued.Certificate, func(opened brokers.Session, err error) { s = opened; answers <- err })
	if err := answer(); err != nil || s.Thing != "" {
		t.Fatalf("open: %+v, %v", s, err)
	}
	if allowed, err := h.authorize("b1", s.Token, "mqtt:topic:anything/at/all"); err != nil || !allowed {
		t.Errorf("authorize: %t, %v", allowed, err)
	}
	if _, err := h.authorize("b2", s.Token, "mqtt:topic:a"); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("another broker: %v", err)
	}
	if grant, err := h.Permissions(caller, []byte(string(s.Token))); refusedAs(err) != "InvalidArguments" || grant.ConnectAuthorized {
		t.Errorf("permissions: %+v, %v", grant, err)
	}
	if _, err := h.authenticate("b1", "pump-1", issued.Certificate); refusedAs(err) != "InvalidCredential" {
		t.Errorf("authenticate: %v", err)
	}
	h.CloseSession(caller, []byte(string(s.Token)), func(err error) { answers <- err })
	if err := answer(); err != nil {
		t.Error(err)
	}
	if _, err := h.authorize("b1", s.Token, "mqtt:topic:a"); refusedAs(err) != "InvalidClientDeviceAuthToken" {
		t.Errorf("after the close: %v", err)
	}
}
