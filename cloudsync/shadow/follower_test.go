package shadow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience   = 30 * time.Second       // of a loaded machine
	second     = 100 * time.Millisecond // of the vectors' scenarios
	shadowName = awsemutest.Core + "-gci"
)

func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// site is an emulated cloud, and a core that follows its shadow.
type site struct {
	*awsemutest.Cloud
	t      testing.TB
	source *source
	keeper *keeper

	mu    sync.Mutex
	check func() bool   // guarded by mu
	met   chan struct{} // closed when check is true
}

// source gives addresses that come of the version that is desired at the moment.
type source struct {
	site *site
	mode string // of a scenario

	mu    sync.Mutex
	calls int
}

func (s *source) Addresses(context.Context) ([]string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	switch s.mode {
	case "":
		return []string{"10.0.0." + s.site.versions().desired, "localhost"}, true, nil
	case "constant":
		return []string{"10.0.0.1"}, true, nil
	case "empty":
		return nil, true, nil
	case "validation-error":
		return nil, false, nil
	case "fail-once":
		s.mode = ""
		return nil, false, errors.New("the service failed")
	}
	panic("a scenario of an unknown kind: " + s.mode)
}

func (s *source) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// keeper issues anew when the addresses changed, as the authority does.
type keeper struct {
	site *site
	slow time.Duration

	mu       sync.Mutex
	failures int    // to come
	refused  string // an address
	hosts    []string
	calls    int
	issues   int
}

func (k *keeper) Hosts(_ context.Context, source string, hosts []string) error {
	k.mu.Lock()
	defer k.site.recheck()
	defer k.mu.Unlock()
	k.calls++
	if k.failures > 0 {
		k.failures--
		return errors.New("the log is busy")
	}
	if slices.Contains(hosts, k.refused) {
		return errors.New("the list is refused")
	}
	if source != SourceName {
		return fmt.Errorf("source %q", source)
	}
	if slices.Equal(k.hosts, hosts) {
		return nil
	}
	time.Sleep(k.slow) // issuing takes its time
	k.hosts, k.issues = slices.Clone(hosts), k.issues+1
	return nil
}

func (k *keeper) seen() (hosts []string, issues, calls int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hosts, k.issues, k.calls
}

type versions struct{ desired, reported string }

// versions are those in the shadow.
func (s *site) versions() versions {
	text, refused := s.Registry.GetShadow(awsemu.ShadowID{Thing: shadowName}, nil, noon())
	if refused != nil {
		return versions{}
	}
	var got struct {
		State struct{ Desired, Reported struct{ Version string } }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		s.t.Error(err)
	}
	return versions{got.State.Desired.Version, got.State.Reported.Version}
}

func newSite(t testing.TB, change ...func(*awsemu.Config)) *site {
	t.Helper()
	s := &site{t: t, Cloud: awsemutest.Start(t, 1, noon, change...)}
	s.source, s.keeper = &source{site: s}, &keeper{site: s}
	s.Registry.OnMessage(func(string, []byte) { s.recheck() })
	return s
}

func (s *site) recheck() {
	s.mu.Lock()
	check := s.check
	s.mu.Unlock()
	if check == nil || !check() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.check != nil {
		s.check = nil
		close(s.met)
	}
}

// await waits until check is true. It is looked at when something happens to the shadow,
// the addresses, or the link.
func (s *site) await(what string, check func() bool) {
	s.t.Helper()
	s.mu.Lock()
	met := make(chan struct{})
	s.check, s.met = check, met
	s.mu.Unlock()
	s.recheck()
	select {
	case <-met:
	case <-time.After(patience):
		s.t.Fatalf("%s: not within %v; the shadow has %+v", what, patience, s.versions())
	}
}

// awaitReported waits until the core has reported version.
func (s *site) awaitReported(version string) {
	s.t.Helper()
	s.await("version "+version+" is reported", func() bool { return s.versions().reported == version })
}

