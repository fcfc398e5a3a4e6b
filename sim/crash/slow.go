package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// slowDisk is A8: each sync takes 200 ms, or 2 s, longer. Decisions are made from memory as
// fast as before; what restricts is acknowledged as soon as the disk allows.
func slowDisk(c *campaign) error {
	delays := []time.Duration{200 * time.Millisecond}
	if c.night {
		delays = append(delays, 2*time.Second)
	}
	for _, delay := range delays {
		if err := c.slowBy(delay); err != nil {
			return fmt.Errorf("%v: %w", delay, err)
		}
	}
	return nil
}

const (
	slowRounds   = 9
	slowRequests = 150
	// slowPatience is how long a client waits for what has to be on disk first: two syncs of 2 s
	// are more than brokers wait, who say Busy then.
	slowPatience = 10 * time.Second
	// slowSlack is what a p99 may differ by for other reasons on a busy machine.
	slowSlack = 5 * time.Millisecond
)

func (c *campaign) slowBy(delay time.Duration) error {
	trace := "fdatasync"
	slowly := fmt.Sprintf("inject=fdatasync:delay_exit=%d", delay.Microseconds())
	usual := "inject=fdatasync:delay_exit=1"
	if c.bug == bugBlocks {
		trace, slowly = "fdatasync,write,writev", "inject=write,writev:delay_exit=5000"
	}
	var daemons [2]*daemon
	for i, inject := range []string{usual, slowly} {
		dir, err := c.temp("daemon")
		if err != nil {
			return err
		}
		d, err := c.startDaemon(dir, "strace", "-f", "-q", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace="+trace, "-e", inject)
		if err != nil {
			return err
		}
		defer d.kill()
		daemons[i] = d
	}
	for _, d := range daemons {
		if err := d.await(c); err != nil {
			return err
		}
	}
	c.count(func(r *Row) { r.Faults++ })
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	var p99 [2][]time.Duration
	for range slowRounds { // in turn, so that what else the machine does strikes both
		for i, d := range daemons {
			took, err := d.decisions(ctx, slowRequests)
			if err != nil {
				return err
			}
			slices.Sort(took)
			p99[i] = append(p99[i], took[len(took)*99/100])
		}
	}
	for i := range p99 {
		slices.Sort(p99[i])
	}
	usually, slow := p99[0][slowRounds/2], p99[1][slowRounds/2]
	c.note("syncs of %v: authorize over NATS, p99 of %d, median of %d rounds in turn: %v, without the delay %v", delay, slowRequests, slowRounds,
		slow.Round(10*time.Microsecond), usually.Round(10*time.Microsecond))
	if slow > 2*usually+slowSlack {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("authorize has a p99 of %v, without the delay %v: more than twice", slow, usually)
	}
	c.count(func(r *Row) { r.Seen++ })
	return c.revokeSlowly(daemons[1], delay)
}

// decisions asks for n decisions, one after the other, while devices come and go, whose
// sessions have to be on disk first.
func (d *daemon) decisions(ctx context.Context, n int) ([]time.Duration, error) {
	c, err := d.broker(ctx, slowPatience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	der, err := d.certificate("sensor-1")
	if err != nil {
		return nil, err
	}
	token, err := d.token(ctx, c, "sensor-1")
	if err != nil {
		return nil, err
	}
	busy, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; busy.Err() == nil && i < 12; i++ { // a device keeps 16 sessions
			_, _ = c.Token(busy, "sensor-1", der)
		}
	}()
	var took []time.Duration
	for range n {
		began := time.Now()
		if ok, err := c.AuthorizeToken(ctx, token, "mqtt:publish", "mqtt:topic:sensors/sensor-1/t"); err != nil || !ok {
			stop()
			<-done
			return nil, fmt.Errorf("authorize: %t, %w", ok, err)
		}
		took = append(took, time.Since(began))
	}
	stop()
	<-done
	return took, nil
}

// revokeSlowly has a device quarantined on the slow disk: that is acknowledged within what
// the disk takes, and acts at once.
func (c *campaign) revokeSlowly(d *daemon, delay time.Duration) error {
	op, err := d.operator()
	if err != nil {
		return err
	}
	defer op.Close()
	b, err := d.broker(c.ctx, slowPatience)
	if err != nil {
		return err
	}
	defer b.Close()
	token, err := d.token(c.ctx, b, "sensor-3")
	if err != nil {
		return err
	}
	began := time.Now()
	answered := make(chan error, 1)
	go func() {
		var reply any
		answered <- op.Ask(c.ctx, "quarantine", deviceRequest{Thing: "sensor-3", Reason: "slow"}, &reply)
	}()
	acts := time.Duration(0)
	for acts == 0 && time.Since(began) < 2*delay+time.Second {
		if ok, err := b.AuthorizeToken(c.ctx, token, "mqtt:publish", "mqtt:topic:sensors/sensor-3/t"); err != nil || !ok {
			acts = time.Since(began)
		}
	}
	if err := <-answered; err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	took := time.Since(began)
	c.note("syncs of %v: a quarantine acts after %v, and is acknowledged after %v", delay, acts.Round(time.Millisecond), took.Round(time.Millisecond))
	if acts == 0 || acts > took || took > 2*delay+500*time.Millisecond { // the one under way, and its own
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("it acts after %v and is acknowledged after %v, want within %v", acts, took, 2*delay+500*time.Millisecond)
	}
	d.kill()
	binary, err := c.gatehouse()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(c.ctx, binary, "log", "verify", filepath.Clean(d.dir)).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("log verify: %s", out), err)
	}
	return nil
}

// token has a device verified and lets it in. The emulated cloud is in the daemon's process,
// which strace slows down: silence is asked again.
func (d *daemon) token(ctx context.Context, c *client.Client, thing string) (messages.Token, error) {
	der, err := d.certificate(thing)
	if err != nil {
		return "", err
	}
	var token messages.Token
	for range 30 {
		good := false
		if good, err = c.Verify(ctx, der); err == nil && good {
			if token, err = c.Token(ctx, thing, der); err == nil {
				return token, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", fmt.Errorf("%s does not get in: %w: %s", thing, errors.Join(err), d.errors.String())
}
