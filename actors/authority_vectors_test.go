package actors_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// triggerVector is a row of "triggers" in the reference's server-cert.json.
type triggerVector struct {
	Event         string
	CertTypes     []string
	Issues        int
	Callbacks     int
	Monitored     int
	Reissue       bool
	NewCA         bool
	NewKeyPair    bool
	Error         string
	Then, SANFrom string
	Uploads       int
	Service       string
	Retried       bool
}

var vectorUsages = map[string]ca.Usage{"SERVER": ca.Server, "CLIENT": ca.Client, "CLIENT_AND_SERVER": ca.ClientAndServer}

// site is a core at which a row is played, with one subscriber of each type of certificate.
type site struct {
	*core
	memory *eventlog.Memory
	store  keys.Keys
	a      *actors.Authority
	token  *flaky
	up     *uploader
	got    map[string]*subscriber
}

var customURIs = keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}

func newSite(t *testing.T, types ...string) *site {
	t.Helper()
	return newSiteOf(t, keys.URIs{}, types...)
}

func newSiteOf(t *testing.T, custom keys.URIs, types ...string) *site {
	t.Helper()
	s := &site{
		memory: eventlog.NewMemory(actorstest.Options(nil)), store: keys.NewSeeded([32]byte{1}),
		got: map[string]*subscriber{}, up: &uploader{tries: make(chan []byte, 100)},
	}
	s.core = newCore(t, s.memory, s.store, ca.TypeECDSAP256)
	s.settings.Custom = custom
	o := newOperator(t)
	s.token = &flaky{Signer: o.opened.Signer}
	o.opened.Signer = s.token
	s.config.Custom, s.config.Uploader = o, s.up
	b := s.mustStart(t)
	s.a = b.authority
	for _, usage := range types {
		s.got[usage] = newSubscriber(t)
		if err := s.subscribe(t, usage); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) subscribe(t *testing.T, usage string) error {
	t.Helper()
	_, err := s.a.Subscribe(t.Context(), s.got[usage].want("b-"+strings.ToLower(strings.ReplaceAll(usage, "_", "-")), vectorUsages[usage]))
	return err
}

// reissued says for how many of the types there was another certificate since before.
func (s *site) reissued(t *testing.T, before map[string]string) (n int) {
	t.Helper()
	for usage, serial := range before {
		if _, leaf := s.got[usage].last(t); leaf.SerialNumber.String() != serial {
			n++
		}
	}
	return n
}

func (s *site) serials(t *testing.T) map[string]string {
	t.Helper()
	serials := map[string]string{}
	for usage, sub := range s.got {
		_, leaf := sub.last(t)
		serials[usage] = leaf.SerialNumber.String()
	}
	return serials
}

// expect plays what changes something and holds the row's "reissue" against it.
func (s *site) expect(t *testing.T, v triggerVector, change func()) {
	t.Helper()
	before, want := s.serials(t), 0
	if v.Reissue {
		want = len(before)
	}
	change()
	if n := s.reissued(t, before); n != want {
		t.Errorf("%d of %d certificates were issued anew, want %d", n, len(before), want)
	}
}

func (s *site) hours(n int) {
	for range n {
		s.clock.Advance(time.Hour)
	}
}

func (s *site) subscribed() (n int) {
	for _, info := range s.a.Describe().Certificates {
		if info.Subscribed && strings.HasPrefix(info.Subscriber, "b-") {
			n++
		}
	}
	return n
}

// triggers plays a row by its event. Where ours is planned to differ the comment says how.
var triggers = map[string]func(*testing.T, triggerVector){
	"first subscription, CA ready": func(t *testing.T, v triggerVector) {
		for _, usage := range v.CertTypes {
			if s := newSite(t, usage); len(s.got[usage].got) != v.Issues || len(issued(t, s.memory)) != 1+v.Issues {
				t.Errorf("%s: %d delivered", usage, len(s.got[usage].got))
			}
		}
	},
	// The subscription fails meanwhile, and says so: it is made again by who wants it.
	"first subscription, CA not ready": func(t *testing.T, v triggerVector) {
		s := newSiteOf(t, customURIs)
		s.token.away = true
		before := len(issued(t, s.memory))
		s.got["SERVER"] = newSubscriber(t)
		if err := s.subscribe(t, "SERVER"); err == nil || len(issued(t, s.memory))-before != v.Issues {
			t.Errorf("issued though nothing can sign: %v", err)
		}
		s.token.away = false
		s.hours(1)
		if err := s.subscribe(t, "SERVER"); err != nil || len(issued(t, s.memory))-before != 1 || v.Then != "one is issued when the CA becomes ready" {
			t.Errorf("when it is ready: %v, %d issued", err, len(issued(t, s.memory))-before)
		}
	},
	"same request object subscribed three times": func(t *testing.T, v triggerVector) {
		s := newSite(t, "SERVER")
		for range 2 {
			if err := s.subscribe(t, "SERVER"); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.got["SERVER"].got) != v.Callbacks || s.subscribed() != v.Monitored {
			t.Errorf("%d deliveries, %d subscribed", len(s.got["SERVER"].got), s.subscribed())
		}
	},
	// A successor is published first, so that nobody is disconnected, and issues ten minutes
	// after the cloud has it.
	"CA changed (type, custom, back to managed)": func(t *testing.T, v triggerVector) {
		s := newSite(t, v.CertTypes...)
		for _, change := range []func(*actors.AuthoritySettings){
			func(set *actors.AuthoritySettings) { set.Type = ca.TypeRSA2048 },
			func(set *actors.AuthoritySettings) { set.Custom = customURIs },
			func(set *actors.AuthoritySettings) { set.Custom = keys.URIs{} },
		} {
			s.expect(t, v, func() {
				s.change(change)
				issuer := func() (id string) {
					for _, info := range s.a.Describe().Authorities {
						if info.Issues {
							id = string(info.ID)
						}
					}
					return id
				}
				before := issuer()
				eventually(t, "another authority issues", func() bool {
					s.clock.Advance(time.Minute)
					return issuer() != before
				})
			})
		}
	},
	"host addresses changed": func(t *testing.T, v triggerVector) {
		s := newSite(t, v.CertTypes...)
		s.expect(t, v, func() {
			if err := s.a.Hosts(t.Context(), "connectivity", []string{"10.0.0.9"}); err != nil {
				t.Fatal(err)
			}
		})
	},
	"host address answer same as stored": func(t *testing.T, v triggerVector) {
		s := newSite(t, "SERVER")
		s.expect(t, v, func() {
			if err := s.a.Hosts(t.Context(), "configuration", []string{"gate.example", "192.0.2.7"}); err != nil {
				t.Fatal(err)
			}
		})
	},
	"CLIENT_AND_SERVER without a generator": func(t *testing.T, v triggerVector) {
		s := newSite(t)
		s.got["CLIENT_AND_SERVER"] = &subscriber{}
		if err := s.subscribe(t, "CLIENT_AND_SERVER"); err == nil || v.Error == "" {
			t.Errorf("%v, the reference: %q", err, v.Error)
		}
	},
	"validity config changed": func(t *testing.T, v triggerVector) {
		s := newSite(t, "SERVER")
		s.expect(t, v, func() {
			s.change(func(set *actors.AuthoritySettings) { set.ServerValidity = 3 * 24 * time.Hour })
			s.hours(1)
		})
		if err := s.a.Rotate(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		if _, leaf := s.got["SERVER"].last(t); leaf.NotAfter.Sub(s.clock.Wall()) > 3*24*time.Hour {
			t.Error("the next issue does not use it")
		}
	},
	// A key that is made here is made anew: one that leaked ends with its certificate. One of
	// the subscriber's own stays.
	"rotation": func(t *testing.T, v triggerVector) {
		s := newSite(t, "CLIENT_AND_SERVER")
		s.got["SERVER"] = &subscriber{} // it is given a key
		if err := s.subscribe(t, "SERVER"); err != nil {
			t.Fatal(err)
		}
		before, _ := s.got["SERVER"].last(t)
		if err := s.a.Rotate(t.Context(), "test"); err != nil || len(s.got["SERVER"].got) != 2 {
			t.Fatal(err, len(s.got["SERVER"].got))
		}
		after, _ := s.got["SERVER"].last(t)
		if before.Key.Public().(*ecdsa.PublicKey).Equal(after.Key.Public()) {
			t.Error("a key made here stays")
		}
		own := s.got["CLIENT_AND_SERVER"]
		if _, leaf := own.last(t); len(own.got) != 2 || own.key.PublicKey.Equal(leaf.PublicKey) == v.NewKeyPair {
			t.Errorf("%d deliveries; its own key changed", len(own.got))
		}
	},
	"unsubscribe or stream closed": func(t *testing.T, v triggerVector) {
		s := newSite(t)
		cancel, err := s.a.Subscribe(t.Context(), newSubscriber(t).want("b-1", ca.Server))
		if err != nil || s.subscribed() != 1 {
			t.Fatal(err, s.subscribed())
		}
		cancel()
		if n := s.subscribed(); n != v.Monitored {
			t.Errorf("%d are looked after", n)
		}
	},
	"restart while offline with stored host addresses": func(t *testing.T, v triggerVector) {
		s := newSite(t)
		s.a.Close()
		again := newCore(t, s.memory, s.store, ca.TypeECDSAP256)
		a, err := again.start(t)
		if err != nil {
			t.Fatal(err)
		}
		h, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
		if err != nil || h.Leaf().VerifyHostname("gate.example") != nil || v.SANFrom != "stored addresses" {
			t.Errorf("%v, names %v, the reference: %s", err, h.Leaf().DNSNames, v.SANFrom)
		}
	},
	// The start is refused: a new authority would shut out every device in silence.
	"stored keystore, wrong passphrase": func(t *testing.T, v triggerVector) {
		memory, dir := eventlog.NewMemory(actorstest.Options(nil)), filepath.Join(t.TempDir(), "keys")
		for i, passphrase := range []string{"right", "wrong"} {
			store, err := keys.Open(dir, keys.Options{Passphrase: []byte(passphrase)})
			if err != nil {
				t.Fatal(err)
			}
			c := newCore(t, memory, store, ca.TypeECDSAP256)
			if _, err := c.start(t); (i == 1) != errors.Is(err, keys.ErrLocked) || !v.NewCA {
				t.Errorf("%s passphrase: %v", passphrase, err)
			}
		}
	},
	"restart": func(t *testing.T, v triggerVector) {
		s := newSite(t)
		before := string(s.a.PEM())
		s.a.Close()
		a, err := newCore(t, s.memory, s.store, ca.TypeECDSAP256).start(t)
		if err != nil || (string(a.PEM()) != before) != v.NewCA {
			t.Errorf("another authority: %v", err)
		}
	},
	// It is published beside the former, and the cloud told both; the passphrase is the
	// operator's.
	"caType changed live": func(t *testing.T, v triggerVector) {
		s := newSite(t)
		<-s.up.tries
		uploads := 1
		s.change(func(set *actors.AuthoritySettings) { set.Type = ca.TypeRSA2048 })
		s.clock.Advance(time.Minute)
		if text := string(<-s.up.tries); strings.Count(text, "BEGIN") == 2 && strings.HasPrefix(string(s.a.PEM()), text[:100]) {
			uploads++
		}
		if n := len(s.a.Describe().Authorities); uploads != v.Uploads || (n == 2) != v.NewCA {
			t.Errorf("%d uploads, %d authorities", uploads, n)
		}
	},
	// It is tried again, each hour: cloudsync.Uploader.
	"upload answers ResourceNotFound": func(t *testing.T, v triggerVector) {
		s := newSite(t, "SERVER")
		s.up.fail(errors.New("ResourceNotFoundException"))
		s.change(func(set *actors.AuthoritySettings) { set.Type = ca.TypeRSA2048 })
		s.clock.Advance(time.Minute)
		for len(<-s.up.tries) < len(s.a.PEM()) { // until the try that fails
		}
		if err := s.a.Rotate(t.Context(), "test"); err != nil || v.Service != "RUNNING" || v.Retried {
			t.Errorf("it does not issue: %v", err)
		}
	},
}

// TestTriggerVectors plays every row, and has no other.
func TestTriggerVectors(t *testing.T) {
	doc, err := os.ReadFile("ca/testdata/server-cert.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct{ Triggers []triggerVector }
	if err := json.Unmarshal(doc, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Triggers) != len(triggers) {
		t.Errorf("%d rows, %d are played", len(vectors.Triggers), len(triggers))
	}
	for _, v := range vectors.Triggers {
		play := triggers[v.Event]
		if play == nil {
			t.Errorf("nobody plays %q", v.Event)
			continue
		}
		t.Run(v.Event, func(t *testing.T) { play(t, v) })
	}
}
