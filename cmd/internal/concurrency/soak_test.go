package concurrency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// natsServer is a server that is not the daemon's own, and that goes away now and then.
type natsServer struct {
	t       *testing.T
	options server.Options
	running *server.Server
}

func (n *natsServer) start() {
	n.t.Helper()
	options := n.options
	s, err := server.NewServer(&options)
	must(n.t, err)
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		n.t.Fatal("the NATS server does not start")
	}
	n.running, n.options.Port = s, options.Port
}

func (n *natsServer) stop() {
	n.running.Shutdown()
	n.running.WaitForShutdown()
}

// moveOut has the site's daemon use a NATS server that is not its own.
func (s *site) moveOut() *natsServer {
	s.t.Helper()
	s.stop()
	own, err := nkeys.CreateUser()
	must(s.t, err)
	seed, err := own.Seed()
	must(s.t, err)
	public, err := own.PublicKey()
	must(s.t, err)
	users := []*server.NkeyUser{{Nkey: public}}
	entries, err := os.ReadDir(daemon.BrokersDir(s.cfg.Dir))
	must(s.t, err)
	for _, e := range entries {
		text, err := os.ReadFile(daemon.BrokersDir(s.cfg.Dir) + "/" + e.Name())
		must(s.t, err)
		if c, err := brokers.ParseCredentials(text); err == nil {
			users = append(users, &server.NkeyUser{Nkey: c.Public})
		}
	}
	n := &natsServer{t: s.t, options: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Nkeys: users}}
	n.start()
	s.cfg.NATSListen, s.cfg.NATS = "", &daemon.ExternalNATS{URL: n.running.ClientURL(), Credentials: seed}
	s.start()
	return n
}

// TestSoakLeavesNothingBehind: NATS servers that go and come, a cloud that does, and brokers
// that come, work, are cut off and leave, for a while: and then there are as many goroutines
// and descriptors as before, and no more memory (reliability spec 2.3, E9).
func TestSoakLeavesNothingBehind(t *testing.T) {
	const clients = 4
	var names []messages.BrokerID
	for i := range clients {
		names = append(names, messages.BrokerID(fmt.Sprintf("broker-%d", i)))
	}
	s := open(t, names, nil)
	n := s.moveOut()
	defer n.stop()
	defer s.stop()
	fleet := make([]device, 60)
	for i := range fleet {
		fleet[i] = newDevice(t)
	}
	began, atMost := time.Now(), sized(share(20*time.Second), 2*time.Hour)
	if d, err := time.ParseDuration(os.Getenv("GATEHOUSE_NIGHT")); err == nil {
		atMost = d
	}
	k := &soak{s: s, names: names, fleet: fleet}
	k.meet()
	k.trouble(n, sized(4*time.Second, time.Minute)) // what is made once is made
	before := k.rest()
	t.Logf("before: %v", before)
	var heap []uint64
	var at []float64
	for time.Since(began) < atMost {
		k.trouble(n, min(atMost/8, 5*time.Minute))
		now := k.rest()
		heap, at = append(heap, now.heap), append(at, time.Since(began).Hours())
	}
	after := k.rest()
	t.Logf("after %v: %v; %d sessions opened, %d decisions, %d not to be had; %d restarts of NATS, %d outages of the cloud", time.Since(began).Round(time.Second), after,
		k.opened.Load(), k.decided.Load(), k.unavailable.Load(), k.restarts, k.outages)
	if d := after.goroutines - before.goroutines; d > 5 || d < -5 {
		t.Errorf("%d goroutines, %d before", after.goroutines, before.goroutines)
	}
	if d := after.files - before.files; d > 2 || d < -2 {
		t.Errorf("%d descriptors, %d before", after.files, before.files)
	}
	slope := slopeOf(at, heap) / (1 << 20)
	t.Logf("heap: %.1f MiB an hour", slope)
	if night() && slope > 1 {
		t.Errorf("the heap grows by %.1f MiB an hour", slope)
	}
	if grown := int64(after.heap) - int64(before.heap); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if k.opened.Load() == 0 || k.decided.Load() == 0 || k.wrong.Load() > 0 {
		t.Errorf("%d sessions, %d decisions, %d wrong answers", k.opened.Load(), k.decided.Load(), k.wrong.Load())
	}
}

// soak is brokers and faults.
type soak struct {
	s                 *site
	names             []messages.BrokerID
	fleet             []device
	restarts, outages int

	opened, decided, unavailable, wrong atomic.Int64
}

// meet has every device come once: who is not known is denied while the cloud is away.
func (k *soak) meet() {
	ctx, cancel := context.WithTimeout(k.s.t.Context(), time.Minute)
	defer cancel()
	c, err := client.Connect(ctx, client.Config{Broker: k.names[0], URL: k.s.cfg.NATS.URL, Credentials: k.s.credentials(string(k.names[0]))})
	must(k.s.t, err)
	defer func() { _ = c.Close() }()
	for _, d := range k.fleet {
		_, err := c.Authenticate(ctx, string(d.thing), d.der)
		must(k.s.t, err)
	}
}

