package brokers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func credentialsOf(t testing.TB, s *Server, broker messages.BrokerID) Credentials {
	t.Helper()
	c, err := NewBrokerCredentials(broker)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddBroker(broker, c.Public); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStockClientsConnectWithACredsFile is the contract of `broker add`: the file works
// in nats.UserCredentials, and as an nkey seed in nats.NkeyOptionFromSeed.
func TestStockClientsConnectWithACredsFile(t *testing.T) {
	s := startServer(t)
	file := filepath.Join(t.TempDir(), "a.creds")
	if err := os.WriteFile(file, credentialsOf(t, s, "a").File(), 0o400); err != nil {
		t.Fatal(err)
	}
	seed, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]nats.Option{"UserCredentials": nats.UserCredentials(file), "NkeyOptionFromSeed": seed} {
		for where, connect := range map[string][]nats.Option{"TCP": {option}, "in process": {option, nats.InProcessServer(s)}} {
			nc, err := nats.Connect(s.URL(), connect...)
			if err != nil {
				t.Errorf("%s, %s: %v", name, where, err)
				continue
			}
			nc.Close()
		}
	}
}

// TestNobodyElseConnects tries every way in without the key of a known user.
func TestNobodyElseConnects(t *testing.T) {
	s := startServer(t)
	known := credentialsOf(t, s, "a")
	stranger, err := NewBrokerCredentials("a")
	if err != nil {
		t.Fatal(err)
	}
	knownUser, err := nkeys.ParseDecoratedUserNKey(known.File())
	if err != nil {
		t.Fatal(err)
	}
	strangerUser, err := nkeys.ParseDecoratedUserNKey(stranger.File())
	if err != nil {
		t.Fatal(err)
	}
	knownJWT, err := nkeys.ParseDecoratedJWT(known.File())
	if err != nil {
		t.Fatal(err)
	}
	none := func([]byte) ([]byte, error) { return nil, nil }
	for name, option := range map[string]nats.Option{
		"anonymous":                             nil,
		"user and password":                     nats.UserInfo("a", "a"),
		"the daemon's name and no password":     nats.UserInfo(daemonName, ""),
		"token":                                 nats.Token(known.Public),
		"unknown nkey":                          nats.Nkey(stranger.Public, strangerUser.Sign),
		"unknown credentials":                   nats.UserCredentialBytes(stranger.File()),
		"known nkey, another's signature":       nats.Nkey(known.Public, strangerUser.Sign),
		"known nkey, no signature":              nats.Nkey(known.Public, none),
		"known nkey, signature of another text": nats.Nkey(known.Public, func([]byte) ([]byte, error) { return knownUser.Sign([]byte("x")) }),
		"known JWT, another's signature":        nats.UserJWT(func() (string, error) { return knownJWT, nil }, strangerUser.Sign),
		"known JWT, no signature":               nats.UserJWT(func() (string, error) { return knownJWT, nil }, none),
		"bearer JWT of a known user":            nats.UserJWT(func() (string, error) { return forge(t, known.Public, true), nil }, none),
		"JWT of a known user, own signature":    nats.UserJWT(func() (string, error) { return forge(t, known.Public, false), nil }, strangerUser.Sign),
		"JWT that is none":                      nats.UserJWT(func() (string, error) { return "e30.e30.e30", nil }, knownUser.Sign),
	} {
		options := []nats.Option{nats.NoReconnect()}
		if option != nil {
			options = append(options, option)
		}
		nc, err := nats.Connect(s.URL(), options...)
		if err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
		} else if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: got %v, want an authorization error", name, err)
		}
	}
}

// forge makes a user JWT for public that claims every right, signed by a key nobody
// knows.
func forge(t *testing.T, public string, bearer bool) string {
	t.Helper()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Error(err)
		return ""
	}
	claims := jwt.NewUserClaims(public)
	claims.BearerToken = bearer
	claims.Pub.Allow.Add(">")
	claims.Sub.Allow.Add(">")
	text, err := claims.Encode(account)
	if err != nil {
		t.Error(err)
	}
	return text
}

