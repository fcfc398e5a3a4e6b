package brokers

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// readGate answers authorize as the real core does: a look at memory, no lock.
type readGate struct{ *fakeGate }

func (readGate) Authorize(messages.BrokerID, []byte, []byte, []byte) (Verdict, error) {
	return Verdict{Allowed: true, AsOf: 123456, PolicyRevision: 7}, nil
}

// BenchmarkAuthorizeOverNATS compares authorize with an empty micro echo service on the
// same server, 64 requests in flight, in turns within one run (design section 13: hold
// 0.90 of its throughput and 1.3 times its p99). b.N is the rounds.
func BenchmarkAuthorizeOverNATS(b *testing.B) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Log: testLog(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	daemon := connectDaemon(b, s)
	desk, err := OpenDesk(DeskConfig{Conn: OnNATS(daemon), Gate: readGate{newFakeGate()}, Log: testLog(b), Instance: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer desk.Close(context.Background())
	desk.SetReady(true)

	echoConn := connectEcho(b, s)
	echo, err := micro.AddService(echoConn, micro.Config{Name: "echo", Version: "0.0.0"})
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Stop()
	// The daemon may only hear requests; "gatehouse.v1.admin.echo" is one that the desk
	// does not serve.
	const echoSubject = authapi.SubjectPrefix + "admin.echo"
	if err := echo.AddEndpoint("echo", micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }), micro.WithEndpointSubject(echoSubject)); err != nil {
		b.Fatal(err)
	}

	creds, err := NewOperatorCredentials(authapi.OperatorAdmin)
	if err != nil {
		b.Fatal(err)
	}
	s.users.add(authapi.OperatorAdmin, roleAdmin, creds.Public)
	admin := dial(b, s, creds, authapi.OperatorAdmin)
	brokerCreds, err := NewBrokerCredentials("bench")
	if err != nil {
		b.Fatal(err)
	}
	if err := s.AddBroker("bench", brokerCreds.Public); err != nil {
		b.Fatal(err)
	}
	broker := dial(b, s, brokerCreds, "bench")

	body := authapi.AppendAuthorizeRequest(nil, string(messages.NewToken()), "mqtt:publish", "mqtt:topic:sensors/sensor-1/temperature")
	subject := authapi.Subject("bench", authapi.OpAuthorize)
	inFlight(b, broker, subject, body, 2000)
	inFlight(b, admin, echoSubject, body, 2000)
	const perRound = 10000
	var ours, theirs []float64 // requests a second
	var oursP99, theirsP99 []float64
	for b.Loop() {
		rate, p99 := inFlight(b, broker, subject, body, perRound)
		ours, oursP99 = append(ours, rate), append(oursP99, p99)
		rate, p99 = inFlight(b, admin, echoSubject, body, perRound)
		theirs, theirsP99 = append(theirs, rate), append(theirsP99, p99)
	}
	b.ReportMetric(median(ours), "authorize/s")
	b.ReportMetric(median(theirs), "echo/s")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
	b.ReportMetric(median(oursP99)/median(theirsP99), "p99-ratio")
}

// connectEcho connects in process, as the daemon does, as a user with as many rules who
// may run a micro service.
func connectEcho(b *testing.B, s *Server) *nats.Conn {
	b.Helper()
	c, err := newCredentials("echo")
	if err != nil {
		b.Fatal(err)
	}
	rules := allowedTo(roleDaemon, "echo")
	rules.subscribe = append(rules.subscribe, "$SRV.>")
	s.users.users[c.Public] = registered{"echo", rules.permissions()}
	nc, err := connect("", c, "echo", testLog(b), nats.InProcessServer(s))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func connectDaemon(b *testing.B, s *Server) *nats.Conn {
	b.Helper()
	nc, err := s.DaemonConn()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func dial(b *testing.B, s *Server, c Credentials, name messages.BrokerID) *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(s.URL(), nats.UserCredentialBytes(c.File()), nats.CustomInboxPrefix(authapi.InboxPrefix(name)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

// inFlight sends n requests, 64 at a time, and returns requests a second and the 99th
// percentile of their time in microseconds.
func inFlight(b *testing.B, nc *nats.Conn, subject string, body []byte, n int) (rate, p99 float64) {
	b.Helper()
	const width = 64
	took := make([]time.Duration, n)
	start := time.Now()
	var wg sync.WaitGroup
	for w := range width {
		wg.Go(func() {
			for i := w; i < n; i += width {
				at := time.Now()
				m, err := nc.Request(subject, body, patience)
				if err != nil || m.Header.Get(authapi.HeaderMicroCode) != "" {
					b.Errorf("%s: %v %v", subject, m, err)
					return
				}
				took[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	rate = float64(n) / time.Since(start).Seconds()
	slices.Sort(took)
	return rate, float64(took[n*99/100].Microseconds())
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
