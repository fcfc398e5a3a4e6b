package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
	"github.com/gatehouse-edge/gatehouse/projections"
)

const pendingPolicy = `{"definitions":{
	"g":{"selectionRule":"thingName: pump-*","policyName":"p"},
	"pending":{"selectionRule":"thingName: pump-*","policyName":"q"}},"policies":{
	"p":{"s":{"operations":["mqtt:connect","mqtt:publish"],"resources":["mqtt:clientId:*","mqtt:topic:pumps/*"]}},
	"q":{"s":{"operations":["mqtt:connect","mqtt:publish"],"resources":["mqtt:clientId:*","mqtt:topic:hello"]}}}}`

// nobody is a registrar that cannot decide.
type nobody struct{}

func (nobody) Register(context.Context, registration.Candidate) (registration.Outcome, error) {
	return registration.Outcome{}, errors.New("not now")
}

// fleetAuthority makes an authority and a device's certificate that it signed.
func fleetAuthority(t *testing.T, device string) (ca *x509.Certificate, leaf []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(serial int64, name string, authority bool, parent *x509.Certificate) []byte {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: authority, BasicConstraintsValid: authority,
			NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ca, err = x509.ParseCertificate(sign(1, "Fleet CA", true, nil))
	if err != nil {
		t.Fatal(err)
	}
	return ca, sign(2, device, false, ca)
}

// TestPendingAtTheGate: a broker that decides by itself is told what pending devices may,
// until when, and nothing of the device's other groups; and a device that is being
// registered is told to come again.
func TestPendingAtTheGate(t *testing.T) {
	h := newHouse(t)
	ca, leaf := fleetAuthority(t, "pump-1")
	authorities, err := registration.NewAuthorities([]*x509.Certificate{ca})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := registration.Compile(registration.Config{Rules: []registration.Rule{{Name: "fleet", Thing: registration.Thing{Name: "${subject.commonName}"}}}})
	if err != nil {
		t.Fatal(err)
	}
	enroller := actors.NewEnroller(actors.EnrollerConfig{
		System: h.sys, Views: h.views, Clock: h.clock, Registrar: nobody{}, Authorities: authorities, Rules: rules,
		Offline: actors.OfflineRegistration{Enabled: true, PerHour: 5, Max: 5},
	})
	t.Cleanup(enroller.Close)
	if _, err := h.authenticate("b1", "pump-1", leaf); refusedAs(err) != "Pending" {
		t.Fatalf("with the cloud there: %v", err)
	}
	h.cloud.SetSilent(true)
	h.sys.SetNetwork(false)
	grant, err := h.authenticate("b1", "pump-1", leaf)
	if err != nil || grant.ConnectAuthorized {
		t.Fatalf("without a group of pending devices: %+v, %v", grant, err)
	}
	h.replace(pendingPolicy)
	grant, err = h.authenticate("b1", "pump-1", leaf)
	if err != nil || !grant.ConnectAuthorized {
		t.Fatalf("authenticate: %+v, %v", grant, err)
	}
	if got, want := fmt.Sprint(grant.Permissions), fmt.Sprint(permissionsOf(t, h.views)); got != want || len(grant.Permissions) != 4 {
		t.Errorf("permissions %s, want those of the group alone: %s", got, want)
	}
	if until := h.clock.Wall().Add(time.Minute); grant.ExpiresAt.After(until) { // the trust duration
		t.Errorf("it expires at %s, later than %s", grant.ExpiresAt, until)
	}
	for topic, want := range map[string]bool{"hello": true, "pumps/1": false} {
		if allowed, err := h.authorize("b1", grant.Token, "mqtt:topic:"+topic); err != nil || allowed != want {
			t.Errorf("publish to %s: %t, %v", topic, allowed, err)
		}
	}
	h.replace(policy) // which has no such group: it may not even be connected
	if grant, err := h.Permissions(callerOf("b1"), []byte(string(grant.Token))); err != nil || grant.ConnectAuthorized || len(grant.Permissions) != 0 {
		t.Errorf("permissions without the group: %+v, %v", grant, err)
	}
}

func permissionsOf(t *testing.T, v *projections.Views) any {
	t.Helper()
	return v.Policy().Alone("pump-1", "pending").Permissions()
}
