package actors

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// scenario is one of vectors/offline-trust.json; times are seconds from its start.
type scenario struct {
	Name         string
	TrustMinutes int64
	Events       []scenarioEvent
}

type scenarioEvent struct {
	Do, Cert, Thing, Status, Source, VerifySource string
	At                                            float64
	Up, Value                                     bool
	NotBefore, NotAfter                           *float64
	ExpectVerify                                  bool
	Expect                                        json.RawMessage
}

// differing are the vectors whose outcome is another here, and why.
var differing = map[string]string{}

// TestOfflineTrustVectors plays the vectors against the running system: every one that
// is not about the daily refresh or internal components, which are not here.
func TestOfflineTrustVectors(t *testing.T) {
	raw, err := os.ReadFile("../sim/scenario/testdata/offline-trust.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Scenarios []scenario }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, s := range file.Scenarios {
		if slices.ContainsFunc(s.Events, func(e scenarioEvent) bool {
			return e.Do == "refresh" || e.Do == "componentCert"
		}) {
			continue
		}
		played++
		t.Run(s.Name, func(t *testing.T) {
			failures := play(t, s)
			why, differs := differing[s.Name]
			if differs != (len(failures) > 0) {
				t.Errorf("differs on purpose: %q; failures: %q", why, failures)
			}
		})
	}
	if played != 34 {
		t.Errorf("%d vectors were played, want 34: the file has changed, mend this test", played)
	}
}

// play runs one scenario and returns what came out otherwise.
func play(t *testing.T, s scenario) (failures []string) {
	r := newRig(t)
	r.views.SetTrustDurationMs(s.TrustMinutes * time.Minute.Milliseconds())
	r.policy()
	certs := map[string]identity{"garbage": {der: []byte("garbage")}}
	cert := func(name string) identity {
		if c, ok := certs[name]; ok {
			return c
		}
		return certificateFor(t, "vector "+name, noon.Add(-time.Hour), noon.Add(100*365*24*time.Hour))
	}
	for _, e := range s.Events { // a certificate's validity is part of it from the start
		if e.Do == "certValidity" {
			after := func(seconds *float64) time.Time { return noon.Add(time.Duration(*seconds) * time.Second) }
			certs[e.Cert] = certificateFor(t, "vector "+e.Cert, after(e.NotBefore), after(e.NotAfter))
		}
	}
	expect := func(what, got, want string) {
		if got != want {
			failures = append(failures, fmt.Sprintf("%s: %s, want %s", what, got, want))
		}
	}
	verify := func(name string, want bool, source string) bool {
		v, err := r.verify(cert(name).der)
		if err != nil {
			t.Fatal(err)
		}
		expect("verify "+name, fmt.Sprint(v.Valid), fmt.Sprint(want))
		if from := map[string]messages.Source{"cloud": messages.Source_SOURCE_CLOUD, "local": messages.Source_SOURCE_LOCAL}[source]; from != 0 {
			expect("source of "+name, v.Source.String(), from.String())
		}
		return v.Valid
	}
	session := func(thing, name, want string) {
		_, err := r.open(thing, cert(name).der)
		got, known := map[string]string{"ok": "ok", "InvalidCredential": "denied", "Service": "service-error"}[refusalCode(err)]
		if !known {
			got = refusalCode(err)
		}
		expect("session "+thing, got, want)
	}
	text := func(raw json.RawMessage) (s string) {
		_ = json.Unmarshal(raw, &s)
		return s
	}
	for _, e := range s.Events {
		if at := noon.Add(time.Duration(e.At * float64(time.Second))); at.After(r.clock.Wall()) {
			r.clock.Advance(at.Sub(r.clock.Wall()))
		}
		switch e.Do {
		case "cloudCert":
			if e.Status == "ACTIVE" {
				r.cloud.Register(cert(e.Cert).id)
			}
		case "cloudAttach":
			r.cloud.Attach(messages.ThingName(e.Thing), cert(e.Cert).id)
		case "cloudDetach":
			r.cloud.Detach(messages.ThingName(e.Thing), cert(e.Cert).id)
		case "cloudReachable":
			r.cloud.SetSilent(!e.Value)
		case "network":
			r.sys.SetNetwork(e.Up)
		case "certValidity":
		case "verify":
			verify(e.Cert, string(e.Expect) == "true", e.Source)
		case "session":
			session(e.Thing, e.Cert, text(e.Expect))
		case "connect":
			if verify(e.Cert, e.ExpectVerify, e.VerifySource) {
				session(e.Thing, e.Cert, text(e.Expect))
			} else {
				expect("connect "+e.Thing, "denied", text(e.Expect))
			}
		case "state":
			r.atRest()
			failures = append(failures, r.stateDiffers(e.Expect, cert)...)
		default:
			t.Fatalf("event %q: unknown", e.Do)
		}
	}
	return failures
}

// stateDiffers compares what is stored with what the vector says is.
func (r *rig) stateDiffers(raw json.RawMessage, cert func(string) identity) (failures []string) {
	var want struct {
		Certs map[string]struct {
			Status        string
			LastUpdatedAt float64
		}
		Things map[string]map[string]float64
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		r.t.Fatal(err)
	}
	second := func(s float64) int64 { return noon.Add(time.Duration(s * float64(time.Second))).UnixMilli() }
	for name, c := range want.Certs {
		got := r.views.CertificateTrust(cert(name).id)
		if active := c.Status == "ACTIVE"; got.Verified != active || active && got.VerifiedMs != second(c.LastUpdatedAt) {
			failures = append(failures, fmt.Sprintf("certificate %s is %+v, want %+v", name, got, c))
		}
	}
	if n, active := r.views.Counts().Certificates, len(want.Certs); n > active && active == 0 {
		for _, name := range []string{"A", "B"} {
			if r.views.CertificateTrust(cert(name).id).Verified {
				failures = append(failures, "certificate "+name+" is verified, want none")
			}
		}
	}
	for thing, attachments := range want.Things {
		d, _ := r.views.Device(messages.ThingName(thing))
		got := map[messages.CertificateID]int64{}
		for _, a := range d.Attachments {
			got[a.Certificate] = a.ConfirmedMs
		}
		for name, s := range attachments {
			if got[cert(name).id] != second(s) {
				failures = append(failures, fmt.Sprintf("%s and %s: %d, want %d", thing, name, got[cert(name).id], second(s)))
			}
		}
		if len(got) != len(attachments) {
			failures = append(failures, fmt.Sprintf("%s has %d attachments, want %d", thing, len(got), len(attachments)))
		}
	}
	if len(want.Things) == 0 && len(r.views.Things()) != 0 {
		failures = append(failures, fmt.Sprintf("things %v, want none", r.views.Things()))
	}
	return failures
}
