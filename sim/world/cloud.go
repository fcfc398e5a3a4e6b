package world

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// coreThing is the core's own thing in the emulated cloud.
const coreThing = messages.ThingName("gatehouse-core")

// cloud is the emulated cloud and the core's way to it.
type cloud struct {
	emulator *awsemu.Emulator
	registry *awsemu.Registry
	issuer   *issuer
	identity tls.Certificate // the core's
	skew     atomic.Int64    // of the cloud's clock, ns
}

// loopback is where the emulated cloud listens. It is not 127.0.0.1, whose free ports
// every program on the machine uses for its connections: while the cloud is away one of
// them could take its port.
const loopback = "127.77.0.1:0"

func startCloud(m *Machine, t *turns) (*cloud, error) {
	issuer, err := newIssuer("Gatehouse world root", m.start)
	if err != nil {
		return nil, err
	}
	c := &cloud{issuer: issuer, registry: awsemu.NewRegistry()}
	authority, err := issuer.authority()
	if err != nil {
		return nil, err
	}
	server, err := issuer.server(m.start)
	if err != nil {
		return nil, err
	}
	own, err := issuer.device(string(coreThing), m.start.Add(-validBefore), m.start.Add(validFor))
	if err != nil {
		return nil, err
	}
	c.identity = tls.Certificate{Certificate: [][]byte{own}, PrivateKey: issuer.key}
	if err := c.registry.Enroll(coreThing, &awsemu.Identity{ID: messages.CertificateIDOf(own), DER: own}, true); err != nil {
		return nil, err
	}
	c.emulator, err = awsemu.Start(awsemu.Config{
		Addr: loopback, ControlAddr: loopback, CredentialAddr: loopback, Certificate: server, Authority: authority, Registry: c.registry,
		Now:  func() time.Time { return m.Now().Add(time.Duration(c.skew.Load())) },
		Wait: func(ctx context.Context, d time.Duration) { t.wait(ctx, m, d) },
	})
	return c, err
}

// wait lets d of the machine's time pass, or ctx end; a negative d has no end.
func (t *turns) wait(ctx context.Context, m *Machine, d time.Duration) {
	over := make(chan struct{})
	stop := func() bool { return true }
	if d >= 0 {
		stop = m.after(d, func() {
			t.release() // before who waits goes on: until then it is not at rest
			close(over)
		}, nil)
	}
	t.hold()
	select {
	case <-over:
	case <-ctx.Done():
		if stop() {
			t.release()
		}
	}
}

// answerMax is how long the core waits for an answer of the cloud, in the world's time, as
// the daemon does in the machine's.
const answerMax = 2 * time.Second

// refreshRate is how many background questions the core puts to the cloud in a second: as
// many as there may be, so that a refresh of a few things takes no time.
const refreshRate = 1000

// way is the core's way to the cloud: the clients and the queue, as the daemon's. There is
// no monitor beside them: the core's own link says whether it is up.
type way struct {
	client *cloudsync.DataPlane
	queue  *cloudsync.Queue
	list   *listing
	clock  *process
	turns  *turns
	asking atomic.Int64 // questions on the wire
}

func (c *cloud) connect(p *process, now func() time.Time, t *turns) (*way, error) {
	w := &way{clock: p, turns: t, list: &listing{clock: p, turns: t}}
	none := func() float64 { return 0 } // jitter
	var err error
	if w.client, err = cloudsync.NewDataPlane(cloudsync.DataPlaneConfig{
		Endpoint: c.emulator.URL(), ServerName: awsemu.ServerName, Identity: c.identity, Roots: c.issuer.pool(),
		Timeout: patience, Now: now,
	}); err != nil {
		return nil, err
	}
	if w.list.lister, err = associations.New(associations.Config{
		Core: coreThing, Attempts: 1, AfterFunc: w.list.afterFunc, Jitter: none,
		Control: control.Config{
			Region: awsemu.Region, Endpoint: c.emulator.ControlURL(), ServerName: awsemu.ServerName, Roots: c.issuer.pool(),
			Credentials: credentials.Static(c.emulator.Credentials()), Timeout: patience, Now: now,
		},
	}); err != nil {
		return nil, err
	}
	w.queue, err = cloudsync.NewQueue(w.exchange, cloudsync.QueueConfig{Now: p.Now, AfterFunc: p.AfterFunc, Jitter: none, RefreshRate: refreshRate})
	return w, err
}

// Ask implements actors.Cloud.
func (w *way) Ask(question messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	return w.queue.Submit(question, done)
}

// exchange puts one question, for as long as the world's time allows.
func (w *way) exchange(ctx context.Context, question messages.CloudQuestion) messages.CloudAnswer {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := w.clock.AfterFunc(answerMax, func() {
		w.turns.owe(1) // time has passed, so the cloud is holding the answer back
		cancel(context.DeadlineExceeded)
	})
	defer stop()
	w.turns.begin()
	defer w.turns.end()
	w.asking.Add(1)
	defer w.asking.Add(-1)
	return w.client.Ask(ctx, question)
}

// busy says whether a question is about to be asked, or an answer being handed on.
func (w *way) busy() bool { return int64(w.queue.Waiting().Asking) > w.asking.Load() }

// breakOff says that the system, which is at rest, is about to end what is on the wire.
func (w *way) breakOff() {
	w.turns.owe(int(w.asking.Load()))
	if w.list.onWire() {
		w.turns.owe(1)
	}
}

func (w *way) close() {
	w.queue.Close()
	w.client.Close()
	w.list.lister.Close()
}

// calls counts the questions about devices that have reached the cloud.
func (c *cloud) calls() (n int) {
	for op := range cloudsync.DefaultRoutes() {
		n += c.emulator.Calls(op)
	}
	return n
}
