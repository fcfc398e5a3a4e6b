package registrar

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a registrar with its cloud, under the time of synctest.
type site struct {
	t     testing.TB
	cloud *cloud
	ca    *signer
	rules registration.Config
	disk  []byte
	full  bool // the disk is
	r     *Registrar

	mu       sync.Mutex
	outcomes []registration.Outcome
	deaf     bool // outcomes cannot be recorded
}

type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newSigner(t testing.TB, name string) *signer {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &signer{must[*x509.Certificate](t)(x509.ParseCertificate(der)), key}
}

func (s *signer) leaf(t testing.TB, name string) []byte {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(999 * time.Hour)}
	return must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, s.cert, key.Public(), s.key))
}

func (s *signer) id() messages.CertificateID { return messages.CertificateIDOf(s.cert.Raw) }

const policyText = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:r:1:client/${thing.name}"}]}`

func newSite(t testing.TB) *site {
	t.Helper()
	return &site{t: t, cloud: newCloud(), ca: newSigner(t, "fleet"), rules: registration.Config{Rules: []registration.Rule{
		{Name: "no", Effect: registration.EffectDeny, Match: registration.Match{Subject: map[string][]string{"commonName": {"evil*"}}}},
		{Name: "pumps", Match: registration.Match{Subject: map[string][]string{"commonName": {"pump-*"}}}, Thing: registration.Thing{Name: "${subject.commonName}", Group: "hall"},
			Policy: registration.Policy{Name: "p-${thing.name}", Document: policyText}, Associate: true},
	}}}
}

func (s *site) config() Config {
	return Config{
		Cloud: s.cloud, Rules: must[registration.Rules](s.t)(registration.Compile(s.rules)),
		Authorities: must[registration.Authorities](s.t)(registration.NewAuthorities([]*x509.Certificate{s.ca.cert})),
		Load:        func() ([]byte, error) { return s.disk, nil },
		Save: func(text []byte) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.full {
				return errors.New("no space left on device")
			}
			s.disk = slices.Clone(text)
			return nil
		},
		Settled: func(_ context.Context, _ registration.Candidate, o registration.Outcome) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.deaf {
				return errors.New("the log is busy")
			}
			s.outcomes = append(s.outcomes, o)
			return nil
		},
		Now: time.Now, Rate: 1000,
	}
}

func (s *site) start() *Registrar {
	s.t.Helper()
	s.r = must[*Registrar](s.t)(New(s.config()))
	return s.r
}

func (s *site) restart() {
	s.t.Helper()
	s.r.Close()
	s.start()
}

// pending has a device connect to AWS IoT for the first time.
func (s *site) pending(name string) messages.CertificateID {
	der := s.ca.leaf(s.t, name)
	id := messages.CertificateIDOf(der)
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	s.cloud.certs[id] = &Certificate{ARN: arnOf(id), DER: der, Status: StatusPending, Authority: s.ca.id()}
	return id
}

func (s *site) tell(id messages.CertificateID) {
	s.r.Hear(TopicOf(s.ca.id()), fmt.Appendf(nil, `{"certificateId":%q,"caCertificateId":%q,"timestamp":1,"certificateStatus":"PENDING_ACTIVATION","awsAccountId":"1","certificateRegistrationTimestamp":null}`, id, s.ca.id()))
}

func (s *site) candidate(der []byte) registration.Candidate {
	return registration.Candidate{Certificate: messages.CertificateIDOf(der), DER: der, Authority: s.ca.id(), AuthorityDER: s.ca.cert.Raw, Thing: "x"}
}

func (s *site) told() []registration.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.outcomes)
}

// done says whether a device has all that its rule gives it, and is ACTIVE.
func (s *site) done(id messages.CertificateID, thing messages.ThingName) bool {
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	c := s.cloud
	return c.certs[id] != nil && c.certs[id].Status == StatusActive && slices.Equal(c.things[thing], []string{arnOf(id)}) && slices.Contains(c.groups["hall"], thing) &&
		slices.Equal(c.attached[id], []string{"p-" + string(thing)}) && slices.Contains(c.core, thing) && strings.Contains(c.policies["p-"+string(thing)], "client/"+string(thing)+`"`)
}

