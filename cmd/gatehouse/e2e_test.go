package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The end-to-end tests run the real program as a process of its own, with Debian's
// mosquitto clients against it. They need those clients: without them they fail when
// GATEHOUSE_E2E is set, as CI sets it.

// binary is the program, built once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gatehouse")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil && path != "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// need finds a tool, or fails, or skips where nobody asked for end-to-end tests.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("GATEHOUSE_E2E") == "1" {
				t.Fatalf("%s is missing: %v", tool, err)
			}
			t.Skipf("%s is missing; set GATEHOUSE_E2E=1 to make this a failure", tool)
		}
	}
}

// dev is a running `gatehouse dev`.
type dev struct {
	t          *testing.T
	dir        string
	mqtt, nats string
	http       string
	cmd        *exec.Cmd
	log        *buffer
	done       chan error
}

// buffer collects output from several goroutines, and is awaited on.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until the output holds text.
func (b *buffer) await(t *testing.T, text string, within time.Duration) {
	t.Helper()
	deadline := time.After(within)
	for !strings.Contains(b.String(), text) {
		select {
		case <-b.more:
		case <-deadline:
			t.Fatalf("no %q within %v in:\n%s", text, within, b)
		}
	}
}

// freeAddr finds a free address on loopback, and never the same one twice. Its port is below
// those that the system gives to who asks for any, or the program's own emulated cloud, or a
// client somewhere, could have it before the program.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 16384+rand.IntN(16384))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		if _, given := addrsGiven.LoadOrStore(addr, true); !given {
			return addr
		}
	}
	t.Fatal("no address is free")
	return ""
}

var addrsGiven sync.Map

// startDev starts the program in dir, a new one if it is empty.
func startDev(t *testing.T, dir string, flags ...string) *dev {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		dir = t.TempDir()
	}
	d := &dev{t: t, dir: dir, mqtt: freeAddr(t), nats: freeAddr(t), http: freeAddr(t), log: newBuffer(), done: make(chan error, 1)}
	args := append([]string{"dev", "--dir", dir, "--mqtt", d.mqtt, "--nats", d.nats, "--http", d.http}, flags...)
	d.run(exec.Command(path, args...))
	return d
}

// run starts the program and waits until it is ready.
func (d *dev) run(cmd *exec.Cmd) {
	d.t.Helper()
	d.cmd = cmd
	d.cmd.Stderr = d.log
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.kill)
	ready := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if lines.Text() == "ready" {
				close(ready)
			}
		}
		d.done <- d.cmd.Wait()
	}()
	select {
	case <-ready:
	case err := <-d.done:
		d.t.Fatalf("%s ended: %v\n%s", cmd, err, d.log)
	case <-time.After(60 * time.Second):
		d.t.Fatalf("%s is not ready\n%s", cmd, d.log)
	}
}

// kill ends the program at once, as kill -9 does.
func (d *dev) kill() { d.end(syscall.SIGKILL) }

func (d *dev) end(signal os.Signal) {
	if d.cmd.ProcessState != nil {
		return
	}
	_ = d.cmd.Process.Signal(signal)
	select {
	case <-d.done:
	case <-time.After(15 * time.Second):
		_ = d.cmd.Process.Kill()
		d.t.Errorf("dev did not end on %v\n%s", signal, d.log)
	}
}

// gatehouse runs the program with args and the dev directory, and returns its output
// and exit code.
func (d *dev) gatehouse(args ...string) (string, int) {
	d.t.Helper()
	return runProgram(d.t, append(args, "--dir", d.dir)...)
}

func runProgram(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	code := exitCode(err)
	if code < 0 {
		t.Fatal(err)
	}
	return string(out), code
}

// exitCode is what a program ended with; -1: it did not run, or a signal ended it.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// must runs the program and fails unless it exits 0 and prints want.
func (d *dev) must(want string, args ...string) string {
	d.t.Helper()
	out, code := d.gatehouse(args...)
	if code != 0 || !strings.Contains(out, want) {
		d.t.Fatalf("gatehouse %s: exit %d, want 0 and %q in:\n%s", strings.Join(args, " "), code, want, out)
	}
	return out
}

// tls are the mosquitto flags of a device: its files, and its client id.
func (d *dev) tls(thing, id string) []string {
	_, port, _ := net.SplitHostPort(d.mqtt)
	flags := []string{"-h", "localhost", "-p", port, "--cafile", filepath.Join(d.dir, "ca.pem"), "-i", id}
	if thing != "" {
		folder := filepath.Join(d.dir, "devices", thing)
		flags = append(flags, "--cert", filepath.Join(folder, "cert.pem"), "--key", filepath.Join(folder, "key.pem"))
	}
	return flags
}

// publish runs mosquitto_pub with -d, so that reason codes are seen.
func (d *dev) publish(thing, id, topic string, flags ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 15*time.Second)
	defer cancel()
	args := append(d.tls(thing, id), "-d", "-V", "5", "-q", "1", "-t", topic, "-m", "21")
	out, err := exec.CommandContext(ctx, "mosquitto_pub", append(args, flags...)...).CombinedOutput()
	return string(out), err
}

// subscriber is a running mosquitto_sub.
type subscriber struct {
	cmd  *exec.Cmd
	out  *buffer
	done chan error
}

func (d *dev) subscribe(thing, topic string, flags ...string) *subscriber {
	d.t.Helper()
	s := &subscriber{out: newBuffer(), done: make(chan error, 1)}
	// stdbuf: mosquitto_sub buffers its debug lines when it writes to a pipe.
	args := append([]string{"-oL", "mosquitto_sub"}, d.tls(thing, thing)...)
	s.cmd = exec.Command("stdbuf", append(append(args, "-d", "-V", "5", "-q", "1", "-t", topic), flags...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	d.t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	s.out.await(d.t, "SUBACK", 15*time.Second)
	return s
}

var _ io.Writer = (*buffer)(nil)

// explanation is what `explain --json` prints, as far as tests look at it.
type explanation struct {
	Question, Answer, Advice string
	Allowed                  bool
	Policy                   *struct {
		Text    string
		Matches []struct{ Group, Statement string }
	}
	Trust  []string
	Events []struct {
		Seq  uint64
		Kind string
	}
}

func (d *dev) explain(args ...string) explanation {
	d.t.Helper()
	// A denial is put on record beside its answer: give it a moment.
	deadline := time.Now().Add(5 * time.Second)
	out, code := d.gatehouse(append(append([]string{"explain"}, args...), "--json")...)
	for code != 0 && time.Now().Before(deadline) {
		out, code = d.gatehouse(append(append([]string{"explain"}, args...), "--json")...)
	}
	var e explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 0 {
		d.t.Fatalf("exit %d, %v in:\n%s", code, err, out)
	}
	return e
}
