package brokers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// matrix is who may publish on what and subscribe to what (reliability spec 2.3, C7).
// Each row names the users who may; everyone else must be refused. Wildcards are not
// published on.
var matrix = []struct {
	subject      string
	publish, sub string // space-separated users
}{
	{"gatehouse.v1.a.verify", "a", "daemon"},
	{"gatehouse.v1.a.token", "a", "daemon"},
	{"gatehouse.v1.a.authorize", "a", "daemon"},
	{"gatehouse.v1.a.authenticate", "a", "daemon"},
	{"gatehouse.v1.a.permissions", "a", "daemon"},
	{"gatehouse.v1.a.close", "a", "daemon"},
	{"gatehouse.v1.a.certificates", "a", "daemon"},
	{"gatehouse.v1.b.certificates", "b", "daemon"},
	{"gatehouse.v1.push.a.certificate-updated", "daemon", "a"},
	{"gatehouse.v1.a.verify.x", "", ""},
	{"gatehouse.v1.a", "", ""},
	{"gatehouse.v1.b.authorize", "b", "daemon"},
	{"gatehouse.v1.b.close", "b", "daemon"},
	{"gatehouse.v2.a.verify", "", ""},
	{"gatehouse.v1.*.authorize", "", "daemon"},
	{"gatehouse.v1.*.close", "", "daemon"},
	{"gatehouse.v1.*.*", "", ""},
	{"gatehouse.v1.a.*", "", ""},
	{"gatehouse.v1.a.>", "", ""},
	{"gatehouse.v1.>", "", ""},
	{"gatehouse.>", "", ""},
	{"gatehouse.v1.push.a.session-closed", "daemon", "a"},
	{"gatehouse.v1.push.a.heartbeat", "daemon", "a"},
	{"gatehouse.v1.push.a.>", "", "a"},
	{"gatehouse.v1.push.a.*", "", "a"},
	{"gatehouse.v1.push.b.session-closed", "daemon", "b"},
	{"gatehouse.v1.push.b.>", "", "b"},
	{"gatehouse.v1.push.*.session-closed", "daemon", ""},
	{"gatehouse.v1.push.>", "", ""},
	{"gatehouse.v1.push", "", ""},
	{"gatehouse.v1.events.device", "daemon", "auditor"},
	{"gatehouse.v1.events.>", "", "auditor"},
	{"gatehouse.v1.admin.quarantine", "admin", "daemon"},
	{"gatehouse.v1.audit.query", "auditor", "daemon"},
	{"_INBOX_a.x", "", "a"},
	{"_INBOX_a.x.y", "", "a"},
	{"_INBOX_a.>", "", "a"},
	{"_INBOX_a", "", ""},
	{"_INBOX_ab.x", "", ""},
	{"_INBOX_b.x", "", "b"},
	{"_INBOX_b.>", "", "b"},
	{"_INBOX_auditor.x", "", "auditor"},
	{"_INBOX_admin.x", "", "admin"},
	{"_INBOX_gatehouse.x", "", "daemon"},
	{"_INBOX.x", "", ""},
	{"_INBOX.>", "", ""},
	{"$SRV.PING", "admin auditor", "daemon"},
	{"$SRV.STATS.gatehouse", "admin auditor", "daemon"},
	{"$SRV.INFO.gatehouse.id1", "admin auditor", "daemon"},
	{"$SRV.INFO.other", "", ""},
	{"$SRV.>", "", ""},
	{"$SYS.REQ.SERVER.PING", "", ""},
	{"$SYS.REQ.USER.INFO", "", ""},
	{"$SYS.>", "", ""},
	{"$JS.API.INFO", "", ""},
	{"$MQTT.msgs.x", "", ""},
	{"$G.x", "", ""},
	{"x", "", ""},
	{"*", "", ""},
	{">", "", ""},
}

// probe is a connection whose refusals can be awaited.
type probe struct {
	nc      *nats.Conn
	refusal chan string // what the server refused, in order
}

