package iotregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	paho3 "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second // of a loaded machine

// site is an emulated cloud with a registered authority, and a registrar that follows it.
type site struct {
	*awsemutest.Cloud
	t       testing.TB
	ca      *awsemutest.Authority
	others  []*x509.Certificate // authorities, before it
	client  *Client
	disk    []byte
	r       *registrar.Registrar
	follow  *registrar.Follower
	rules   registration.Config
	ahead   atomic.Int64 // of the machine's clock is the cloud's; nanoseconds
	mu      sync.Mutex
	told    []registration.Outcome
	changed chan struct{} // after each outcome
}

func (s *site) config() control.Config {
	admin := s.AdminCredentials()
	return control.Config{
		Region: awsemu.Region, Endpoint: s.ControlURL(), Roots: s.Servers.Pool(), Now: time.Now, Timeout: 5 * time.Second,
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, admin.SessionToken),
	}
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, ca: awsemutest.NewAuthority(t, "fleet", time.Now(), nil), changed: make(chan struct{}, 1000)}
	s.Cloud = awsemutest.Start(t, 1, func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) })
	if _, err := s.Registry.AddAuthority(s.ca.Certificate.Raw, time.Now(), awsemu.AuthorityOptions{Active: true, AutoRegister: true}); err != nil {
		t.Fatal(err)
	}
	s.rules = registration.Config{Rules: []registration.Rule{{
		Name: "pumps", Match: registration.Match{Subject: map[string][]string{"commonName": {"pump-*"}}}, Associate: true, Thing: registration.Thing{Name: "${subject.commonName}", Attributes: map[string]string{"serial": "${certificate.serial}"}},
		Policy: registration.Policy{Name: "device-${thing.name}", Document: `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${thing.name}"},
			{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/pumps/${thing.name}/*"}]}`},
	}}}
	var err error
	if s.client, err = New(Config{Control: s.config(), Core: awsemutest.Core}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	return s
}