// TestRightsInAJWTCountForNothing: who holds a known key may put what they like in the
// envelope.
func TestRightsInAJWTCountForNothing(t *testing.T) {
	s := startServer(t)
	known := credentialsOf(t, s, "a")
	user, err := nkeys.ParseDecoratedUserNKey(known.File())
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 8)
	nc, err := nats.Connect(s.URL(), nats.UserJWT(func() (string, error) { return forge(t, known.Public, true), nil }, user.Sign),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.SubscribeSync(">"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("got %v, want a permission violation", err)
		}
	case <-time.After(patience):
		t.Error("subscribing to > was not refused")
	}
}

func TestAddingABrokerDisturbsNobodyAndRemovingOneEndsItsConnections(t *testing.T) {
	s := startServer(t)
	lost := make(chan string, 4)
	dial := func(name messages.BrokerID) *nats.Conn {
		nc, err := nats.Connect(s.URL(), nats.UserCredentialBytes(credentialsOf(t, s, name).File()), nats.NoReconnect(),
			nats.ClosedHandler(func(*nats.Conn) { lost <- string(name) }))
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	a := dial("a")
	defer a.Close()
	b := dial("b")
	defer b.Close()
	if err := a.FlushTimeout(patience); err != nil {
		t.Fatalf("a, after b was added: %v", err)
	}
	if err := s.RemoveUser("b"); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-lost:
		if name != "b" {
			t.Fatalf("%s was disconnected, want b", name)
		}
	case <-time.After(patience):
		t.Fatal("b is still connected")
	}
	if err := a.FlushTimeout(patience); err != nil {
		t.Fatalf("a, after b was removed: %v", err)
	}
	if s.RemoveUser(daemonName) == nil {
		t.Error("the daemon was removed")
	}
}

func TestUsersThatCannotBeAdded(t *testing.T) {
	s := startServer(t)
	c := credentialsOf(t, s, "a")
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountKey, err := account.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[messages.BrokerID]string{
		"b": c.Public, "c": "", "d": "UABC", "e": accountKey, "": c.Public,
		"push": c.Public, "admin": c.Public, "auditor": c.Public, "gatehouse": c.Public, "a.b": c.Public, "*": c.Public, ">": c.Public,
	} {
		if err := s.AddBroker(name, key); err == nil {
			t.Errorf("broker %q with key %q was added", name, key)
		}
	}
	if err := s.AddOperator("root", c.Public); err == nil {
		t.Error("operator root was added")
	}
	if err := s.AddOperator(authapi.OperatorAdmin, c.Public); err == nil {
		t.Error("a broker's key was made the administrator's")
	}
}

func TestServerListensInTheClearOnLoopbackOnly(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:4222", "example.com:4222", ":4222", "4222", "127.0.0.1:x", "127.0.0.1:70000"} {
		s, err := StartServer(ServerConfig{Listen: listen, Log: testLog(t)})
		if err == nil {
			s.Close()
			t.Errorf("%s: started without TLS", listen)
		}
	}
	taken := startServer(t)
	if s, err := StartServer(ServerConfig{Listen: strings.TrimPrefix(taken.URL(), "nats://"), Log: slog.New(slog.DiscardHandler)}); err == nil {
		s.Close()
		t.Error("two servers on one address")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want the cause: the address is in use", err)
	}
}