func dialProbe(t *testing.T, url string, options ...nats.Option) *probe {
	t.Helper()
	p := &probe{refusal: make(chan string, 16)}
	nc, err := nats.Connect(url, append(options, nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		p.refusal <- err.Error()
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p.nc = nc
	return p
}

// refused says whether the server refuses what do does. The server answers in order, so
// a refusal of do comes before that of a publish which is always refused.
func (p *probe) refused(t *testing.T, do func(nc *nats.Conn) error) bool {
	t.Helper()
	if err := do(p.nc); err != nil {
		t.Fatal(err)
	}
	sentinel := "sentinel." + nats.NewInbox()
	if err := p.nc.Publish(sentinel, nil); err != nil {
		t.Fatal(err)
	}
	for refused := false; ; refused = true {
		select {
		case text := <-p.refusal:
			if strings.Contains(text, sentinel) {
				return refused
			}
		case <-time.After(patience):
			t.Fatal("the sentinel was not refused")
		}
	}
}

// TestPermissionMatrix runs the table against the embedded server and against an
// external one with the configuration that `broker add` prints.
func TestPermissionMatrix(t *testing.T) {
	users := map[string]Credentials{}
	for _, name := range []string{"a", "b", authapi.OperatorAdmin, authapi.OperatorAuditor} {
		c, err := newCredentials(name)
		if err != nil {
			t.Fatal(err)
		}
		users[name] = c
	}
	t.Run("embedded", func(t *testing.T) {
		s := startServer(t)
		for name, c := range users {
			add := s.AddOperator
			if len(name) == 1 {
				add = func(name, key string) error { return s.AddBroker(messages.BrokerID(name), key) }
			}
			if err := add(name, c.Public); err != nil {
				t.Fatal(err)
			}
		}
		users := withDaemon(users, s.daemon)
		runMatrix(t, s.URL(), users)
	})
	t.Run("external", func(t *testing.T) {
		daemon, err := NewDaemonCredentials()
		if err != nil {
			t.Fatal(err)
		}
		runMatrix(t, externalServer(t, users, daemon, -1).ClientURL(), withDaemon(users, daemon))
	})
}

func withDaemon(users map[string]Credentials, daemon Credentials) map[string]Credentials {
	all := map[string]Credentials{"daemon": daemon}
	for name, c := range users {
		all[name] = c
	}
	return all
}

// externalServer runs a plain nats-server from the configuration that WriteServerConfig
// writes; port -1 picks a free one.
func externalServer(t *testing.T, users map[string]Credentials, daemon Credentials, port int) *server.Server {
	t.Helper()
	list := []User{{Public: daemon.Public}}
	for name, c := range users {
		list = append(list, User{Name: name, Public: c.Public})
	}
	var text strings.Builder
	fmt.Fprintf(&text, "listen: \"127.0.0.1:%d\"\n", port)
	if err := WriteServerConfig(&text, list); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("external server is not ready")
	}
	return ns
}

func runMatrix(t *testing.T, url string, users map[string]Credentials) {
	t.Helper()
	if nc, err := nats.Connect(url, nats.NoReconnect()); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			nc.Close()
		}
		t.Errorf("anonymous: got %v, want an authorization error", err)
	}
	for name, c := range users {
		option, err := c.option()
		if err != nil {
			t.Fatal(err)
		}
		p := dialProbe(t, url, option)
		for _, row := range matrix {
			mayPublish, maySubscribe := has(row.publish, name), has(row.sub, name)
			if !strings.ContainsAny(row.subject, "*>") {
				if got := !p.refused(t, func(nc *nats.Conn) error { return nc.Publish(row.subject, nil) }); got != mayPublish {
					t.Errorf("%s publishes on %s: allowed=%v, want %v", name, row.subject, got, mayPublish)
				}
			}
			if got := !p.refused(t, func(nc *nats.Conn) error { return subscribe(nc, row.subject, "") }); got != maySubscribe {
				t.Errorf("%s subscribes to %s: allowed=%v, want %v", name, row.subject, got, maySubscribe)
			}
			if got := !p.refused(t, func(nc *nats.Conn) error { return subscribe(nc, row.subject, "q") }); got != maySubscribe {
				t.Errorf("%s subscribes to %s in a queue: allowed=%v, want %v", name, row.subject, got, maySubscribe)
			}
		}
	}
}

func subscribe(nc *nats.Conn, subject, queue string) error {
	sub, err := nc.QueueSubscribeSync(subject, queue)
	if queue == "" {
		sub, err = nc.SubscribeSync(subject)
	}
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return sub.Unsubscribe()
}

func has(list, name string) bool {
	for one := range strings.FieldsSeq(list) {
		if one == name {
			return true
		}
	}
	return false
}
