package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// A test needs a daemon that is killed at a given step: the test binary again, told by its
// environment where to be one.
const (
	lifeDir  = "GATEHOUSE_DAEMON_DIR"
	lifeNATS = "GATEHOUSE_DAEMON_NATS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lifeDir); dir != "" {
		os.Exit(live(dir, os.Getenv(lifeNATS)))
	}
	os.Exit(m.Run())
}

// An order has a life move to another address, and die of it at a step of the rotation that
// follows. It is a line on standard input.
type order struct {
	Host       string
	Subscriber string
	Kind       messages.Kind // of the event at which it dies
	OnRecord   bool          // it is durable then, and nobody has heard so; else it is not
}

func (o order) String() string {
	if o.OnRecord {
		return fmt.Sprintf("%s: %s is on record", o.Subscriber, o.Kind)
	}
	return fmt.Sprintf("%s: %s is about to be", o.Subscriber, o.Kind)
}

// A fact is an event of core/ca, as a life tells it: a line on standard output.
type fact struct {
	Seq                      uint64
	Kind, Subscriber, Serial string
	Names                    []string
}

// deadly is a log that kills its process at the step that was ordered.
type deadly struct {
	eventlog.Log
	mu    sync.Mutex
	order order // guarded by mu
}

func (l *deadly) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	l.mu.Lock()
	o := l.order
	l.mu.Unlock()
	if o.Host == "" || b.Stream != messages.StreamCA || !slices.ContainsFunc(b.Drafts, func(d eventlog.Draft) bool {
		e, err := messages.DecodeEvent(&messages.Record{Kind: d.Kind, Schema: d.Schema, Body: d.Body})
		return err == nil && d.Kind == o.Kind && factOf(0, e).Subscriber == o.Subscriber
	}) {
		l.Log.Append(b, done)
		return
	}
	if !o.OnRecord {
		die()
	}
	l.Log.Append(b, func([]messages.Record, error) { die() })
}

// die is kill -9: nothing runs after it.
func die() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// live is a daemon in a process of its own, which follows orders.
func live(dir, nats string) int {
	d := &Daemon{cfg: Config{
		Dir: dir, Mode: "dev", CAType: ca.TypeECDSAP256, Brokers: []messages.BrokerID{"b"}, NATSListen: nats, MQTTListen: "127.0.0.1:0",
		MQTTHosts: []string{"localhost"}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, epoch: newEpoch()}
	d.logger = d.cfg.Logger
	log := &deadly{}
	for _, step := range d.steps() {
		if err := step.run(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, step.name, err)
			return 1
		}
		if step.name == "open log" {
			log.Log, d.log = d.log, log
		}
	}
	go tell(log)
	for in := json.NewDecoder(os.Stdin); ; {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			d.Close()
			return 0
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "order:", err)
			return 1
		}
		log.mu.Lock()
		log.order = o
		log.mu.Unlock()
		if err := d.authority.Load().Hosts(context.Background(), "test", []string{o.Host}); err != nil {
			fmt.Fprintln(os.Stderr, "move:", err)
		}
	}
}

// tell writes what is on record, and what comes to be, to standard output.
func tell(log eventlog.Log) {
	out := json.NewEncoder(os.Stdout)
	for rec, err := range log.Follow(context.Background(), 1) {
		if err != nil {
			return // the log is closed
		}
		if rec.Stream != messages.StreamCA {
			continue
		}
		e, err := messages.DecodeEvent(&rec)
		if err == nil {
			err = out.Encode(factOf(rec.Seq, e))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "tell:", err)
			return
		}
	}
}

func factOf(seq uint64, e messages.Event) fact {
	f := fact{Seq: seq, Kind: e.Kind().String()}
	switch e := e.(type) {
	case *messages.CertificateOrdered:
		f.Subscriber, f.Serial, f.Names = e.Subscriber, e.Serial, e.Names
	case *messages.CertificateIssued:
		f.Subscriber, f.Serial = e.Subscriber, e.Serial
	case *messages.CertificateDelivered:
		f.Subscriber, f.Serial = e.Subscriber, e.Serial
	}
	return f
}

