package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// daemon is the product's own program, `gatehouse dev`, in a process of its own: log, host,
// NATS, desk, embedded MQTT broker and the emulated cloud.
type daemon struct {
	dir, nats string
	cmd       *exec.Cmd
	errors    tail
	isReady   chan struct{}
	ended     chan struct{}
	exit      error
	took      time.Duration
}

// freeAddress is one that nobody listens at, below those that the system gives away.
func (c *campaign) freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(6000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", errors.New("no address is free")
}

// startDaemon starts one and does not wait for it. prefix is a command that runs it.
func (c *campaign) startDaemon(dir string, prefix ...string) (*daemon, error) {
	binary, err := c.gatehouse()
	if err != nil {
		return nil, err
	}
	address, err := c.freeAddress()
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, nats: address, isReady: make(chan struct{}), ended: make(chan struct{})}
	args := append(append([]string{}, prefix...), binary, "dev", "--dir", dir, "--nats", address, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--trust", "24h")
	d.cmd = exec.CommandContext(c.ctx, args[0], args[1:]...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.cmd.Cancel = func() error { return syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) }
	d.cmd.Stderr = &d.errors
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "ready" {
				d.took = time.Since(began)
				close(d.isReady)
			}
		}
		d.exit = d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// await waits until the daemon answers.
func (d *daemon) await(c *campaign) error {
	select {
	case <-d.isReady:
		c.ready(d.took)
		return nil
	case <-d.ended:
		return fmt.Errorf("the daemon ended: %v: %s", d.exit, d.errors.String())
	case <-time.After(patience):
		d.kill()
		return fmt.Errorf("the daemon is not ready: %s", d.errors.String())
	}
}

func (d *daemon) kill() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-d.ended
}

func (d *daemon) code() int {
	<-d.ended
	var exit *exec.ExitError
	switch {
	case d.exit == nil:
		return 0
	case !errors.As(d.exit, &exit):
		return -1
	case exit.Sys().(syscall.WaitStatus).Signaled():
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
	}
	return exit.ExitCode()
}

// broker connects as the demo's broker, which waits so long for each answer.
func (d *daemon) broker(ctx context.Context, timeout time.Duration) (*client.Client, error) {
	creds, err := os.ReadFile(filepath.Join(d.dir, "brokers", "demo.creds"))
	if err != nil {
		return nil, err
	}
	return client.Connect(ctx, client.Config{
		Broker: "demo", URL: "nats://" + d.nats, Credentials: creds, Timeout: timeout, Logger: slog.New(slog.DiscardHandler),
	})
}

// operator connects as an administrator.
func (d *daemon) operator() (*admin.Client, error) {
	creds, err := os.ReadFile(filepath.Join(d.dir, "brokers", authapi.OperatorAdmin+".creds"))
	if err != nil {
		return nil, err
	}
	return admin.Dial("nats://"+d.nats, authapi.OperatorAdmin, creds, nil)
}

// certificate is a demo device's, in DER.
func (d *daemon) certificate(thing string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(d.dir, "devices", thing, "cert.pem"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no certificate", thing)
	}
	return block.Bytes, nil
}

// secondDaemon is A12 with the daemon itself.
func (c *campaign) secondDaemon() error {
	dir, err := c.temp("daemon")
	if err != nil {
		return err
	}
	first, err := c.startDaemon(dir)
	if err != nil {
		return err
	}
	defer first.kill()
	if err := first.await(c); err != nil {
		return err
	}
	for range 2 {
		second, err := c.startDaemon(dir)
		if err != nil {
			return err
		}
		c.count(func(r *Row) { r.Faults++ })
		if code := second.code(); code != exitInUse {
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("a second daemon: exit code %d, want %d: %s", code, exitInUse, second.errors.String())
		}
		c.count(func(r *Row) { r.Seen++ })
	}
	return nil
}