// bubble runs a test under the time of synctest.
func bubble(t *testing.T, f func(*testing.T, *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		defer func() {
			if s.r != nil {
				s.r.Close()
			}
			time.Sleep(time.Second) // the last request's turn
		}()
		f(t, s)
	})
}

// settled waits until nothing goes on but waiting.
func settled(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A device that registers itself in the cloud is made known, step after step; ACTIVE comes
// last. The same event again, at once, later, or after a restart, changes nothing.
func TestADeviceIsRegisteredOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.cloud.listed = false
		s.start()
		id := s.pending("pump-1")
		for range 5 {
			s.tell(id)
		}
		settled(time.Minute)
		if !s.done(id, "pump-1") || len(s.told()) != 1 || s.told()[0].Status != registration.Accepted || s.told()[0].Thing != "pump-1" || s.told()[0].Rule != "pumps" {
			t.Fatalf("%s\ntold %+v", s.cloud.state(), s.told())
		}
		want := []string{"Certificate", "Principals", "CreateThing", "AddToGroup", "Policy", "CreatePolicy", "AttachPolicy", "AttachThing", "Principals", "Associate", "SetStatus"}
		if got := slices.DeleteFunc(s.cloud.asked(), func(op string) bool { return op == "Pending" }); !slices.Equal(got, want) {
			t.Errorf("asked %q\nwant  %q", got, want)
		}
		before := s.cloud.state()
		s.tell(id)
		settled(time.Minute)
		s.restart()
		s.tell(id)
		settled(time.Hour)
		if after := s.cloud.state(); after != before {
			t.Errorf("a repeated event changed\n%s\nto\n%s", before, after)
		}
		for _, o := range s.told() {
			if o.Status != registration.Accepted || o.Thing != "pump-1" {
				t.Errorf("told %+v", o)
			}
		}
		if lines := s.r.Lines(); len(lines) != 0 {
			t.Errorf("left over: %+v", lines)
		}
	})
}

// Whatever request fails, before or after it was carried out, and with a crash at that moment
// or without: the next try brings it to the same end.
func TestInterruptedAtAnyStepItIsDoneByTheNextTry(t *testing.T) {
	steps := []string{"Certificate", "Register", "Principals", "CreateThing", "AddToGroup", "Policy", "CreatePolicy", "AttachPolicy", "AttachThing", "Associate", "SetStatus"}
	for _, origin := range []string{"event", "edge", "list"} {
		for _, step := range steps {
			for _, after := range []bool{false, true} {
				for _, crash := range []bool{false, true} {
					if step == "Register" && origin != "edge" {
						continue
					}
					t.Run(fmt.Sprintf("%s/%s/answer lost %v/crash %v", origin, step, after, crash), func(t *testing.T) {
						bubble(t, func(t *testing.T, s *site) { interrupted(t, s, origin, step, after, crash) })
					})
				}
			}
		}
	}
}

func interrupted(t *testing.T, s *site, origin, step string, after, crash bool) {
	times := 0
	failing := true
	s.cloud.fail = func(op string, answer bool) error {
		if op == step && answer == after && failing {
			times++
			failing = crash // without a crash it happens once
			return &Problem{Class: messages.FailureUnreachable, Detail: "connection reset"}
		}
		return nil
	}
	s.cloud.listed = origin == "list"
	s.start()
	var id messages.CertificateID
	der := s.ca.leaf(t, "pump-1")
	switch origin {
	case "edge":
		id = messages.CertificateIDOf(der)
		if out, err := s.r.Register(t.Context(), s.candidate(der)); !errors.Is(err, ErrLater) || out.Status == registration.Accepted {
			t.Fatalf("%+v, %v", out, err)
		}
	case "event":
		id = s.pending("pump-1")
		s.tell(id)
	case "list":
		id = s.pending("pump-1")
		s.r.CatchUp()
	}
	settled(2 * time.Minute)
	if crash {
		if s.done(id, "pump-1") && !after {
			t.Fatal("done, though it always fails")
		}
		s.r.Close()
		failing = false
		s.start()
		if origin == "edge" && s.cloud.status(id) == "" { // nothing is known of it: the device comes again
			if _, err := s.r.Register(t.Context(), s.candidate(der)); err != nil {
				t.Fatal(err)
			}
		}
		if origin == "event" && step == "Certificate" { // the same; where the cloud lists it, it comes by that
			s.tell(id)
		}
		if origin == "event" && step == "Principals" && len(s.r.Lines()) == 0 {
			s.tell(id)
		}
	}
	settled(10 * time.Minute)
	if times == 0 {
		t.Fatal("the fault did not strike")
	}
	if !s.done(id, "pump-1") {
		t.Fatalf("%s\n%+v", s.cloud.state(), s.r.Lines())
	}
	told := s.told()
	if len(told) == 0 || told[len(told)-1].Status != registration.Accepted {
		t.Errorf("told %+v", told)
	}
}

