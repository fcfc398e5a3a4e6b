package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/tracetest"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// stopped is the directory of a daemon that ran, made once.
var stopped = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "doctor-test-")
	if err != nil {
		return "", err
	}
	d, err := daemon.Start(context.Background(), daemon.Config{
		Dir: dir, Mode: "dev", Logger: slog.New(slog.DiscardHandler), NATSListen: "127.0.0.1:0", MQTTListen: "127.0.0.1:0", MQTTHosts: []string{"localhost"},
	})
	if err != nil {
		return "", err
	}
	d.Close()
	return dir, nil
})

// copyTree copies files with their modes, which os.CopyFS widens. Large ones, which no test
// changes, are linked.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		if info.Size() > 1<<20 {
			return os.Link(path, target)
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(target, text, 0o600)
		}
		return errors.Join(err, os.Chmod(target, info.Mode().Perm()))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := stopped(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// world is a host on which everything is well: a daemon that ran in a directory, the core's
// files, an endpoint, and the fake account.
type world struct {
	*Host
	fake   *tracetest.Fake
	ca     *cloudsynctest.Authority
	needle string // of the core's key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "gh")
	made, err := stopped()
	if err != nil {
		t.Fatal(err)
	}
	copyTree(t, made, dir)
	w := &world{fake: tracetest.NewFake()}
	server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		func(_ *cloudsynctest.Authority, c *tls.Config) { c.NextProtos = []string{"x-amzn-http-ca", "http/1.1"} })
	w.ca = ca
	pair := ca.Issue(t, "core-1", cloudsynctest.Noon)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	w.needle = strings.Split(string(key), "\n")[1]
	files := t.TempDir()
	write := func(name string, text []byte, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o644)
	keyFile := write("key.pem", key, 0o400)
	w.Host = &Host{
		Dir: dir, File: "gatehouse.yaml", Local: w.fake.Local, Certificate: certificate, Key: keyFile, CA: write("ca.pem", ca.PEM(), 0o644),
		Endpoints: []Endpoint{{Name: "greengrass", Address: server.Listener.Addr().String(), ServerName: cloudsynctest.ServerName,
			Protocols: []string{"x-amzn-http-ca", "http/1.1"}, Needs: "x-amzn-http-ca", Identity: true, Setting: "cloud.endpoint"}},
		Mosquitto: write("mosquitto.conf", []byte("listener 8883\ncertfile "+certificate+"\nkeyfile "+keyFile+"\nrequire_certificate true\n"), 0o644),
		Config:    config.File{NATS: config.NATS{Listen: free(t)}},
		Authority: func(_ context.Context, id string) (trace.Authority, error) {
			return trace.Authority{ID: id, Status: "ACTIVE", AutoRegistration: "ENABLE"}, nil
		},
		Roots: func(string) (*x509.CertPool, error) { return ca.Pool(), nil },
		Trace: func(ctx context.Context) (*trace.Report, error) {
			c := w.fake.Config()
			return trace.Run(ctx, c)
		},
		Credentials: func(context.Context) (time.Time, error) { return cloudsynctest.Noon.Add(time.Hour), nil },
		Live:        func(context.Context) []Result { return []Result{ok("live.verify", "fine")} },
		Status:      func(context.Context) (daemon.Status, error) { return daemon.Status{}, ErrStopped },
		Synced:      func() bool { return true },
		Now:         cloudsynctest.AtNoon,
	}
	w.Config.Registration.Authorities = []string{w.CA}
	if err := os.WriteFile(daemon.CAFile(dir), ca.PEM(), 0o644); err != nil { // what devices have, and who signed mosquitto's
		t.Fatal(err)
	}
	return w
}

// free is an address at which nothing listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func written(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// On a host on which all is well nothing is called wrong, no byte is changed, and no secret
// is printed.
func TestAHostThatIsWell(t *testing.T) {
	w := newWorld(t)
	before := snapshot(t, w.Dir)
	r := Run(t.Context(), w.Host)
	if r.State != OK || r.Counts[Warning]+r.Counts[Failed] > 0 || r.Counts[OK] < 20 {
		t.Errorf("a false alarm:\n%s", written(t, r))
	}
	if after := snapshot(t, w.Dir); !slices.Equal(before, after) {
		t.Errorf("it changed files:\n%v\n%v", before, after)
	}
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(doc), written(t, r)} {
		if strings.Contains(text, w.needle) {
			t.Error("a key is printed")
		}
	}
}

