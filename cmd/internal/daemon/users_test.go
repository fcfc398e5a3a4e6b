package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestUsersOfTwoProcesses: a command line and a running daemon add users to one file, and
// both see what the other added. Each opened it before the other wrote.
func TestUsersOfTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	one, other := mustOpenUsers(t, dir), mustOpenUsers(t, dir)
	var wg sync.WaitGroup
	var want []string
	for i := range 8 {
		for who, u := range map[string]*users{"a": one, "b": other} {
			name := fmt.Sprint(who, i)
			want = append(want, name, "both")
			wg.Go(func() {
				if _, err := u.ensure(name); err != nil {
					t.Error(err)
				}
				if _, err := u.ensure("both"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(want)
	want = slices.Compact(want)
	var got []string
	err := mustOpenUsers(t, dir).all(func(name, _ string) error {
		got = append(got, name) // a name with two keys is there twice
		return nil
	})
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("users %q (%v), want %q", got, err, want)
	}
}

// TestUsersAreReadAgain: what a person took out of users.json or broke there meanwhile is
// not written back from memory.
func TestUsersAreReadAgain(t *testing.T) {
	u := mustOpenUsers(t, t.TempDir())
	before, err := u.ensure("demo")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := u.ensure("demo"); err != nil || again.Public != before.Public {
		t.Errorf("a second time: %q, %v; want %q", again.Public, err, before.Public)
	}
	if err := os.WriteFile(u.file(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := u.ensure("demo")
	if err != nil || after.Public == before.Public {
		t.Errorf("after its removal: %q, %v; want another key", after.Public, err)
	}
	const broken = "{"
	if err := os.WriteFile(u.file(), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := u.ensure("other"); err == nil || !strings.Contains(err.Error(), u.file()) {
		t.Errorf("a broken file: %v, want an error that names it", err)
	}
	if text, err := os.ReadFile(u.file()); err != nil || string(text) != broken {
		t.Errorf("a broken file was replaced by %q (%v)", text, err)
	}
}

func mustOpenUsers(t *testing.T, dir string) *users {
	t.Helper()
	u, err := openUsers(dir)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestKnownFromTheFirstMoment: a broker that comes back while the daemon starts is never
// refused: twice, and its NATS client would give up for good.
func TestKnownFromTheFirstMoment(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	cfg := Config{NATSListen: listener.Addr().String(), Brokers: []messages.BrokerID{"b"}}
	must(t, listener.Close())
	dir := t.TempDir()
	startDaemon(t, dir, cfg).Close()
	creds, err := os.ReadFile(CredsFile(dir, "b"))
	must(t, err)
	options, err := client.Options("b", creds)
	must(t, err)
	for range 5 {
		first := make(chan error, 1)
		go func() {
			for {
				nc, err := nats.Connect("nats://"+cfg.NATSListen, options...)
				if err == nil {
					nc.Close()
				}
				if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, syscall.ECONNREFUSED) {
					first <- err
					return
				}
			}
		}()
		d := startDaemon(t, dir, cfg)
		if err := <-first; err != nil {
			t.Errorf("refused: %v", err)
		}
		d.Close()
	}
}