// lives are daemons one after the other in one directory.
type lives struct {
	t    *testing.T
	dir  string
	nats string
	cmd  *exec.Cmd
	in   io.WriteCloser
	said *output
	end  chan error

	mu    sync.Mutex
	facts map[uint64]fact // on record; guarded by mu
}

// begin starts one, and returns when it answers.
func (l *lives) begin() {
	l.t.Helper()
	self, err := os.Executable()
	must(l.t, err)
	_ = os.Remove(runFile(l.dir))
	cmd := exec.CommandContext(l.t.Context(), self)
	cmd.Env = append(os.Environ(), lifeDir+"="+l.dir, lifeNATS+"="+l.nats)
	l.said = &output{}
	cmd.Stderr = l.said
	l.in, err = cmd.StdinPipe()
	must(l.t, err)
	out, err := cmd.StdoutPipe()
	must(l.t, err)
	must(l.t, cmd.Start())
	l.cmd, l.end = cmd, make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var f fact
			if json.Unmarshal(lines.Bytes(), &f) == nil { // the last line may be half a one
				l.mu.Lock()
				l.facts[f.Seq] = f
				l.mu.Unlock()
			}
		}
		l.end <- cmd.Wait()
	}()
	eventually(l.t, "the daemon answers", func() bool {
		_, err := ReadRun(l.dir)
		return err == nil
	})
}

// dies gives an order, and waits until the process has ended by it.
func (l *lives) dies(o order) {
	l.t.Helper()
	must(l.t, json.NewEncoder(l.in).Encode(o))
	select {
	case err := <-l.end:
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			l.t.Fatalf("%s: it ended with %v\n%s", o, err, l.said)
		}
	case <-time.After(fleetPatience):
		l.t.Fatalf("%s: it lives\n%s", o, l.said)
	}
}

// of lists what is on record about a subscriber's certificates for a host, in order: the
// serial numbers that were ordered, issued, delivered.
func (l *lives) of(subscriber, host string) (serials [3][]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := make([]uint64, 0, len(l.facts))
	for seq := range l.facts {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		f := l.facts[seq]
		switch {
		case f.Subscriber != subscriber:
		case f.Kind == messages.KindCertificateOrdered.String() && slices.Contains(f.Names, host):
			serials[0] = append(serials[0], f.Serial)
		case f.Kind == messages.KindCertificateIssued.String() && slices.Contains(serials[0], f.Serial):
			serials[1] = append(serials[1], f.Serial)
		case f.Kind == messages.KindCertificateDelivered.String() && slices.Contains(serials[0], f.Serial):
			serials[2] = append(serials[2], f.Serial)
		}
	}
	return serials
}

func newLives(t *testing.T) *lives {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the address is the same in all lives
	must(t, err)
	l := &lives{t: t, dir: filepath.Join(t.TempDir(), "data"), nats: listener.Addr().String(), facts: map[uint64]fact{}}
	must(t, listener.Close())
	t.Cleanup(func() {
		if l.cmd != nil {
			_ = l.cmd.Process.Kill()
		}
	})
	return l
}

// holder is a broker with a key of its own, which lives on.
type holder struct {
	*client.Certificates
	mu  sync.Mutex
	got []string // serial numbers, each when it came first; guarded by mu
}

// all lists what came to h.
func (h *holder) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

func (l *lives) holder(name messages.BrokerID) *holder {
	l.t.Helper()
	creds, err := os.ReadFile(CredsFile(l.dir, string(name)))
	must(l.t, err)
	said := &output{}
	c, err := client.Connect(l.t.Context(), client.Config{
		Broker: name, URL: "nats://" + l.nats, Credentials: creds, Logger: slog.New(slog.NewTextHandler(said, nil)),
	})
	must(l.t, err)
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("%s said:\n%s\nthe daemon said:\n%s", name, said, l.said)
		}
	})
	l.t.Cleanup(func() { _ = c.Close() })
	h := &holder{}
	h.Certificates, err = c.Certificates(client.CertificatesConfig{Install: func(_ context.Context, c *client.Certificate) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !slices.Contains(h.got, c.Serial) {
			h.got = append(h.got, c.Serial)
		}
		return nil
	}})
	must(l.t, err)
	must(l.t, h.Ready(l.t.Context()))
	return h
}