// Who must not be registered is not, and costs the cloud no change.
func TestNobodyElseIsRegistered(t *testing.T) {
	rogue := func(s *site) *signer { return newSigner(s.t, "fleet") } // the same name, another key
	for name, test := range map[string]struct {
		leaf   func(*site) []byte
		status string
		change func(*site, *Certificate)
		want   string
	}{
		"of a rogue authority":        {func(s *site) []byte { return rogue(s).leaf(s.t, "pump-1") }, StatusPending, nil, "not signed"},
		"no rule allows":              {func(s *site) []byte { return s.ca.leaf(s.t, "valve-1") }, StatusPending, nil, "no rule"},
		"a rule denies":               {func(s *site) []byte { return s.ca.leaf(s.t, "evil-1") }, StatusPending, nil, "rule denies"},
		"an authority":                {func(s *site) []byte { return newSigner(s.t, "pump-1").cert.Raw }, StatusPending, nil, "may sign others"},
		"revoked":                     {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, StatusRevoked, nil, "REVOKED"},
		"set inactive by an operator": {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, StatusInactive, nil, "INACTIVE"},
		"being transferred":           {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, "PENDING_TRANSFER", nil, "PENDING_TRANSFER"},
		"active by hand":              {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, StatusActive, nil, "ACTIVE"},
		"under no authority":          {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, StatusPending, func(_ *site, c *Certificate) { c.Authority = "" }, "authority"},
		"another's thing": {func(s *site) []byte { return s.ca.leaf(s.t, "pump-1") }, StatusPending, func(s *site, _ *Certificate) {
			s.cloud.things["pump-1"] = []string{arnOf(messages.CertificateID(strings.Repeat("0", 64)))}
		}, "belongs to another"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *site) {
				s.cloud.listed = false
				der := test.leaf(s)
				id := messages.CertificateIDOf(der)
				known := &Certificate{ARN: arnOf(id), DER: der, Status: test.status, Authority: s.ca.id()}
				s.cloud.certs[id] = known
				if test.change != nil {
					test.change(s, known)
				}
				before := s.cloud.state()
				s.start()
				s.tell(id)
				settled(time.Hour)
				told := s.told()
				if after := s.cloud.state(); after != before {
					t.Errorf("changed\n%s\nto\n%s", before, after)
				}
				if len(told) != 1 || told[0].Status != registration.Denied || !strings.Contains(told[0].Reason, test.want) {
					t.Errorf("told %+v, want a no about %q", told, test.want)
				}
				asked := len(s.cloud.asked())
				for range 100 { // it hammers
					s.tell(id)
				}
				settled(time.Second)
				if n := len(s.cloud.asked()); n != asked {
					if n > asked+3 {
						t.Errorf("%d requests for 100 more events", n-asked)
					}
				}
			})
		})
	}
}

// The edge's candidates are judged before anybody is asked.
func TestTheEdgesStrangersCostNoRequest(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.cloud.listed = false
		s.start()
		settled(time.Second)
		before := len(s.cloud.asked())
		rogue := newSigner(t, "fleet")
		for name, c := range map[string]registration.Candidate{
			"rogue": s.candidate(rogue.leaf(t, "pump-1")), "no rule": s.candidate(s.ca.leaf(t, "valve-1")), "garbage": s.candidate([]byte{1}),
			"unknown authority": func() registration.Candidate {
				c := s.candidate(rogue.leaf(t, "pump-1"))
				c.Authority, c.AuthorityDER = rogue.id(), rogue.cert.Raw
				return c
			}(),
		} {
			if out, err := s.r.Register(t.Context(), c); err != nil || out.Status != registration.Denied || out.Reason == "" {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		}
		if n := len(s.cloud.asked()); n != before {
			t.Errorf("%d requests", n-before)
		}
		der := s.ca.leaf(t, "pump-1")
		out, err := s.r.Register(t.Context(), s.candidate(der))
		if err != nil || out.Status != registration.Accepted || out.Thing != "pump-1" || !s.done(messages.CertificateIDOf(der), "pump-1") {
			t.Errorf("%+v, %v\n%s", out, err, s.cloud.state())
		}
	})
}