func TestServerSpeaksTLS13OnEveryInterface(t *testing.T) {
	pair, roots := serverCertificate(t)
	s, err := StartServer(ServerConfig{Listen: "0.0.0.0:0", TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := credentialsOf(t, s, "a")
	_, port, err := net.SplitHostPort(s.ns.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://127.0.0.1:" + port
	nc, err := nats.Connect(url, nats.UserCredentialBytes(c.File()), nats.Secure(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if state, err := nc.TLSConnectionState(); err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("got TLS version %x, %v, want 1.3", state.Version, err)
	}
	for name, config := range map[string]*tls.Config{"TLS 1.2": {RootCAs: roots, MaxVersion: tls.VersionTLS12}, "unknown roots": {}} {
		if nc, err := nats.Connect(url, nats.UserCredentialBytes(c.File()), nats.Secure(config), nats.NoReconnect()); err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
		}
	}
}

func serverCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e10, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func TestServerInProcessOnlyListensNowhere(t *testing.T) {
	s, err := StartServer(ServerConfig{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.URL() != "" {
		t.Errorf("it listens on %s", s.URL())
	}
	nc, err := s.DaemonConn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.FlushTimeout(patience); err != nil {
		t.Error(err)
	}
}

func TestDaemonReachesRemoteServersWithTLSOnly(t *testing.T) {
	for url, local := range map[string]bool{
		"nats://127.0.0.1:4222": true, "localhost:4222": true, "nats://[::1]:4222": true, "nats://10.0.0.1:4222": false, "tls://127.0.0.1:4222": false, "nats.example": false,
	} {
		config, err := ConnectConfig{URL: "nats://127.0.0.1:1, " + url}.secure()
		if err != nil || (config == nil) != local || (config != nil && config.MinVersion != tls.VersionTLS13) {
			t.Errorf("%s: got %v, %v, want TLS %v", url, config, err, !local)
		}
	}
	if config, err := (ConnectConfig{URL: "nats://127.0.0.1:1", TLS: &tls.Config{}}).secure(); err != nil || config == nil {
		t.Errorf("TLS that was asked for: got %v, %v", config, err)
	}
	for _, url := range []string{"", "http://x", "nats://", "ws://x:1", "nats://%zz"} {
		if _, err := isLocal(url); err == nil {
			t.Errorf("%q passed", url)
		}
	}
}

func TestCredentialsKeepTheirSecret(t *testing.T) {
	c, err := NewBrokerCredentials("a")
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.ParseDecoratedUserNKey(c.File())
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "credentials", c)
	out.WriteString(c.String())
	if bytes.Contains(out.Bytes(), seed) {
		t.Error("the seed is printed")
	}
	again, err := ParseCredentials(c.File())
	if err != nil || again.Name != "a" || again.Public != c.Public || !again.own {
		t.Errorf("read back as %v, %v", again, err)
	}
	if alone, err := ParseCredentials(seed); err != nil || alone.Public != c.Public {
		t.Errorf("a seed alone reads as %v, %v", alone, err)
	}
	other, err := NewBrokerCredentials("b")
	if err != nil {
		t.Fatal(err)
	}
	mixed := append(bytes.SplitAfter(c.File(), []byte("END NATS USER JWT------\n"))[0], bytes.SplitAfter(other.File(), []byte("END NATS USER JWT------\n"))[1]...)
	for name, file := range map[string][]byte{"empty": nil, "text": []byte("hello"), "two users": mixed, "too long": bytes.Repeat(c.File(), 40)} {
		if _, err := ParseCredentials(file); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	if _, err := NewBrokerCredentials("admin"); err == nil {
		t.Error("credentials of a broker named admin were made")
	}
}

func FuzzParseCredentials(f *testing.F) {
	c, err := NewBrokerCredentials("a")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.File())
	f.Add([]byte("SUAPTTRZ244RZYJ3KMHHOOFUEHKGXRD2RRNYPWEAT652HDKB5YVGYTWELA"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if c, err := ParseCredentials(file); err == nil && !nkeys.IsValidPublicUserKey(c.Public) {
			t.Errorf("got key %q", c.Public)
		}
	})
}

// FuzzClaimedKey: whatever a stranger sends instead of a signature is none.
func FuzzClaimedKey(f *testing.F) {
	c, err := NewBrokerCredentials("a")
	if err != nil {
		f.Fatal(err)
	}
	text, err := nkeys.ParseDecoratedJWT(c.File())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, c.Public, "AAAA")
	f.Add("", c.Public, "")
	f.Add("e30.e30.e30", "U", "=")
	f.Fuzz(func(t *testing.T, envelope, key, sig string) {
		public, err := claimedKey(&server.ClientOpts{JWT: envelope, Nkey: key})
		if err == nil && signed(public, []byte("a nonce of ours"), sig) {
			t.Errorf("%q signs for %q", sig, public)
		}
	})
}
