package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a node may take for anything. Nothing waits it out unless it fails.
const patience = 60 * time.Second

// life is a node's process, from outside.
type life struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan said
	errors tail
	ended  chan struct{} // closed when the process has ended and all it said was read
	exit   error         // of cmd.Wait, once ended is closed
	took   time.Duration // until it was ready, or refused

	wasReady bool
	heard    func(ack) // of an acknowledgement under load; called by the reader

	mu     sync.Mutex
	acks   []ack     // of a load; guarded by mu
	endAt  time.Time // guarded by mu
	failed string    // what a load said last; guarded by mu
}

// tail keeps the beginning and the end of what a process says on standard error.
type tail struct {
	mu    sync.Mutex
	begun []byte
	b     bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 400 - len(t.begun); room > 0 {
		t.begun = append(t.begun, p[:min(len(p), room)]...)
	}
	if t.b.Len() > 64<<10 {
		t.b.Next(t.b.Len() - 32<<10)
	}
	return t.b.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(t.b.String())
	if len(text) <= 1500 {
		return text
	}
	return string(t.begun) + " … " + text[len(text)-1000:]
}

// errRefused says that a node could not open its log.
var errRefused = errors.New("the log was refused")

// errDied says that a node's process ended instead of answering.
var errDied = errors.New("the process ended")

// begin starts a node and waits until it is ready. prefix is a command that runs it, such
// as strace.
func (c *campaign) begin(cfg nodeConfig, prefix ...string) (*life, error) {
	return c.beginHearing(cfg, nil, prefix...)
}

func (c *campaign) beginHearing(cfg nodeConfig, heard func(ack), prefix ...string) (*life, error) {
	l, err := c.spawn(cfg, heard, prefix...)
	if err != nil {
		return l, err
	}
	began := time.Now()
	s, err := l.next()
	l.took = time.Since(began)
	switch {
	case err != nil:
		return l, err
	case s.Op == "refused":
		<-l.ended
		return l, fmt.Errorf("%w: %s", errRefused, s.Error)
	}
	l.wasReady = true
	c.ready(l.took)
	return l, nil
}

// spawn starts a node and does not wait for it.
func (c *campaign) spawn(cfg nodeConfig, heard func(ack), prefix ...string) (*life, error) {
	if cfg.Bug == "" {
		cfg.Bug = c.bug
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o700); err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	args := append(append([]string{}, prefix...), c.self, nodeArgument, string(text))
	l := &life{cmd: exec.CommandContext(c.ctx, args[0], args[1:]...), lines: make(chan said, 16), ended: make(chan struct{}), heard: heard}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.cmd.Cancel = func() error { return syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL) }
	l.cmd.Stderr = &l.errors
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go l.read(out)
	return l, nil
}

func (l *life) read(out io.Reader) {
	in := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break // what has no end is no acknowledgement
		}
		if line[0] == 'a' {
			var a ack
			if _, err := fmt.Sscanf(string(line), "a %d %s\n", &a.Seq, &a.ID); err == nil {
				l.mu.Lock()
				l.acks = append(l.acks, a)
				l.mu.Unlock()
				if l.heard != nil {
					l.heard(a)
				}
			}
			continue
		}
		var s said
		if json.Unmarshal(line, &s) != nil {
			continue
		}
		if s.Op == "failed" {
			l.mu.Lock()
			l.failed = s.Error
			l.mu.Unlock()
			continue
		}
		l.lines <- s
	}
	err := l.cmd.Wait()
	l.mu.Lock()
	l.exit, l.endAt = err, time.Now()
	l.mu.Unlock()
	close(l.ended)
}

// next is what the node says next.
func (l *life) next() (said, error) {
	select {
	case s := <-l.lines:
		return s, nil
	default:
	}
	select {
	case s := <-l.lines:
		return s, nil
	case <-l.ended:
		select {
		case s := <-l.lines:
			return s, nil
		default:
			return said{}, fmt.Errorf("%w: %v: %s", errDied, l.exit, l.errors.String())
		}
	case <-time.After(patience):
		l.kill()
		return said{}, fmt.Errorf("the node said nothing for %v: %s", patience, l.errors.String())
	}
}