// Of two certificates with one name the first gets it, unless the rule lets the second join.
func TestANameBelongsToOneCertificate(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		bubble(t, func(t *testing.T, s *site) {
			s.rules.Rules[1].Thing.Takeover = takeover
			s.start()
			a, b := s.pending("pump-1"), s.pending("pump-1")
			s.tell(a)
			s.tell(b)
			settled(time.Minute)
			if active := s.cloud.status(a) == StatusActive && s.cloud.status(b) == StatusActive; active != takeover {
				t.Errorf("takeover %v: %s", takeover, s.cloud.state())
			}
			if s.cloud.status(a) != StatusActive && s.cloud.status(b) != StatusActive {
				t.Errorf("none of them has it: %s", s.cloud.state())
			}
		})
	}
}

// Two cores that take up two certificates of one name at the same time give it to none.
func TestARaceForANameHasNoWinner(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		id := s.pending("pump-1")
		other := arnOf(messages.CertificateID(strings.Repeat("1", 64)))
		s.cloud.fail = func(op string, after bool) error {
			if op == "AttachThing" && after {
				s.cloud.things["pump-1"] = append(s.cloud.things["pump-1"], other)
			}
			return nil
		}
		s.start()
		settled(time.Minute)
		if s.cloud.status(id) == StatusActive || slices.Contains(s.cloud.things["pump-1"], arnOf(id)) {
			t.Error(s.cloud.state())
		}
	})
}

// Nor does the loser stay attached when that is taken back by a later try.
func TestTheLoserOfARaceIsDetachedByTheNextTry(t *testing.T) {
	for _, crash := range []bool{false, true} {
		bubble(t, func(t *testing.T, s *site) {
			s.pending("pump-1")
			other := arnOf(messages.CertificateID(strings.Repeat("1", 64)))
			failed := false
			s.cloud.fail = func(op string, after bool) error {
				switch {
				case op == "AttachThing" && after:
					s.cloud.things["pump-1"] = append(s.cloud.things["pump-1"], other)
				case op == "DetachThing" && !after && (crash || !failed):
					failed = true
					return &Problem{Class: messages.FailureUnreachable, Detail: "connection reset"}
				}
				return nil
			}
			s.start()
			settled(time.Minute)
			if crash {
				s.cloud.mu.Lock()
				s.cloud.fail = nil
				s.cloud.mu.Unlock()
				s.restart()
			}
			settled(10 * time.Minute)
			if told := s.told(); len(told) != 1 || told[0].Status != registration.Denied {
				t.Errorf("crash %t: told %+v", crash, told)
			}
			if !slices.Equal(s.cloud.things["pump-1"], []string{other}) {
				t.Errorf("crash %t: %s", crash, s.cloud.state())
			}
		})
	}
}

// What the operator wants of denied certificates happens to those alone that the rules deny.
func TestDeniedCertificatesAreLeftUnlessTheOperatorWantsElse(t *testing.T) {
	for mode, want := range map[string]string{registration.DeniedLeave: StatusPending, registration.DeniedInactivate: StatusInactive, registration.DeniedRevoke: StatusRevoked} {
		bubble(t, func(t *testing.T, s *site) {
			s.rules.OnDenied = mode
			taken := s.pending("pump-1")
			s.cloud.things["pump-1"] = []string{"arn:other"}
			denied := s.pending("evil-1")
			s.start()
			settled(time.Minute)
			if got := s.cloud.status(denied); got != want {
				t.Errorf("%s: %s, want %s", mode, got, want)
			}
			if got := s.cloud.status(taken); got != StatusPending {
				t.Errorf("%s: a name that is taken: %s", mode, got)
			}
		})
	}
}