// worldly is what the daemon's clients know: what they were told, and what an operator
// ordered and was told is so.
type worldly struct {
	mu          sync.Mutex
	tokens      []handed          // of devices, in order
	quarantined map[string]string // by device: "yes", "no", or "?" while an order has no answer
	good        map[string]string // by device: its newest token, if no order came since
	begun       map[string]int    // by device: orders about it so far
	orders      int
	claims      bool // planted: tokens that nobody was given
}

func newWorldly() *worldly {
	return &worldly{quarantined: map[string]string{}, good: map[string]string{}, begun: map[string]int{}}
}

// asks is how many orders there were about a device, and whether it may get in.
func (w *worldly) asks(thing string) (orders int, free bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun[thing], w.quarantined[thing] == "no"
}

// given notes a token that was asked for after so many orders, when the device was free.
func (w *worldly) given(thing, token string, orders int, free bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens = append(w.tokens, handed{token: token, thing: thing})
	if free && orders == w.begun[thing] && w.quarantined[thing] == "no" {
		w.good[thing] = token
	}
}

// deviceRequest is the body of the admin service's orders about a device (cmd/internal/daemon).
type deviceRequest struct {
	Thing  messages.ThingName `json:"thing"`
	Reason string             `json:"reason,omitempty"`
}

// work keeps a daemon busy until it is gone: devices connect, publish and leave, an operator
// quarantines and releases them.
func (d *daemon) work(ctx context.Context, w *worldly, seed uint64) {
	var wg sync.WaitGroup
	defer wg.Wait()
	things := []string{"sensor-1", "sensor-2", "sensor-3"}
	for i, thing := range things {
		wg.Go(func() {
			der, err := d.certificate(thing)
			if err != nil {
				return
			}
			c, err := d.broker(ctx, client.DefaultTimeout)
			if err != nil {
				return
			}
			defer c.Close()
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for ctx.Err() == nil {
				orders, free := w.asks(thing)
				token, err := c.Token(ctx, thing, der)
				if err == nil {
					w.given(thing, string(token), orders, free)
					_, _ = c.AuthorizeToken(ctx, token, "mqtt:publish", "mqtt:topic:sensors/"+thing+"/t") // load
				}
				if s, err := c.Authenticate(ctx, thing, der); err == nil && rng.IntN(2) == 0 {
					s.Close()
				}
			}
		})
	}
	wg.Go(func() {
		op, err := d.operator()
		if err != nil {
			return
		}
		defer op.Close()
		for i := 0; ctx.Err() == nil; i++ {
			w.order(ctx, op, things[i%3], i/3%2 == 0)
		}
	})
}

// order has a device quarantined or released, and notes what the answer proves.
func (w *worldly) order(ctx context.Context, op *admin.Client, thing string, quarantine bool) {
	word, name := "no", "release"
	if quarantine {
		word, name = "yes", "quarantine"
	}
	w.mu.Lock()
	w.quarantined[thing] = "?"
	w.begun[thing]++
	delete(w.good, thing)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var reply json.RawMessage
	err := op.Ask(ctx, name, deviceRequest{Thing: messages.ThingName(thing), Reason: "crash"}, &reply)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.quarantined[thing] = word
		w.orders++
	}
}