// TestKilledDuringARotation is issue 4's fifth demand, with processes that are killed: at
// each step of a rotation, for the embedded broker, whose key ends with the process, and for
// one with a key of its own. After the next start each has exactly one valid certificate,
// which is delivered; what left is on record, what is on record is not made again, and no
// serial number is there twice.
func TestKilledDuringARotation(t *testing.T) {
	if testing.Short() {
		t.Skip("a series of kills; the plain run has it")
	}
	l := newLives(t)
	l.begin()
	b := l.holder("b")
	var orders []order
	for _, subscriber := range []string{mqttSubscriber, "b"} {
		for _, kind := range []messages.Kind{messages.KindCertificateOrdered, messages.KindCertificateIssued, messages.KindCertificateDelivered} {
			for _, onRecord := range []bool{false, true} {
				orders = append(orders, order{
					Host: fmt.Sprintf("host-%d.example", len(orders)), Subscriber: subscriber, Kind: kind, OnRecord: onRecord,
				})
			}
		}
	}
	for _, o := range orders {
		l.dies(o)
		l.begin()
		l.settled(o, b)
	}
	must(t, l.in.Close())
	if err := <-l.end; err != nil {
		t.Errorf("the end: %v\n%s", err, l.said)
	}
	l.onRecord(b)
	t.Logf("%d kills, %d certificates, %d came to b", len(orders), l.count(messages.KindCertificateIssued), len(b.all()))
}

// settled waits until the rotation of o, during which the daemon was killed, is complete, and
// looks at what has come of it.
func (l *lives) settled(o order, b *holder) {
	t := l.t
	t.Helper()
	eventually(t, fmt.Sprintf("%s: b has its certificate", o), func() bool {
		return slices.Contains(b.Current().Leaf.DNSNames, o.Host)
	})
	serial := b.Current().Serial
	eventually(t, fmt.Sprintf("%s: that is on record", o), func() bool { return slices.Contains(l.of("b", o.Host)[2], serial) })
	if got := l.of("b", o.Host); len(got[1]) != 1 || !slices.Equal(got[1], got[2]) {
		t.Errorf("%s: of b's certificates %v were issued and %v delivered, want one", o, got[1], got[2])
	}

	run, err := ReadRun(l.dir)
	must(t, err)
	roots, err := publishedIn(l.dir)
	must(t, err)
	conn, err := tls.Dial("tcp", run.MQTT, &tls.Config{RootCAs: roots, ServerName: o.Host})
	if err != nil {
		t.Fatalf("%s: the embedded broker: %v", o, err)
	}
	defer func() { _ = conn.Close() }()
	shown := shownSerial(conn)
	eventually(t, fmt.Sprintf("%s: its certificate is on record", o), func() bool { return slices.Contains(l.of(mqttSubscriber, o.Host)[2], shown) })
	got := l.of(mqttSubscriber, o.Host)
	if last := got[1][len(got[1])-1]; last != shown {
		t.Errorf("%s: the embedded broker shows %s, issued last was %s", o, shown, last)
	}
	if before := got[1][:len(got[1])-1]; len(before) > 1 { // with the key that is gone
		t.Errorf("%s: the embedded broker had the certificates %v", o, before)
	}
}

// onRecord looks at the whole of the log.
func (l *lives) onRecord(b *holder) {
	serials := map[string]bool{}
	issued := map[string]bool{}
	for _, f := range l.facts {
		switch f.Kind {
		case messages.KindCertificateOrdered.String():
			if serials[f.Serial] {
				l.t.Errorf("serial number %s was ordered twice", f.Serial)
			}
			serials[f.Serial] = true
		case messages.KindCertificateIssued.String():
			if issued[f.Serial] {
				l.t.Errorf("serial number %s was issued twice", f.Serial)
			}
			issued[f.Serial] = true
		}
	}
	for _, serial := range b.all() {
		if !issued[serial] {
			l.t.Errorf("certificate %s left and is not on record", serial)
		}
	}
	if n := l.count(messages.KindAuthorityCreated); n != 1 {
		l.t.Errorf("%d authorities, want one", n)
	}
}

func (l *lives) count(kind messages.Kind) (n int) {
	for _, f := range l.facts {
		if f.Kind == kind.String() {
			n++
		}
	}
	return n
}
