package actors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const bridge = messages.ComponentName("aws.greengrass.clientdevices.mqtt.Bridge")

// authority starts the local authority of the rig, with the keys of a store.
func (r *rig) authority(store keys.Keys) *Authority {
	r.t.Helper()
	a, err := StartAuthority(r.t.Context(), AuthorityConfig{
		System: r.sys, Keys: store, Clock: r.clock, Settings: func() AuthoritySettings {
			return AuthoritySettings{Type: ca.TypeECDSAP256, ServerValidity: 24 * time.Hour, ClientValidity: time.Hour}
		},
		Withdrawn: r.views.NoComponent,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(a.Close)
	return a
}

// issued makes a certificate of the authority for any use.
func issued(t *testing.T, a *Authority, usage ca.Usage, name string) []byte {
	t.Helper()
	a.turn.Lock()
	defer a.turn.Unlock()
	leaf, _, err := a.issue(t.Context(), order{
		issuer: a.book.Load().Authorities[0].ID, profile: ca.ProfileConfig{Usage: usage, Validity: time.Hour, KeyUsage: true},
		to: subscription{name, usage}, public: freshKey(t), reason: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Raw
}

func freshKey(t *testing.T) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

// TestInternalComponent: client-device-auth spec 4.1 as design section 14 limits it.
func TestInternalComponent(t *testing.T) {
	r := newRig(t)
	store := keys.NewSeeded([32]byte{1})
	a := r.authority(store)
	component, err := a.IssueComponent(t.Context(), bridge, freshKey(t), time.Hour, ca.ReasonFirst)
	der := component.Certificate
	if err != nil {
		t.Fatal(err)
	}
	r.cloud.SetSilent(true) // nobody asks it
	r.sys.SetNetwork(false)
	v, err := r.verify(der)
	if err != nil || !v.Valid || v.Component != bridge || v.Source != messages.Source_SOURCE_LOCAL {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	token, err := r.open("anything at all", der)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if !r.allowed(token) { // there is no policy
		t.Error("a component may not publish")
	}
	if asked := r.cloud.Asked(); len(asked) != 0 {
		t.Errorf("the cloud was asked %v", asked)
	}
	for _, stream := range []messages.StreamID{messages.DeviceStream("anything"), messages.CertificateStream(messages.CertificateIDOf(der))} {
		if got := r.kinds(stream); len(got) != 0 {
			t.Errorf("%s holds %v", stream, got)
		}
	}
	kinds := r.kinds(messages.StreamCA)
	if last := kinds[len(kinds)-3:]; last[0] != messages.KindCertificateOrdered || last[1] != messages.KindCertificateIssued || last[2] != messages.KindCertificateDelivered {
		t.Errorf("the authority's stream ends with %v", last)
	}

	r.atRest()
	r.restart() // the session is in the log
	if !r.allowed(token) {
		t.Error("after a restart the session is gone")
	}
	if v, err := r.verify(der); err != nil || v.Valid {
		t.Errorf("without an authority: %+v, %v", v, err)
	}
	r.authority(store)
	if v, err := r.verify(der); err != nil || !v.Valid {
		t.Errorf("with the authority of before: %+v, %v", v, err)
	}
	closed := make(chan error, 1)
	r.access.Close(t.Context(), messages.Cause{Broker: broker}, "", bridge, token.Digest(), func(err error) { closed <- err })
	if err := <-closed; err != nil || r.allowed(token) {
		t.Errorf("close: %v", err)
	}
	r.clock.Advance(time.Hour + time.Second)
	if v, err := r.verify(der); err != nil || v.Valid {
		t.Errorf("expired: %+v, %v", v, err)
	}
}

// TestNoInternalComponent: on any doubt it is none.
func TestNoInternalComponent(t *testing.T) {
	r := newRig(t)
	a := r.authority(keys.NewSeeded([32]byte{1}))
	other := newRig(t).authority(keys.NewSeeded([32]byte{2}))
	broker, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	entry := a.book.Load().Authorities[0]
	issuer, err := ca.ParseAuthority(entry.Chain...)
	if err != nil {
		t.Fatal(err)
	}
	any := func(usage x509.ExtKeyUsage, template x509.Certificate) []byte {
		template.SerialNumber, template.NotBefore, template.NotAfter = broker.Leaf().SerialNumber, noon.Add(-time.Hour), noon.Add(time.Hour)
		if usage >= 0 {
			template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, issuer.Certificate(), freshKey(t), a.signers[entry.ID])
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	named := x509.Certificate{RawSubject: broker.Leaf().RawSubject}
	unrecorded := x509.Certificate{RawSubject: broker.Leaf().RawSubject, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	for name, der := range map[string][]byte{
		"the broker's own server certificate":              broker.Leaf().Raw,
		"a server certificate":                             issued(t, a, ca.Server, string(bridge)),
		"one that serves, too":                             issued(t, a, ca.ClientAndServer, string(bridge)),
		"a name that is no component's":                    issued(t, a, ca.Client, "a name with spaces"),
		"another authority's":                              issued(t, other, ca.Client, string(bridge)),
		"the authority itself":                             issuer.Certificate().Raw,
		"one without a use":                                any(-1, named),
		"one for any use":                                  any(x509.ExtKeyUsageAny, named),
		"one whose subject is not of our making":           any(x509.ExtKeyUsageClientAuth, x509.Certificate{}),
		"signed by the authority's key, and not on record": any(x509.ExtKeyUsageClientAuth, unrecorded),
		"a device's":                                       certificate(t, "pump-7").der,
		"garbage":                                          []byte("garbage"),
		"nothing":                                          nil,
	} {
		if v, err := r.verify(der); err != nil || v.Valid || v.Component != "" {
			t.Errorf("%s: verify %+v, %v", name, v, err)
		}
		if _, err := r.open("pump-7", der); refusalCode(err) != "InvalidCredential" {
			t.Errorf("%s: open %v", name, err)
		}
	}

	component, err := a.IssueComponent(t.Context(), bridge, freshKey(t), time.Hour, ca.ReasonFirst)
	der := component.Certificate
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.connect(pump, identity{der: der, id: messages.CertificateIDOf(der)}); got != "InvalidCredential" {
		t.Errorf("authenticate, which is for devices: %s", got)
	}
	// In a machine whose time nobody knows its dates mean nothing.
	r.atRest()
	r.clock.Reboot(noon.Add(-365 * 24 * time.Hour))
	r.restart()
	r.authority(a.cfg.Keys)
	if v, err := r.verify(der); err != nil || v.Valid {
		t.Errorf("in doubt about the time: %+v, %v", v, err)
	}
	r.clock.SetWall(noon.Add(time.Minute))
	r.clock.SetSynced(true)
	r.trust.Step()
	if v, err := r.verify(der); err != nil || !v.Valid {
		t.Errorf("when the time is known again: %+v, %v", v, err)
	}
	// Who is on record as a device's is a device's: the cloud decides.
	id := messages.CertificateIDOf(der)
	if _, err := r.sys.Do(t.Context(), messages.VerifyCertificate{Certificate: id, DER: der, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}, messages.Cause{}); err != nil {
		t.Fatal(err)
	}
	if v, err := r.verify(der); err != nil || !v.Valid {
		t.Errorf("the cloud does not know it: %+v, %v", v, err)
	}
	r.cloud.Register(id)
	if _, err := r.sys.Do(t.Context(), messages.VerifyCertificate{Certificate: id, DER: der, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}, messages.Cause{}); err != nil {
		t.Fatal(err)
	}
	r.cloud.Revoke(id)
	if v, err := r.verify(der); err != nil || v.Valid || v.Component != "" {
		t.Errorf("a device's that was revoked: %+v, %v", v, err)
	}
}

// TestNoInternalComponentOnABudget: stored trust may count for less while nobody knows
// how long the machine was off. A certificate's dates cannot.
func TestNoInternalComponentOnABudget(t *testing.T) {
	r := newRig(t)
	a := r.authority(keys.NewSeeded([32]byte{1}))
	component, err := a.IssueComponent(t.Context(), bridge, freshKey(t), time.Hour, ca.ReasonFirst)
	der := component.Certificate
	if err != nil {
		t.Fatal(err)
	}
	token, err := r.open("", der)
	if err != nil {
		t.Fatal(err)
	}
	r.atRest()
	r.clock.Reboot(noon.Add(-365 * 24 * time.Hour))
	r.budgetMs = dayMs
	r.restart()
	r.views.SetTrustDurationMs(dayMs)
	mark := r.trust.Mark()
	if _, err := r.sys.Do(t.Context(), messages.MarkClock{Mark: mark}, messages.Cause{}); err != nil {
		t.Fatal(err)
	}
	r.trust.Recorded(mark)
	r.authority(a.cfg.Keys)
	if v, err := r.verify(der); err != nil || v.Valid || r.trust.State() != ClockBudget {
		t.Errorf("verify, and the clock is %s: %+v, %v", r.trust.State(), v, err)
	}
	if r.allowed(token) {
		t.Error("the session of before counts")
	}
}

// TestComponentIsWithdrawn: its certificates count no more from the decision on, also after a
// restart; one that is issued later does, and those of before do not with it.
func TestComponentIsWithdrawn(t *testing.T) {
	r := newRig(t)
	a := r.authority(keys.NewSeeded([32]byte{1}))
	issue := func() []byte {
		t.Helper()
		c, err := a.IssueComponent(t.Context(), bridge, freshKey(t), time.Hour, "operator: test")
		if err != nil {
			t.Fatal(err)
		}
		return c.Certificate
	}
	component := func(der []byte) bool {
		t.Helper()
		v, err := r.verify(der)
		if err != nil {
			t.Fatal(err)
		}
		return v.Component == bridge
	}
	if _, err := a.Withdraw(t.Context(), bridge, "operator: test"); !errors.Is(err, ErrNoComponent) {
		t.Errorf("nothing to take back: %v", err)
	}
	first, second := issue(), issue()
	token, err := r.open("", first)
	if err != nil || !component(second) {
		t.Fatal(err)
	}
	if n, err := a.Withdraw(t.Context(), bridge, "operator: it leaked"); err != nil || n != 2 {
		t.Errorf("%d certificates, %v", n, err)
	}
	if component(first) || component(second) || r.allowed(token) {
		t.Error("it is still a component")
	}
	if _, err := r.open("anything", first); refusalCode(err) != "InvalidCredential" {
		t.Errorf("open: %v", err)
	}
	r.atRest()
	r.restart()
	a = r.authority(a.cfg.Keys)
	if component(first) || component(second) || r.allowed(token) {
		t.Error("it is a component again after a restart")
	}
	for _, c := range a.Describe().Certificates {
		if c.Subscriber == string(bridge) && !c.Withdrawn {
			t.Errorf("described %+v", c)
		}
	}
	third := issue()
	if !component(third) || component(first) || component(second) {
		t.Error("given back: want the new certificate to count, and no other")
	}
	r.atRest()
	r.restart()
	a = r.authority(a.cfg.Keys)
	if !component(third) || component(second) {
		t.Error("after another restart")
	}
}

// TestWithdrawnCertificateIsNotHandedOutAgain: who asks for its key's certificate once more
// gets another.
func TestWithdrawnCertificateIsNotHandedOutAgain(t *testing.T) {
	r := newRig(t)
	a := r.authority(keys.NewSeeded([32]byte{1}))
	public := freshKey(t)
	subscribe := func() (serial string) {
		t.Helper()
		cancel, err := a.Subscribe(t.Context(), Subscribe{Subscriber: string(bridge), Usage: ca.Client, PublicKey: public, Deliver: func(d Delivery) { serial = d.Serial }})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		return serial
	}
	first := subscribe()
	if again := subscribe(); again != first {
		t.Fatalf("%s, then %s", first, again)
	}
	if _, err := a.Withdraw(t.Context(), bridge, "operator: test"); err != nil {
		t.Fatal(err)
	}
	if later := subscribe(); later == first || later == "" {
		t.Errorf("it got %q again", later)
	}
}

// TestComponentIsWithdrawnWhileItOpens: a session that was decided before its certificate
// stopped counting, and is there only after, is not handed out, and its end is on record.
func TestComponentIsWithdrawnWhileItOpens(t *testing.T) {
	r := newRig(t)
	a := r.authority(keys.NewSeeded([32]byte{1}))
	c, err := a.IssueComponent(t.Context(), bridge, freshKey(t), time.Hour, "operator: test")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	a.cfg.Withdrawn = func(string, messages.CertificateID) bool { asked++; return asked > 1 }
	if _, err := r.open("", c.Certificate); refusalCode(err) != "InvalidCredential" || asked != 2 {
		t.Errorf("open, asked %d times: %v", asked, err)
	}
	r.atRest()
	want := []messages.Kind{messages.KindSessionOpened, messages.KindSessionClosed}
	if got := r.kinds(messages.ComponentStream(bridge)); !slices.Equal(got, want) {
		t.Errorf("on record: %v", got)
	}
}