// awaitHosts waits until the core has the addresses.
func (s *site) awaitHosts(hosts ...string) {
	s.t.Helper()
	s.await(fmt.Sprint("addresses ", hosts), func() bool {
		got, _, _ := s.keeper.seen()
		return slices.Equal(got, hosts)
	})
}

func (s *site) desire(version string) {
	s.t.Helper()
	if _, refused := s.Registry.UpdateShadow(awsemu.ShadowID{Thing: shadowName}, []byte(`{"state":{"desired":{"version":"`+version+`"}}}`), noon()); refused != nil {
		s.t.Fatal(refused)
	}
}

func (s *site) config() Config {
	identity, err := s.Identity.TLS()
	if err != nil {
		s.t.Fatal(err)
	}
	return Config{
		Core: awsemutest.Core, Endpoint: s.MQTTAddr(), ServerName: awsemu.ServerName, Identity: identity, Roots: s.Servers.Pool(),
		Source: s.source, Keeper: s.keeper, Now: noon, OnLink: func(bool) { go s.recheck() },
		Log:      slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		RetryMin: 10 * time.Millisecond, RetryMax: 3 * second, Timeout: 5 * time.Second,
	}
}

func (s *site) follow(change ...func(*Config)) *Follower {
	s.t.Helper()
	cfg := s.config()
	for _, f := range change {
		f(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(f.Close)
	return f
}

func (s *site) faults(faults ...fault.Fault) {
	s.t.Helper()
	if err := s.SetFaults(fault.Script{Faults: faults}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) offline(away bool) {
	s.t.Helper()
	if err := s.Offline(away); err != nil {
		s.t.Fatal(err)
	}
}

type scenario struct {
	Name                     string
	InitialShadowVersion     string `json:"initialShadowVersionField"`
	Updates                  int
	DuplicateDeltas, Serial  bool
	OnlineAfter, CreateAfter int // seconds
	FailReportedUpdates      int
	Connectivity             string
	CertSeconds              int
	Note                     string
	Expect                   struct {
		FinalDesired, FinalReported             string
		ReissuePerAddressChange, NoExtraReissue bool
		Reissues                                *int
	}
}

// The reference's own test of its monitor (vectors, cis-shadow, scenarios).
func TestScenariosOfVectors(t *testing.T) {
	scenarios := readVectors(t).Scenarios
	if len(scenarios) != 11 {
		t.Errorf("%d scenarios", len(scenarios))
	}
	for _, c := range scenarios {
		t.Run(c.Name, func(t *testing.T) {
			s := newSite(t)
			s.source.mode, s.keeper.slow = c.Connectivity, time.Duration(c.CertSeconds)*second
			if c.DuplicateDeltas {
				s.Registry.OnMessage(func(topic string, payload []byte) {
					if strings.HasSuffix(topic, "/update/delta") {
						s.PublishMQTT(topic, payload)
					}
				})
			}
			if c.CreateAfter == 0 {
				s.desire(c.InitialShadowVersion)
			} else { // and nothing answers a get, nor tells of the creation
				s.faults(fault.Fault{Operation: fault.GetShadow, Blackhole: true}, fault.Fault{Operation: fault.Receive, Drop: true})
			}
			if c.FailReportedUpdates > 0 {
				s.faults(fault.Fault{Operation: fault.UpdateShadow, Status: 500, Count: c.FailReportedUpdates})
			}
			s.offline(c.OnlineAfter > 0)
			f := s.follow(func(cfg *Config) {
				if c.CreateAfter > 0 {
					cfg.Timeout = second
				}
			})
			if c.CreateAfter > 0 {
				time.Sleep(time.Duration(c.CreateAfter) * second)
				s.desire(c.InitialShadowVersion)
				s.faults()
			}
			for i := range c.Updates {
				s.desire(fmt.Sprint(i))
				if c.Serial {
					s.await("handled", func() bool { go s.recheckLater(); return f.State().Handled.Version == fmt.Sprintf(`"%d"`, i) })
				}
			}
			if c.OnlineAfter > 0 {
				time.Sleep(time.Duration(c.OnlineAfter) * second)
				s.offline(false)
			}
			s.awaitReported(c.Expect.FinalReported)
			s.judge(c)
		})
	}
}

func (s *site) judge(c scenario) {
	s.t.Helper()
	hosts, issues, calls := s.keeper.seen()
	if c.Expect.FinalDesired != "" && s.versions().desired != c.Expect.FinalDesired {
		s.t.Errorf("desired is %q", s.versions().desired)
	}
	if c.Expect.Reissues != nil && issues != *c.Expect.Reissues {
		s.t.Errorf("issued %d times, want %d", issues, *c.Expect.Reissues)
	}
	most := c.Updates + 1 // as often as there was something new
	if c.Connectivity == "fail-once" {
		most++
	}
	if asked := s.source.asked(); asked > most || calls > most {
		s.t.Errorf("asked %d times and stored %d times, at most %d things were new", asked, calls, most)
	}
	if final := "10.0.0." + c.Expect.FinalReported; c.Connectivity == "" && (len(hosts) == 0 || hosts[0] != final || issues < 1) {
		s.t.Errorf("issued %d times, the last time for %v, want %s", issues, hosts, final)
	}
	if c.CertSeconds > 0 && issues > 3 {
		s.t.Errorf("issued %d times, though what waited was one", issues)
	}
}

// The cache of addresses, as far as it is on this side of the Keeper (vectors,
// connectivity): a list is stored, an empty one too, and none known stores nothing.
func TestAddressesOfVectors(t *testing.T) {
	cases := readVectors(t).Connectivity
	if len(cases) != 6 {
		t.Errorf("%d cases", len(cases))
	}
	f := &Follower{inbox: newInbox(), news: make(chan struct{})}
	f.ctx = t.Context()
	f.link = &link{f: f}
	s := &site{t: t}
	k := &keeper{site: s}
	for _, c := range cases[:2] { // the others record several sources, which is the Keeper's part
		f.cfg = Config{Keeper: k, Source: fixed{*c.Stored, true}}
		if !f.handle(Notice{}) || !slices.Equal(k.hosts, *c.Stored) || k.calls == 0 {
			t.Errorf("%s: stored %v", c.Do, k.hosts)
		}
	}
	f.cfg.Source = fixed{[]string{"10.0.0.1"}, false}
	if calls := k.calls; !f.handle(Notice{}) || k.calls != calls {
		t.Error("what is not known was stored")
	}
}

type fixed struct {
	hosts []string
	known bool
}

func (f fixed) Addresses(context.Context) ([]string, bool, error) { return f.hosts, f.known, nil }

// With the least policy that AWS documents the core gets its addresses all the same, and
// stops trying what costs it the connection.
func TestMinimalPolicy(t *testing.T) {
	for _, disconnects := range []bool{false, true} {
		t.Run(fmt.Sprintf("disconnects %v", disconnects), func(t *testing.T) {
			s := newSite(t, func(c *awsemu.Config) { c.DisconnectUnauthorized = disconnects })
			if err := s.Registry.SetPolicy(s.Identity.ID, awsemu.PolicyMinimal); err != nil {
				t.Fatal(err)
			}
			s.desire("a")
			f := s.follow()
			s.awaitHosts("10.0.0.a", "localhost")
			for _, version := range []string{"b", "c", "d", "e", "f"} {
				s.desire(version)
				s.awaitHosts("10.0.0."+version, "localhost")
				s.await("handled "+version, func() bool { go s.recheckLater(); return f.State().Handled.Version == `"`+version+`"` })
			}
			s.await("connected", func() bool { go s.recheckLater(); return f.Up() })
			// Three times for get/rejected if that disconnects, three times for reports, and the last.
			if connects := s.Calls(fault.Connect); connects > 2*optionalLossesMax+1 {
				t.Errorf("connected %d times", connects)
			}
			if got := s.versions().reported; got != "" {
				t.Errorf("reported %q without being allowed to", got)
			}
		})
	}
}

// recheckLater looks again at what nothing tells of.
func (s *site) recheckLater() {
	time.Sleep(5 * time.Millisecond)
	s.recheck()
}

// Whatever goes wrong is over when it is over.
func TestFaultsOfTheLink(t *testing.T) {
	for name, faults := range map[string][]fault.Fault{
		"CONNECT dropped":     {{Operation: fault.Connect, Drop: true, Count: 3}},
		"CONNECT refused":     {{Operation: fault.Connect, Status: 503, Count: 1}, {Operation: fault.Connect, Status: 403, Count: 1}, {Operation: fault.Connect, Status: 429, Count: 1}},
		"SUBSCRIBE refused":   {{Operation: fault.Subscribe, Status: 403, Count: 3}},
		"SUBSCRIBE dropped":   {{Operation: fault.Subscribe, Drop: true, Count: 3}},
		"get dropped":         {{Operation: fault.GetShadow, Drop: true, Count: 2}},
		"get throttled":       {{Operation: fault.GetShadow, Status: 429, Count: 2}},
		"get failed":          {{Operation: fault.GetShadow, Status: 500, Count: 2}},
		"get answered badly":  {{Operation: fault.GetShadow, Mangle: fault.MangleGarbage, Count: 2}},
		"get answered half":   {{Operation: fault.GetShadow, Truncate: true, Count: 2}},
		"get never answered":  {{Operation: fault.GetShadow, Blackhole: true, Count: 2}},
		"answer oversized":    {{Operation: fault.GetShadow, Mangle: fault.MangleOversized, Count: 2}},
		"answers lost":        {{Operation: fault.Receive, Drop: true, Count: 2}},
		"update dropped":      {{Operation: fault.UpdateShadow, Drop: true, Count: 1}},
		"certificate expired": {{Operation: fault.MQTT, TLS: fault.TLSExpired, Count: 2}},
		"another host":        {{Operation: fault.MQTT, TLS: fault.TLSWrongHost, Count: 2}},
		"unknown authority":   {{Operation: fault.MQTT, TLS: fault.TLSUnknownAuthority, Count: 2}},
		"old TLS":             {{Operation: fault.MQTT, TLS: fault.TLSOldVersion, Count: 2}},
		"handshake hangs":     {{Operation: fault.MQTT, TLS: fault.TLSHang, Count: 1}},
		"CONNECT hangs":       {{Operation: fault.Connect, Blackhole: true, Count: 1}},
		"slow":                {{Operation: fault.MQTT, Latency: 50 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.desire("a")
			s.faults(faults...)
			s.follow(func(cfg *Config) { cfg.Timeout = 500 * time.Millisecond })
			s.awaitHosts("10.0.0.a", "localhost")
			s.desire("b")
			s.awaitHosts("10.0.0.b", "localhost")
		})
	}
}

func TestLinkComesAndGoes(t *testing.T) {
	s := newSite(t)
	s.desire("a")
	var mu sync.Mutex
	var told []bool
	f := s.follow(func(cfg *Config) {
		cfg.OnLink = func(up bool) {
			mu.Lock()
			told = append(told, up)
			mu.Unlock()
			go s.recheck()
		}
	})
	s.awaitReported("a")
	if !f.Up() || f.State().Handled.Version != `"a"` || f.State().Err != nil {
		t.Errorf("state %+v", f.State())
	}
	s.offline(true)
	s.await("link down", func() bool { return !f.Up() })
	s.desire("b")
	f.NetworkChanged(true) // in vain
	s.offline(false)
	f.NetworkChanged(true)
	s.awaitHosts("10.0.0.b", "localhost")
	if err := s.Registry.Revoke(s.Identity.ID); err != nil {
		t.Fatal(err)
	}
	s.await("link down by revocation", func() bool { return !f.Up() })
	if err := s.Registry.SetStatus(s.Identity.ID, awsemu.StatusActive); err != nil {
		t.Fatal(err)
	}
	s.desire("c")
	s.awaitHosts("10.0.0.c", "localhost")
	f.Close()
	if f.Up() {
		t.Error("up after Close")
	}
	mu.Lock()
	defer mu.Unlock()
	for i, up := range told {
		if up != (i%2 == 0) {
			t.Fatalf("told %v", told)
		}
	}
	if len(told) < 6 || told[len(told)-1] {
		t.Errorf("told %v", told)
	}
}

// A core that starts without a network asks nobody and takes no address away.
func TestOfflineStartChangesNothing(t *testing.T) {
	s := newSite(t)
	s.desire("a")
	s.offline(true)
	f := s.follow(func(cfg *Config) { cfg.RetryMax = 20 * time.Millisecond })
	s.await("a few tries", func() bool { go s.recheckLater(); return f.State().LinkErr != nil })
	if _, _, calls := s.keeper.seen(); calls > 0 || s.source.asked() > 0 || f.Up() {
		t.Errorf("stored %d times, asked %d times, up %v", calls, s.source.asked(), f.Up())
	}
}

// What cannot be stored is tried again, and a list without addresses is stored.
func TestKeeperIsAskedAgain(t *testing.T) {
	s := newSite(t)
	s.keeper.failures = 3
	s.desire("a")
	s.follow()
	s.awaitHosts("10.0.0.a", "localhost")
	s.source.mu.Lock()
	s.source.mode = "empty"
	s.source.mu.Unlock()
	s.desire("b")
	s.awaitReported("b")
	if hosts, issues, _ := s.keeper.seen(); len(hosts) > 0 || issues != 2 {
		t.Errorf("stored %v, issued %d times", hosts, issues)
	}
}

type throttled struct{}

func (throttled) Error() string             { return "throttled" }
func (throttled) RetryAfter() time.Duration { return 7 * time.Minute }

// The service's own pace counts, up to an hour, and a network that returns does not.
func TestRetryAfterIsHonoured(t *testing.T) {
	waits := make(chan time.Duration, 10)
	f := &Follower{inbox: newInbox(), news: make(chan struct{})}
	f.ctx = t.Context()
	f.cfg = Config{Jitter: func() float64 { return 1 }, RetryMin: time.Second, RetryMax: 4 * time.Second, AfterFunc: func(d time.Duration, f func()) func() bool {
		waits <- d
		f()
		return func() bool { return false }
	}}
	f.cfg.Log = slogDiscard
	tries := 0
	f.retry("test", func() error {
		tries++
		switch {
		case tries == 2:
			return fmt.Errorf("wrapped: %w", throttled{})
		case tries < 6:
			return errors.New("failed")
		}
		return nil
	})
	close(waits)
	var got []time.Duration
	for d := range waits {
		got = append(got, d)
	}
	if want := []time.Duration{time.Second, 7 * time.Minute, 4 * time.Second, 4 * time.Second, 4 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("waited %v, want %v", got, want)
	}
}

var slogDiscard = slog.New(slog.DiscardHandler)

func TestConfigIsChecked(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*Config){
		"no core": func(c *Config) { c.Core = "" }, "no identity": func(c *Config) { c.Identity.Certificate = nil }, "no roots": func(c *Config) { c.Roots = nil },
		"no source": func(c *Config) { c.Source = nil }, "no keeper": func(c *Config) { c.Keeper = nil }, "no endpoint": func(c *Config) { c.Endpoint = "" },
		"a URL": func(c *Config) { c.Endpoint = "mqtts://a.example" }, "a path": func(c *Config) { c.Endpoint = "a.example/x" }, "a user": func(c *Config) { c.Endpoint = "u@a.example" },
		"a bad port": func(c *Config) { c.Endpoint = "a.example:x" }, "a query": func(c *Config) { c.Endpoint = "a.example?x" },
	} {
		cfg := s.config()
		change(&cfg)
		if f, err := New(cfg); err == nil {
			f.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// At the port of HTTPS the core says by ALPN that it speaks MQTT.
func TestByALPN(t *testing.T) {
	s := newSite(t)
	s.desire("a")
	s.follow(func(cfg *Config) { cfg.Endpoint = strings.TrimPrefix(s.URL(), "https://") })
	s.awaitReported("a")
}
