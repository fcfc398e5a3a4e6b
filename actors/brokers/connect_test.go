package brokers

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestDeskServesOnAnExternalServer, which is down when the daemon starts, comes up, goes
// away and comes back (reliability spec C1).
func TestDeskServesOnAnExternalServer(t *testing.T) {
	daemon, err := NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewBrokerCredentials("a")
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]Credentials{"a": a}
	port := freePort(t)
	url := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()

	nc, err := Connect(ConnectConfig{URL: "nats://" + url, Credentials: daemon, Log: testLog(t)})
	if err != nil {
		t.Fatalf("a server that is down must not stop the daemon: %v", err)
	}
	defer nc.Close()
	back := nc.StatusChanged(nats.CONNECTED)
	desk, err := OpenDesk(DeskConfig{Conn: OnNATS(nc), Gate: newFakeGate(), Log: testLog(t), Instance: "test1"})
	if err != nil {
		t.Fatal(err)
	}
	defer desk.Close(t.Context())
	desk.SetReady(true)

	file := filepath.Join(t.TempDir(), "a.creds")
	if err := os.WriteFile(file, a.File(), 0o400); err != nil {
		t.Fatal(err)
	}
	seed, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ns := externalServer(t, users, daemon, port)
		select {
		case <-back:
		case <-time.After(patience):
			t.Fatal("the daemon did not connect")
		}
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		broker, err := nats.Connect(ns.ClientURL(), seed, nats.CustomInboxPrefix(authapi.InboxPrefix("a")), nats.NoReconnect())
		if err != nil {
			t.Fatal(err)
		}
		if _, refusal := ask(t, broker, "a", authapi.OpAuthorize, string(authapi.AppendAuthorizeRequest(nil, "t", "o", "r"))); refusal == nil || refusal.Code != messages.RefusedInvalidToken {
			t.Errorf("got %v, want InvalidClientDeviceAuthToken", refusal)
		}
		broker.Close()
		ns.Shutdown()
		ns.WaitForShutdown()
	}
}

// TestServerThatRefusesTheDaemon: that is a wrong configuration, and said so: at once if the
// server is there, in the log if it comes later.
func TestServerThatRefusesTheDaemon(t *testing.T) {
	known, err := NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	said := make(chan string, 16)
	cfg := ConnectConfig{
		URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Credentials: stranger,
		Log: slog.New(slog.NewTextHandler(lines(said), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	early, err := Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	externalServer(t, nil, known, port)
	if nc, err := Connect(cfg); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("got %v, want %v", err, nats.ErrAuthorization)
	}
	select {
	case line := <-said:
		if !strings.Contains(line, "refused the credentials") {
			t.Errorf("got %s", line)
		}
	case <-time.After(patience):
		t.Error("nothing is said")
	}
}

// lines hands on what is written to it.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestErrorsKeepPasswords: the URLs of NATS servers may hold some.
func TestErrorsKeepPasswords(t *testing.T) {
	daemon, err := NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	for _, urls := range []string{"http://u:sesame@h", "nats://h,nats://u:sesame@h:x", "nats://u:sesame,x@h", "nats://u:%sesame@h"} {
		nc, err := Connect(ConnectConfig{URL: urls, Credentials: daemon, Log: testLog(t)})
		if err == nil {
			nc.Close()
			t.Errorf("%s: connected", urls)
		} else if strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", urls, err)
		}
	}
}

func TestConnectNeedsItsCollaborators(t *testing.T) {
	daemon, err := NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]ConnectConfig{
		"no URL": {Credentials: daemon, Log: testLog(t)}, "no credentials": {URL: "nats://127.0.0.1:1", Log: testLog(t)},
		"no log": {URL: "nats://127.0.0.1:1", Credentials: daemon}, "bad URL": {URL: "nats://127.0.0.1:1,http://x", Credentials: daemon, Log: testLog(t)},
	} {
		if nc, err := Connect(cfg); err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
		}
	}
}