func (l *life) order(o order) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = l.in.Write(append(b, '\n'))
	return err
}

// ask gives an order and returns the answer to it.
func (l *life) ask(o order, op string) (said, error) {
	if err := l.order(o); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
		return said{}, err
	}
	s, err := l.next()
	if err != nil {
		return s, err
	}
	if s.Op != op {
		return s, fmt.Errorf("asked to %s, the node said %q: %s", o.Op, s.Op, s.Error)
	}
	return s, nil
}

// must gives an order that has to be carried out.
func (l *life) must(o order, op string) error {
	s, err := l.ask(o, op)
	if err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return err
}

// kill is kill -9, and waits for the end.
func (l *life) kill() {
	_ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-l.ended
}

// end has the node close its log.
func (l *life) end() error {
	if err := l.order(order{Op: "close"}); err != nil {
		l.kill()
		return err
	}
	select {
	case <-l.ended:
	case s := <-l.lines:
		if s.Op == "closed" {
			<-l.ended
		}
	case <-time.After(patience):
		l.kill()
		return errors.New("the node does not end")
	}
	if l.exit != nil {
		return fmt.Errorf("close: %w: %s", l.exit, l.errors.String())
	}
	return nil
}

// died waits for the end and says by which signal; nil: by the one that was meant.
func (l *life) died(within time.Duration, signal syscall.Signal) error {
	select {
	case <-l.ended:
	case <-time.After(within):
		l.kill()
		return errors.New("it lives on")
	}
	var exit *exec.ExitError
	if !errors.As(l.exit, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() || exit.Sys().(syscall.WaitStatus).Signal() != signal {
		return fmt.Errorf("it ended with %v: %s", l.exit, l.errors.String())
	}
	return nil
}

// code is the exit code; 128 and more: a signal's number added.
func (l *life) code() int {
	if l == nil { // it did not even begin
		return -1
	}
	<-l.ended
	var exit *exec.ExitError
	switch {
	case l.exit == nil:
		return 0
	case !errors.As(l.exit, &exit):
		return -1
	case exit.Sys().(syscall.WaitStatus).Signaled():
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
	}
	return exit.ExitCode()
}

// told are the acknowledgements of a load so far.
func (l *life) told() []ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks[:len(l.acks):len(l.acks)]
}

// await waits until a load has acknowledged so many events, or the node has ended.
func (l *life) await(ctx context.Context, n int) {
	for deadline := time.Now().Add(patience); len(l.told()) < n && time.Now().Before(deadline) && ctx.Err() == nil; {
		select {
		case <-l.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// look opens a directory with a fresh node, has its log read and verified, and compares it
// with what was acknowledged. It counts the row.
func (c *campaign) look(cfg nodeConfig, acks []ack) (records []record, err error) {
	l, err := c.begin(cfg)
	if err != nil {
		c.missed(acks)
		return nil, err
	}
	defer l.kill()
	records, err = c.lookAt(l, acks)
	if err != nil {
		return records, err
	}
	return records, l.end()
}

// missed counts what could not be looked at as lost, unless the campaign was interrupted.
func (c *campaign) missed(acks []ack) {
	if c.ctx.Err() == nil {
		c.judge(len(acks), len(acks))
	}
}

// lookAt is look at a node that runs.
func (c *campaign) lookAt(l *life, acks []ack) ([]record, error) {
	s, err := l.ask(order{Op: "dump"}, "dump")
	if err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	if err != nil {
		c.missed(acks)
		return nil, fmt.Errorf("read the log: %w", err)
	}
	lost, hole := judgeLog(s.Records, acks)
	c.judge(len(acks), lost)
	if hole != nil {
		return s.Records, fmt.Errorf("a hole: %w", hole)
	}
	if lost > 0 {
		return s.Records, fmt.Errorf("%d of %d acknowledged events are lost; the log has %d", lost, len(acks), len(s.Records))
	}
	if err := l.must(order{Op: "verify"}, "verified"); err != nil {
		return s.Records, fmt.Errorf("verify: %w", err)
	}
	return s.Records, nil
}