// holds asks a daemon that has been started again about all that its clients know. It
// returns how much that is, and how much of it is lost.
func (w *worldly) holds(ctx context.Context, d *daemon) (acked, lost int, err error) {
	c, err := d.broker(ctx, client.DefaultTimeout)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if err := c.Ready(ctx); err != nil {
		return 0, 0, err
	}
	var why []string
	for thing, word := range w.quarantined {
		der, err := d.certificate(thing)
		if err != nil {
			return 0, 0, err
		}
		if word == "?" { // the answer to the order was lost: either is right
			continue
		}
		acked++
		_, err = c.Token(ctx, thing, der)
		if in := err == nil; in == (word == "yes") || !in && !errors.Is(err, client.ErrDenied) {
			lost++
			why = append(why, fmt.Sprintf("%s: quarantined %s, and it gets in: %v (%v)", thing, word, err == nil, err))
		}
	}
	for i := max(0, len(w.tokens)-12); i < len(w.tokens); i++ { // a device keeps 16 sessions
		t := w.tokens[i]
		if w.quarantined[t.thing] != "yes" {
			continue
		}
		acked++
		if allowed, err := c.AuthorizeToken(ctx, messages.Token(t.token), "mqtt:publish", "mqtt:topic:sensors/"+t.thing+"/t"); err == nil && allowed {
			lost++
			why = append(why, "a token of "+t.thing+", which is quarantined, is good")
		}
	}
	if w.claims {
		w.good["sensor-1"] = "gh1_forgotten"
	}
	for thing, token := range w.good {
		acked++
		if allowed, err := c.AuthorizeToken(ctx, messages.Token(token), "mqtt:publish", "mqtt:topic:sensors/"+thing+"/t"); err != nil || !allowed {
			lost++
			why = append(why, fmt.Sprintf("the newest token of %s is not good: %v", thing, err))
		}
	}
	if lost > 0 {
		err = errors.New(strings.Join(why, "; "))
	}
	return acked, lost, err
}

// killDaemons is A2: the whole daemon is killed at random moments under load, or while it
// starts. What its clients were told holds in its next life.
func killDaemons(c *campaign) error {
	lanes := 4
	kills := c.pick(40, 500) / lanes
	c.each(lanes+2, func(lane int) error {
		if lane >= lanes { // beside them, host and log without the rest: many more events
			return c.killAtRandom(lane, lane == lanes, c.pick(8, 100))
		}
		return c.killDaemon(lane, kills)
	})
	c.note("%d of the kills are of the whole daemon with clients over NATS, the others of log, or log and host, with two workers", lanes*kills)
	return c.ctx.Err()
}

func (c *campaign) killDaemon(lane, kills int) error {
	dir, err := c.temp("daemon")
	if err != nil {
		return err
	}
	rng := c.chance(lane)
	w := newWorldly()
	w.claims = c.bug == bugForgets
	for kill := range kills {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		d, err := c.startDaemon(dir)
		if err != nil {
			return err
		}
		if kill > 0 && kill%5 == 4 { // while it starts and recovers
			time.Sleep(time.Duration(50+rng.IntN(600)) * time.Millisecond) // the moment is the experiment
			d.kill()
			c.count(func(r *Row) { r.Faults++ })
			continue
		}
		if err := d.await(c); err != nil {
			d.kill()
			return fmt.Errorf("kill %d: %w", kill, err)
		}
		acked, lost, err := w.holds(c.ctx, d)
		c.judge(acked, lost)
		if err != nil {
			d.kill()
			return fmt.Errorf("kill %d: %w", kill, err)
		}
		ctx, stop := context.WithCancel(c.ctx)
		worked := make(chan struct{})
		go func() { defer close(worked); d.work(ctx, w, uint64(kill)) }()
		time.Sleep(time.Duration(50+rng.IntN(c.pick(450, 2000))) * time.Millisecond) // the moment is the experiment
		d.kill()
		stop()
		<-worked
		c.count(func(r *Row) { r.Faults++ })
	}
	return c.lastLook(dir, w)
}

// lastLook starts a daemon for the last time, asks it, ends it in order and has its log
// verified by the program.
func (c *campaign) lastLook(dir string, w *worldly) error {
	d, err := c.startDaemon(dir)
	if err != nil {
		return err
	}
	defer d.kill()
	if err := d.await(c); err != nil {
		return err
	}
	acked, lost, err := w.holds(c.ctx, d)
	c.judge(acked, lost)
	if err != nil {
		return err
	}
	if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		return err
	}
	if code := d.code(); code != 0 {
		return fmt.Errorf("SIGTERM: exit code %d: %s", code, d.errors.String())
	}
	binary, err := c.gatehouse()
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(c.ctx, binary, "log", "verify", dir).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok: ") {
		return fmt.Errorf("log verify: %w: %s", err, out)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c.say("a daemon's clients: %d tokens, %d orders", len(w.tokens), w.orders)
	return nil
}