// snapshot lists the files below dir with their sizes, modes and times.
func snapshot(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && !e.IsDir() {
			list = append(list, fmt.Sprint(path, info.Size(), info.Mode(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The twelve faults between a core and its role are found on the host, too.
func TestTheTwelveFaultsAreFoundByADoctor(t *testing.T) {
	w := newWorld(t)
	for _, f := range tracetest.Faults {
		w.fake = tracetest.NewFake()
		f.Plant(w.fake, t)
		r := run(t.Context(), w.Host, []check{{"cloud", checkTimeout, (*Host).cloud}})
		i := slices.IndexFunc(r.Results, func(one Result) bool { return one.Fault == string(f.Found) })
		if i < 0 || r.State != Failed || r.Results[i].State != Failed || len(r.Results[i].Do) == 0 {
			t.Errorf("%s:\n%s", f.Name, written(t, r))
		}
	}
}

var soon = cloudsynctest.Noon.Add(time.Hour)

// Each fault of a host is found by the check that is about it.
func TestFaultsOfAHost(t *testing.T) {
	chmod := func(mode os.FileMode, where func(*world) string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			if err := os.Chmod(where(w), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(text string, where func(*world) string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			file := where(w)
			_ = os.Remove(file)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	status := func(s daemon.Status, err error) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) {
			w.Status = func(context.Context) (daemon.Status, error) { return s, err }
		}
	}
	inDir := func(names ...string) func(*world) string {
		return func(w *world) string { return filepath.Join(append([]string{w.Dir}, names...)...) }
	}
	core := func(w *world) string { return w.Key }
	for name, test := range map[string]struct {
		plant func(*testing.T, *world)
		check string
		state State
	}{
		"bad configuration":         {func(_ *testing.T, w *world) { w.Problems = []string{"gatehouse.yaml:3: no"} }, "files.config", Failed},
		"directory for all":         {chmod(0o777, inDir()), "files.directory", Failed},
		"directory for a group":     {chmod(0o770, inDir()), "files.directory", Failed},
		"no directory":              {func(_ *testing.T, w *world) { w.Dir += "-gone" }, "files.directory", Warning},
		"keys for a group":          {chmod(0o750, inDir("keys")), "files.keys", Failed},
		"a key for others":          {chmod(0o444, inDir("keys", "log.key")), "files.keys", Failed},
		"credentials for others":    {chmod(0o604, inDir("brokers", "admin.creds")), "files.credentials", Failed},
		"the core's key for others": {chmod(0o644, core), "files.core-key", Failed},
		"the core's key gone":       {func(_ *testing.T, w *world) { _ = os.Remove(w.Key) }, "files.core-key", Failed},
		"no passphrase":             {func(_ *testing.T, w *world) { w.Config.Keys.PassphraseFile = "/nowhere" }, "files.passphrase", Failed},
		"no policy":                 {func(_ *testing.T, w *world) { w.Config.PolicyFile = "/nowhere" }, "files.policy", Failed},
		"half a key":                {put("-----BEGIN PRIVATE KEY-----\n", core), "identity.pair", Failed},
		"another's key":             {anotherKey, "identity.pair", Failed},
		"expired": {func(_ *testing.T, w *world) {
			w.Now = func() time.Time { return cloudsynctest.Noon.AddDate(100, 0, 0) }
		}, "identity.certificate", Failed},
		"not valid yet": {func(_ *testing.T, w *world) {
			w.Now = func() time.Time { return cloudsynctest.Noon.AddDate(-100, 0, 0) }
		}, "identity.certificate", Failed},
		"no roots":                 {put("nothing", func(w *world) string { return w.CA }), "identity.roots", Failed},
		"an endpoint that is away": {func(t *testing.T, w *world) { w.Endpoints[0].Address = free(t) }, "endpoint.greengrass", Failed},
		"a name nobody knows":      {func(_ *testing.T, w *world) { w.Endpoints[0].Address = "nobody.invalid:443" }, "endpoint.greengrass", Failed},
		"no port":                  {func(_ *testing.T, w *world) { w.Endpoints[0].Address = "localhost" }, "endpoint.greengrass", Failed},
		"another name in it":       {func(_ *testing.T, w *world) { w.Endpoints[0].ServerName = "other.example" }, "endpoint.greengrass", Failed},
		"roots of others": {func(_ *testing.T, w *world) {
			w.Roots = func(string) (*x509.CertPool, error) { return x509.NewCertPool(), nil }
		}, "endpoint.greengrass", Failed},
		"no ALPN": {func(_ *testing.T, w *world) {
			w.Endpoints[0].Protocols, w.Endpoints[0].Needs = []string{"http/1.1"}, "x-amzn-http-ca"
		}, "endpoint.greengrass", Failed},
		"no TLS":             {plain, "endpoint.greengrass", Failed},
		"a clock left alone": {func(_ *testing.T, w *world) { w.Synced = func() bool { return false } }, "clock.synchronised", Warning},
		"no credentials": {func(_ *testing.T, w *world) {
			w.Credentials = func(context.Context) (time.Time, error) { return time.Time{}, errors.New("none") }
		}, "credentials", Failed},
		"credentials that ended": {func(_ *testing.T, w *world) {
			w.Credentials = func(context.Context) (time.Time, error) { return cloudsynctest.Noon.Add(-time.Hour), nil }
		}, "credentials", Failed},
		"a daemon that hangs":         {status(daemon.Status{}, errors.New("timeout")), "daemon", Failed},
		"a daemon without cloud":      {func(t *testing.T, w *world) { w.Dev = true; status(daemon.Status{}, nil)(t, w) }, "daemon.cloud", Failed},
		"a document that was refused": {status(daemon.Status{CloudReachable: true, Documents: []daemon.DocumentReport{{Document: "deviceGroups", Problem: &daemon.Problem{Errors: []string{"line 3"}}}}}, nil), "daemon.configuration", Failed},
		"a daemon that warns":         {status(daemon.Status{Warnings: []string{"the authority ends"}}, nil), "daemon.warning", Warning},
		"no credentials to hand out":  {status(daemon.Status{Credentials: &daemon.Credentials{RoleAlias: "A", Problem: "refused"}}, nil), "daemon.credentials", Failed},
		"no newer credentials":        {status(daemon.Status{Credentials: &daemon.Credentials{RoleAlias: "A", Problem: "away", Until: &soon}}, nil), "daemon.credentials", Warning},
		"a stranger in the chain":     {chain, "identity.chain", Failed},
		"no address shadow":           {status(daemon.Status{Addresses: &daemon.AddressReport{Problem: "refused"}}, nil), "daemon.addresses", Warning},
		"a log that was damaged":      {damage, "log.verify", Failed},
		"NATS's address taken":        {listen, "nats.reach", Warning},
		"NATS in the clear":           {func(_ *testing.T, w *world) { w.Config.NATS = config.NATS{URL: "nats://192.0.2.1:4222"} }, "nats.plaintext", Failed},
		"an external NATS is away":    {func(t *testing.T, w *world) { w.Config.NATS = config.NATS{URL: "nats://" + free(t)} }, "nats.reach", Failed},
		"a broker ca.pem disowns":     {broker, "mqtt.certificate", Failed},
		"no mosquitto":                {func(_ *testing.T, w *world) { w.Mosquitto = "/nowhere" }, "mosquitto", Failed},
		"mosquitto without files":     {put("listener 8883\ncertfile /nowhere\n", func(w *world) string { return w.Mosquitto }), "mosquitto.8883", Failed},
		"mosquitto without TLS":       {put("listener 1883\n", func(w *world) string { return w.Mosquitto }), "mosquitto", Warning},
		"mosquitto lets anybody": {func(t *testing.T, w *world) {
			put("certfile "+w.Certificate+"\nkeyfile "+w.Key+"\n", func(w *world) string { return w.Mosquitto })(t, w)
		}, "mosquitto.default.clients", Warning},
		"no authority's file":         {func(_ *testing.T, w *world) { w.Config.Registration.Authorities = []string{"/nowhere"} }, "registration", Failed},
		"a device for an authority":   {func(_ *testing.T, w *world) { w.Config.Registration.Authorities = []string{w.Certificate} }, "registration.*", Failed},
		"an authority unknown to AWS": {unregistered, "registration.*.cloud", Failed},
		"an inactive authority": {func(_ *testing.T, w *world) {
			w.Authority = func(context.Context, string) (trace.Authority, error) {
				return trace.Authority{Status: "INACTIVE"}, nil
			}
		}, "registration.*.cloud", Failed},
		"mosquitto of another CA": {func(t *testing.T, w *world) { put(string(cloudsynctest.NewAuthority(t).PEM()), inDir("ca.pem"))(t, w) }, "mosquitto.8883.chain", Failed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.plant(t, w)
			group, _, _ := strings.Cut(test.check, ".")
			r := run(t.Context(), w.Host, slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return c.name != group }))
			i := slices.IndexFunc(r.Results, func(one Result) bool {
				named, err := path.Match(test.check, one.Check)
				return err == nil && named && one.State == test.state
			})
			if i < 0 {
				t.Fatalf("%s is not %s:\n%s", test.check, test.state, written(t, r))
			}
			if one := r.Results[i]; one.Found == "" || len(one.Do) == 0 {
				t.Errorf("what was found, or what to do, is missing: %+v", one)
			}
		})
	}
}

// chain puts a certificate behind the core's that did not sign it.
func chain(t *testing.T, w *world) {
	text, err := os.ReadFile(w.Certificate)
	if err == nil {
		err = os.WriteFile(w.Certificate, append(text, cloudsynctest.NewAuthority(t).PEM()...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unregistered(_ *testing.T, w *world) {
	w.Authority = func(context.Context, string) (trace.Authority, error) {
		return trace.Authority{}, &trace.ReadError{Action: "iot:DescribeCACertificate", Kind: trace.NotFound, Detail: "none"}
	}
}

func anotherKey(t *testing.T, w *world) {
	other := w.ca.Issue(t, "other", cloudsynctest.Noon)
	der, err := x509.MarshalPKCS8PrivateKey(other.PrivateKey)
	if err == nil {
		_ = os.Remove(w.Key)
		err = os.WriteFile(w.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o400)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// plain has the endpoint speak no TLS.
func plain(t *testing.T, w *world) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}
	}()
	w.Endpoints[0].Address = l.Addr().String()
}

// listen has something else use the address of NATS.
func listen(t *testing.T, w *world) {
	l, err := net.Listen("tcp", w.Config.NATS.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

// broker has the embedded broker show a certificate that ca.pem does not vouch for.
func broker(t *testing.T, w *world) {
	server, _ := cloudsynctest.Serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	w.Status = func(context.Context) (daemon.Status, error) {
		return daemon.Status{MQTT: server.Listener.Addr().String()}, nil
	}
}

// damage flips every bit of both copies of the log's head.
func damage(t *testing.T, w *world) {
	head := filepath.Join(daemon.LogDir(w.Dir), "HEAD")
	text, err := os.ReadFile(head)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		text[i] ^= 0xff
	}
	if err := os.WriteFile(head, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A check that hangs or breaks costs only itself.
func TestAChecksTimeIsBounded(t *testing.T) {
	begun := time.Now()
	gone := make(chan struct{})
	defer close(gone)
	r := run(t.Context(), &Host{Now: time.Now}, []check{
		{"hangs", 50 * time.Millisecond, func(*Host, context.Context) []Result { <-gone; return nil }},
		{"breaks", checkTimeout, func(h *Host, ctx context.Context) []Result { return h.Live(ctx) }},
		{"well", checkTimeout, func(*Host, context.Context) []Result { return []Result{ok("well", "fine")} }},
	})
	if len(r.Results) != 3 || r.Results[0].State != Unknown || r.Results[1].State != Unknown || r.Results[2].State != OK || r.State != OK {
		t.Errorf("%+v", r.Results)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// FuzzParseMosquitto: any text is read, within bounds.
func FuzzParseMosquitto(f *testing.F) {
	f.Add([]byte("listener 8883 0.0.0.0\ncertfile /a\nkeyfile /b\nrequire_certificate true\ninclude_dir /etc/mosquitto/conf.d\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, folders := parseMosquitto(nil, text)
		if len(all) == 0 || len(all) > listenersMax || len(folders) > includesMax {
			t.Errorf("%d listeners, %d folders", len(all), len(folders))
		}
	})
}