func (s *site) start() {
	s.t.Helper()
	rules, err := registration.Compile(s.rules)
	authorities, bad := registration.NewAuthorities(append(s.others, s.ca.Certificate))
	if err := errors.Join(err, bad); err != nil {
		s.t.Fatal(err)
	}
	s.r, err = registrar.New(registrar.Config{
		Cloud: s.client, Rules: rules, Authorities: authorities, Now: time.Now, Rate: 200, RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond,
		Load: func() ([]byte, error) { return s.disk, nil }, Save: func(text []byte) error { s.disk = slices.Clone(text); return nil },
		Settled: func(_ context.Context, _ registration.Candidate, o registration.Outcome) error {
			s.mu.Lock()
			s.told = append(s.told, o)
			s.mu.Unlock()
			s.changed <- struct{}{}
			return nil
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	identity, err := s.Identity.TLS()
	if err != nil {
		s.t.Fatal(err)
	}
	s.follow, err = registrar.Follow(registrar.FollowConfig{
		Registrar: s.r, Authorities: authorities.IDs(), Endpoint: s.MQTTAddr(), ServerName: awsemu.ServerName, Identity: identity, Roots: s.Servers.Pool(),
		ClientID: awsemutest.Core + "-registrar", Now: time.Now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) stop() {
	s.follow.Close()
	s.r.Close()
}

// await waits for n outcomes in all.
func (s *site) await(n int) []registration.Outcome {
	s.t.Helper()
	over := time.After(patience)
	for {
		s.mu.Lock()
		told := slices.Clone(s.told)
		s.mu.Unlock()
		if len(told) >= n {
			return told
		}
		select {
		case <-s.changed:
		case <-over:
			s.t.Fatalf("%d outcomes, want %d: %+v; %+v", len(told), n, told, s.r.Lines())
		}
	}
}

// connect connects a device over MQTT, and says whether it was let in.
func (s *site) connect(as *awsemu.Identity, clientID string) bool {
	s.t.Helper()
	pair, err := as.TLS()
	if err != nil {
		s.t.Fatal(err)
	}
	client := paho3.NewClient(paho3.NewClientOptions().AddBroker("ssl://" + s.MQTTAddr()).SetClientID(clientID).SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(patience).
		SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: s.Servers.Pool(), ServerName: awsemu.ServerName}))
	token := client.Connect()
	token.Wait()
	if token.Error() != nil {
		return false
	}
	client.Disconnect(100)
	return true
}

func (s *site) wantStatus(id messages.CertificateID, want awsemu.Status) {
	s.t.Helper()
	if info, _ := s.Registry.Certificate(id); info.Status != want {
		s.t.Errorf("certificate %.8s is %q, want %q", id, info.Status, want)
	}
}

// Must-see 2 of issue 5, with the stock client: the first connection closes, the event
// arrives, the registrar acts, the second connection publishes; a repeated event changes
// nothing, and a rogue authority's device is nobody.
func TestADeviceThatNobodyRegisteredConnects(t *testing.T) {
	tool, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs mosquitto_pub")
	}
	s := newSite(t)
	s.start()
	defer s.stop()
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	host, port, _ := strings.Cut(s.MQTTAddr(), ":")
	publish := func(as *awsemu.Identity, clientID string) error {
		return exec.CommandContext(t.Context(), tool, "-h", host, "-p", port, "--cafile", s.CAFile(t), "--insecure", "--cert", write(string(as.ID), as.CertificatePEM), "--key", write(string(as.ID)+".key", as.KeyPEM),
			"-i", clientID, "-t", "pumps/"+clientID+"/level", "-m", "7", "-q", "1").Run()
	}
	pump := s.ca.Issue(t, "pump-7", time.Now())
	if err := publish(pump, "pump-7"); err == nil {
		t.Fatal("the first connection was let in")
	}
	told := s.await(1)
	if told[0].Status != registration.Accepted || told[0].Thing != "pump-7" {
		t.Fatalf("%+v", told)
	}
	if err := publish(pump, "pump-7"); err != nil {
		t.Fatalf("the second connection: %v", err)
	}
	s.wantStatus(pump.ID, awsemu.StatusActive)

	before, err := s.Registry.Encode()
	if err != nil {
		t.Fatal(err)
	}
	event := fmt.Appendf(nil, `{"certificateId":%q,"caCertificateId":%q,"certificateStatus":"PENDING_ACTIVATION"}`, pump.ID, s.ca.ID())
	s.PublishMQTT(registrar.TopicOf(s.ca.ID()), event)
	s.await(2)
	if after, err := s.Registry.Encode(); err != nil || string(after) != string(before) {
		t.Errorf("a repeated event changed the registry (%v)", err)
	}

	rogue := awsemutest.NewAuthority(t, "fleet", time.Now(), nil).Issue(t, "pump-8", time.Now())
	for range 2 {
		if publish(rogue, "pump-8") == nil {
			t.Error("a rogue authority's device was let in")
		}
	}
	s.wantStatus(rogue.ID, "")
	denied := s.ca.Issue(t, "valve-1", time.Now())
	for range 2 {
		if publish(denied, "valve-1") == nil {
			t.Error("a device that no rule allows was let in")
		}
	}
	if told := s.await(3); told[2].Status != registration.Denied {
		t.Errorf("%+v", told)
	}
	s.wantStatus(denied.ID, awsemu.StatusPendingActivation)
}

// The core may not hear of one authority's devices: those of another are heard of all the same.
func TestATopicThatIsRefusedHidesNoOther(t *testing.T) {
	s := newSite(t)
	other := awsemutest.NewAuthority(t, "another fleet", time.Now(), nil)
	s.others = []*x509.Certificate{other.Certificate}
	if err := errors.Join(
		s.Registry.CreatePolicy("narrow", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/`+registrar.TopicOf(messages.CertificateIDOf(other.Certificate.Raw))+`"}]}`, time.Now()),
		s.Registry.AttachPolicy("narrow", awsemu.CertificateARN(s.Identity.ID)),
	); err != nil {
		t.Fatal(err)
	}
	s.start()
	defer s.stop()
	over := time.After(patience)
	wait := func(what string) {
		select {
		case <-over:
			t.Fatal(what)
		case <-time.After(20 * time.Millisecond): // nobody tells of that
		}
	}
	for _, err := s.follow.Up(); err == nil; _, err = s.follow.Up() {
		wait("nothing was refused")
	}
	for pump := s.ca.Issue(t, "pump-7", time.Now()); !s.connect(pump, "pump-7"); {
		wait("not let in")
	}
}

// A registrar that was away when the event came finds the device in the listing.
func TestAnEventThatNobodyHeardLosesNobody(t *testing.T) {
	s := newSite(t)
	pump := s.ca.Issue(t, "pump-7", time.Now())
	if s.connect(pump, "pump-7") {
		t.Fatal("let in")
	}
	s.start()
	defer s.stop()
	s.await(1)
	if !s.connect(pump, "pump-7") {
		t.Error("not let in")
	}
}

// Whatever operation the service fails at, the next try, or the next registrar, brings it to
// its end.
func TestAFaultAtAnyOperationIsOvercome(t *testing.T) {
	for _, operation := range []string{
		"RegisterCertificate", "DescribeCertificate", "ListThingPrincipals", "CreateThing", "GetPolicy", "CreatePolicy", "AttachPolicy", "AttachThingPrincipal",
		"BatchAssociateClientDeviceWithCoreDevice", "UpdateCertificate",
	} {
		t.Run(operation, func(t *testing.T) {
			s := newSite(t)
			if err := s.SetFaults(fault.Script{Faults: []fault.Fault{{Operation: cloudsync.Operation(operation), Status: http.StatusInternalServerError, Count: 2}}}); err != nil {
				t.Fatal(err)
			}
			s.start()
			pump := s.ca.Issue(t, "pump-7", time.Now())
			c := registration.Candidate{Certificate: pump.ID, DER: pump.DER, Authority: s.ca.ID(), AuthorityDER: s.ca.Certificate.Raw, Thing: "pump-7"}
			out, err := s.r.Register(t.Context(), c)
			if !errors.Is(err, registrar.ErrLater) || out.Status == registration.Accepted {
				t.Errorf("%+v, %v", out, err)
			}
			s.stop() // as good as a crash: what is not on disk is gone
			s.start()
			defer s.stop()
			for { // as the device that comes again
				out, err := s.r.Register(t.Context(), c)
				if err == nil {
					if out.Status != registration.Accepted {
						t.Fatalf("%+v", out)
					}
					break
				}
				if len(s.await(0)) > 0 {
					break
				}
			}
			s.wantStatus(pump.ID, awsemu.StatusActive)
			if !s.connect(pump, "pump-7") {
				t.Error("not let in")
			}
			if !slices.ContainsFunc(s.Registry.Associated(awsemutest.Core), func(a awsemu.Association) bool { return a.Thing == "pump-7" }) {
				t.Error("not associated")
			}
		})
	}
}

// A bound of the account, or somebody who works on the same thing, gives nobody up, however
// often it is met.
func TestALimitOrAConflictGivesNobodyUp(t *testing.T) {
	for name, status := range map[string]int{"LimitExceededException": http.StatusGone, "VersionConflictException": http.StatusConflict, "ConflictingResourceUpdateException": http.StatusConflict} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			const often = 3 * 8 // the SDK asks three times at one try
			if err := s.SetFaults(fault.Script{Faults: []fault.Fault{{Operation: "AttachPolicy", Status: status, ErrorType: name, Count: often}}}); err != nil {
				t.Fatal(err)
			}
			s.start()
			defer s.stop()
			pump := s.ca.Issue(t, "pump-7", time.Now())
			if _, err := s.r.Register(t.Context(), registration.Candidate{Certificate: pump.ID, DER: pump.DER, Authority: s.ca.ID(), AuthorityDER: s.ca.Certificate.Raw, Thing: "pump-7"}); !errors.Is(err, registrar.ErrLater) {
				t.Error(err)
			}
			if told := s.await(1); told[0].Status != registration.Accepted {
				t.Errorf("%+v", told)
			}
			s.wantStatus(pump.ID, awsemu.StatusActive)
			if n := s.Calls("AttachPolicy"); n < 8 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Registering an authority proves possession of its key, and what the service says of it is
// what was asked for.
func TestAnAuthorityIsRegistered(t *testing.T) {
	s := newSite(t)
	ca := awsemutest.NewAuthority(t, "other", time.Now(), nil)
	if _, err := s.client.DescribeAuthority(t.Context(), ca.ID()); !errors.Is(err, registrar.ErrNotThere) {
		t.Fatal(err)
	}
	code, err := s.client.RegistrationCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stranger := awsemutest.NewAuthority(t, "other", time.Now(), nil)
	if err := s.client.RegisterAuthority(t.Context(), ca.Certificate.Raw, stranger.Issue(t, code, time.Now()).DER, true); err == nil || !strings.Contains(err.Error(), "CertificateValidation") {
		t.Errorf("without the key: %v", err)
	}
	if err := s.client.RegisterAuthority(t.Context(), ca.Certificate.Raw, ca.Issue(t, code, time.Now()).DER, false); err != nil {
		t.Fatal(err)
	}
	if got, err := s.client.DescribeAuthority(t.Context(), ca.ID()); err != nil || !got.Active || got.AutoRegistration || got.SNIOnly {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.client.UpdateAuthority(t.Context(), ca.ID(), true); err != nil {
		t.Fatal(err)
	}
	if got, err := s.client.DescribeAuthority(t.Context(), ca.ID()); err != nil || !got.AutoRegistration {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.client.RegisterAuthority(t.Context(), ca.Certificate.Raw, ca.Issue(t, code, time.Now()).DER, false); !errors.Is(err, registrar.ErrThere) {
		t.Errorf("again: %v", err)
	}
	if err := s.client.RegisterAuthority(t.Context(), stranger.Certificate.Raw, nil, true); err != nil {
		t.Fatal(err)
	}
	if got, err := s.client.DescribeAuthority(t.Context(), stranger.ID()); err != nil || !got.SNIOnly {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whether anybody has touched a certificate since it was registered is told by its dates.
func TestATouchedCertificateIsKnown(t *testing.T) {
	s := newSite(t)
	pump := s.ca.Issue(t, "pump-7", time.Now())
	if err := s.client.Register(t.Context(), pump.DER, s.ca.Certificate.Raw); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{registrar.StatusInactive, registrar.StatusActive, registrar.StatusInactive} {
		got, err := s.client.Certificate(t.Context(), pump.ID)
		if err != nil || got.Status == registrar.StatusInactive && got.Untouched != (want == registrar.StatusInactive && s.Calls("UpdateCertificate") == 0) {
			t.Errorf("%+v, %v", got, err)
		}
		s.ahead.Add(int64(2 * time.Millisecond)) // the dates' precision
		next := map[string]string{registrar.StatusInactive: registrar.StatusActive, registrar.StatusActive: registrar.StatusInactive}[want]
		if err := s.client.SetStatus(t.Context(), pump.ID, next); err != nil {
			t.Fatal(err)
		}
	}
}
