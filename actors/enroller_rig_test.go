package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// pendingPolicy lets pending devices publish to b, and everybody else to a.
const pendingPolicy = `{"definitions":{
	"g":{"selectionRule":"thingName: *","policyName":"p"},
	"pending":{"selectionRule":"thingName: *","policyName":"q"}},
	"policies":{
	"p":{"s":{"operations":["mqtt:connect","mqtt:publish"],"resources":["mqtt:clientId:*","mqtt:topic:a"]}},
	"q":{"s":{"operations":["mqtt:connect","mqtt:publish"],"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}","mqtt:topic:b"]}}}}`

// authorityOf is an authority that signs devices' certificates.
type authorityOf struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials struct {
	sync.Mutex
	last int64
}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return big.NewInt(serials.last)
}

func newAuthority(t testing.TB, name string, until time.Time) *authorityOf {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authorityOf{cert, key}
}

// issue signs a certificate for name; change edits it.
func (a *authorityOf) issue(t testing.TB, name string, change ...func(*x509.Certificate)) identity {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(365 * 24 * time.Hour),
	}
	for _, edit := range change {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{der: der, id: messages.CertificateIDOf(der)}
}

// office is a registrar that registers in the rig's cloud what it accepts.
type office struct {
	mu      sync.Mutex
	cloud   *actorstest.Cloud
	calls   []registration.Candidate // guarded by mu, as all below
	denies  string
	fails   error
	renames messages.ThingName
	held    chan struct{} // not nil: Register waits until it is closed
}

func (o *office) Register(ctx context.Context, c registration.Candidate) (registration.Outcome, error) {
	o.mu.Lock()
	o.calls = append(o.calls, c)
	held, denies, fails, thing := o.held, o.denies, o.fails, c.Thing
	if o.renames != "" {
		thing = o.renames
	}
	o.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return registration.Outcome{}, ctx.Err()
		}
	}
	switch {
	case fails != nil:
		return registration.Outcome{}, fails
	case denies != "":
		return registration.Outcome{Rule: "fleet", Reason: denies}, nil
	}
	o.cloud.Register(c.Certificate, thing)
	return registration.Outcome{Status: registration.Accepted, Thing: thing, Rule: "fleet"}, nil
}

func (o *office) set(edit func(*office)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	edit(o)
}

func (o *office) asked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

// fleet is a rig whose devices may register.
type fleet struct {
	*rig
	ca       *authorityOf
	office   *office
	enroller *Enroller
	cfg      EnrollerConfig
}

func newFleet(t testing.TB, change ...func(*EnrollerConfig)) *fleet {
	t.Helper()
	f := &fleet{rig: newRig(t), ca: newAuthority(t, "Fleet CA", noon.Add(10*365*24*time.Hour))}
	f.office = &office{cloud: f.cloud}
	authorities, err := registration.NewAuthorities([]*x509.Certificate{f.ca.cert})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := registration.Compile(registration.Config{PerHour: 20, Rules: []registration.Rule{
		{Name: "no guests", Effect: registration.EffectDeny, Match: registration.Match{Subject: map[string][]string{"commonName": {"guest-*"}}}},
		{Name: "fleet", Thing: registration.Thing{Name: "${subject.commonName}"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.cfg = EnrollerConfig{
		Authorities: authorities, Rules: rules, Registrar: f.office, Clock: f.clock,
		Offline: OfflineRegistration{Enabled: true, PerHour: 10, Max: 15},
	}
	for _, edit := range change {
		edit(&f.cfg)
	}
	f.enroll()
	f.replace(pendingPolicy)
	return f
}

// enroll starts an enroller on the system as it is now.
func (f *fleet) enroll() {
	cfg := f.cfg
	cfg.System, cfg.Views = f.sys, f.views
	f.enroller = NewEnroller(cfg)
	f.t.Cleanup(f.enroller.Close)
}

func (f *fleet) replace(doc string) {
	f.t.Helper()
	if got := code(f.do(messages.ReplacePolicy{Document: []byte(doc), Origin: "test"})); got != "replaced" {
		f.t.Fatalf("policy: %s", got)
	}
}

// cloudAway cuts the link, or mends it.
func (f *fleet) cloudAway(away bool) {
	f.cloud.SetSilent(away)
	f.sys.SetNetwork(!away)
}

// again restarts the core; the link is as away says.
func (f *fleet) again(away bool) {
	f.t.Helper()
	f.enroller.Close()
	f.atRest() // or a denial that is being recorded is never answered
	f.restart(func(cfg *Config) {})
	f.sys.network.Store(!away)
	f.enroll()
}

// may says what a session may publish to.
func (f *fleet) may(token messages.Token) string {
	var list []string
	for _, topic := range []string{"a", "b", "c"} {
		v := f.views.Authorize(broker, []byte(string(token)), []byte("mqtt:publish"), []byte("mqtt:topic:"+topic), f.sys.Trust(), f.trust.NowMs())
		if v.Allowed {
			list = append(list, topic)
		}
	}
	return strings.Join(list, " ")
}

func (f *fleet) expectConnect(thing messages.ThingName, c identity, want string) messages.Token {
	f.t.Helper()
	got, token := f.connect(thing, c)
	if got != want {
		f.t.Fatalf("%s connects: %s, want %s", thing, got, want)
	}
	return token
}

// idle waits until nothing is being registered.
func (f *fleet) idle() {
	f.t.Helper()
	f.until("no registration is under way", func() bool {
		f.enroller.mu.Lock()
		defer f.enroller.mu.Unlock()
		for _, s := range f.enroller.settling {
			if s.out {
				return false
			}
		}
		return f.enroller.running == 0
	})
	f.atRest()
}