// trouble goes on for d.
func (k *soak) trouble(n *natsServer, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var work sync.WaitGroup
	for i, name := range k.names {
		work.Go(func() {
			for ctx.Err() == nil {
				k.life(ctx, name, i)
			}
		})
	}
	work.Go(func() {
		for pause(ctx, 700*time.Millisecond) {
			k.s.cloud.away.Store(true)
			k.outages++
			pause(ctx, 500*time.Millisecond)
			k.s.cloud.away.Store(false)
		}
	})
	for pause(ctx, 1500*time.Millisecond) {
		n.stop()
		k.restarts++
		pause(ctx, 200*time.Millisecond)
		n.start()
	}
	work.Wait()
	k.s.cloud.away.Store(false)
}

// err notes a wrong answer.
func (k *soak) err(format string, args ...any) {
	if k.wrong.Add(1) <= 20 {
		k.s.t.Errorf(format, args...)
	}
}

// pause waits for d and reports whether there is more to do.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// life is that of one broker's process: devices come, do things, and some of them leave.
func (k *soak) life(ctx context.Context, name messages.BrokerID, nth int) {
	c, err := client.Connect(ctx, client.Config{
		Broker: name, URL: k.s.cfg.NATS.URL, Credentials: k.s.credentials(string(name)), RetryOnFailedConnect: true, Timeout: time.Second,
	})
	if err != nil {
		if ctx.Err() == nil { // a server that is being started may refuse a connection in its own way
			k.unavailable.Add(1)
		}
		return
	}
	defer func() { _ = c.Close() }()
	var work sync.WaitGroup
	defer work.Wait()
	for range 6 {
		work.Go(func() {
			for range 5 {
				k.visit(ctx, c, k.fleet[nth+len(k.names)*rand.IntN(len(k.fleet)/len(k.names))])
			}
		})
	}
}

// visit is one device's.
func (k *soak) visit(ctx context.Context, c *client.Client, d device) {
	s, err := c.Authenticate(ctx, string(d.thing), d.der)
	switch {
	case err == nil:
		k.opened.Add(1)
	case errors.Is(err, client.ErrDenied):
		k.err("%s: %v", d.thing, err)
		return
	default:
		k.unavailable.Add(1)
		pause(ctx, 20*time.Millisecond)
		return
	}
	s.OnClosed(func(client.Ending) {})
	for range 10 {
		if ctx.Err() != nil {
			return
		}
		k.decided.Add(1)
		if got := s.Publish("units/" + string(d.thing) + "/state"); got == client.Denied {
			k.err("%s: may not publish below its own name", d.thing)
		}
		if got := s.Publish("units/another/state"); got == client.Allowed {
			k.err("%s: may publish below another's name", d.thing)
		}
		pause(ctx, time.Duration(rand.IntN(20))*time.Millisecond)
	}
	if rand.IntN(2) == 0 {
		s.Close()
	} // else the broker's end closes it
}

// resources is what a process holds.
type resources struct {
	goroutines, files int
	heap              uint64
}

// String tells them.
func (r resources) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, heap %.1f MiB", r.goroutines, r.files, float64(r.heap)/(1<<20))
}

// rest waits until nothing is under way any more, and says what is held then.
func (k *soak) rest() (r resources) {
	k.s.await("the daemon to see the cloud", func(st daemon.Status) bool { return st.CloudReachable })
	// That a process has come to rest is announced by nobody, and the keeper's questions go on
	// each second: it has when a second and a half long there were never fewer goroutines.
	r.goroutines = goroutines()
	for still := 0; still < 30; still++ {
		time.Sleep(50 * time.Millisecond)
		if now := goroutines(); now < r.goroutines {
			r.goroutines, still = now, 0
		}
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, err := os.ReadDir("/proc/self/fd")
	must(k.s.t, err)
	r.heap, r.files = m.HeapAlloc, len(entries)
	return r
}

// goroutines counts them, but for workers that wait for the turn of an entity: so many stay
// as there were turns at once, 64 at most.
func goroutines() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("\n\ngoroutine ")) + 1 - bytes.Count(stacks, []byte("actors.(*workers).work("))
}

// slopeOf is the slope of the line through the points, by least squares.
func slopeOf(x []float64, y []uint64) float64 {
	var mx, my, above, below float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += float64(y[i]) / float64(len(x))
	}
	for i := range x {
		above += (x[i] - mx) * (float64(y[i]) - my)
		below += (x[i] - mx) * (x[i] - mx)
	}
	return above / max(below, 1e-12)
}
