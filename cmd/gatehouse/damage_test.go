package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// devFlags are what a second start of `dev` needs to be in nobody's way.
var devFlags = []string{"--mqtt", "127.0.0.1:0", "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0"}

// TestDamagedLog: whoever opens a log says with one exit code what is wrong with it, and
// what can be repaired is.
func TestDamagedLog(t *testing.T) {
	d := startDev(t, "")
	b := connectDemo(t, d)
	b.token(t, "sensor-1")
	d.end(os.Interrupt)
	sst, err := filepath.Glob(filepath.Join(d.dir, "log", "badger", "*.sst"))
	if err != nil || len(sst) == 0 {
		t.Fatalf("no table in %s: %v", d.dir, err)
	}
	table := filepath.Join("badger", filepath.Base(sst[0]))
	const journal, firstFrame = "journal.0", 8192 + 64
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, log string)
		code   int
		want   string
	}{
		{"a table", func(t *testing.T, log string) { flipByte(t, filepath.Join(log, table), -1) }, 0, "ok: "},
		{"a frame of the journal", func(t *testing.T, log string) { flipByte(t, filepath.Join(log, journal), firstFrame) }, 0, "ok: "},
		{"both", func(t *testing.T, log string) {
			flipByte(t, filepath.Join(log, table), -1)
			flipByte(t, filepath.Join(log, journal), firstFrame)
		}, exitCorrupt, "event log is corrupt at record"},
		{"HEAD is gone", func(t *testing.T, log string) {
			if err := os.Remove(filepath.Join(log, "HEAD")); err != nil {
				t.Fatal(err)
			}
		}, exitCorrupt, "HEAD is missing"},
		{"from a newer version", appendUnknown, exitNewer, "newer version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.CopyFS(dir, os.DirFS(d.dir)); err != nil {
				t.Fatal(err)
			}
			restoreModes(t, dir)
			c.damage(t, filepath.Join(dir, "log"))
			if out, code := runProgram(t, "log", "verify", dir); code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("log verify: exit %d, want %d and %q in:\n%s", code, c.code, c.want, out)
			}
			if c.code == 0 {
				again := startDev(t, dir)
				if out := again.must("ok: ", "log", "verify", "--live"); out == "" {
					t.Error("nothing is said")
				}
				if b := connectDemo(t, again); b.token(t, "sensor-1") == "" {
					t.Error("no token")
				}
				return
			}
			if out, code := runProgram(t, append([]string{"dev", "--dir", dir}, devFlags...)...); code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "\nready\n") {
				t.Errorf("dev: exit %d, want %d and %q in:\n%s", code, c.code, c.want, out)
			}
			file := filepath.Join(dir, "gatehouse.yaml")
			if err := os.WriteFile(file, []byte("dir: .\npolicyFile: policy.yaml\nnats: {listen: '127.0.0.1:0'}\nmqtt: {listen: '127.0.0.1:0', hostAddresses: [localhost]}\nhttp: {listen: '127.0.0.1:0'}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, code := runProgram(t, "serve", "-c", file); code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "\nready\n") {
				t.Errorf("serve: exit %d, want %d and %q in:\n%s", code, c.code, c.want, out)
			}
		})
	}
}

// TestDamagedWhileLive: a log that is damaged below a running daemon is corrupt to who
// asks the daemon, too.
func TestDamagedWhileLive(t *testing.T) {
	d := startDev(t, "")
	d.end(os.Interrupt) // what it wrote is in a table now
	d = startDev(t, d.dir)
	log := filepath.Join(d.dir, "log")
	tables, err := filepath.Glob(filepath.Join(log, "badger", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table in %s: %v", log, err)
	}
	for _, table := range tables {
		flipByte(t, table, -1)
	}
	for _, command := range []string{"verify", "cat", "stat"} {
		if out, code := d.gatehouse("log", command, "--live"); code != exitCorrupt || !strings.Contains(out, "event log is corrupt at record") {
			t.Errorf("log %s: exit %d, want %d\n%s", command, code, exitCorrupt, out)
		}
	}
}

// restoreModes makes the copy of a directory as private as it must be.
func restoreModes(t *testing.T, dir string) {
	t.Helper()
	keys := filepath.Join(dir, "keys")
	files, err := os.ReadDir(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Chmod(filepath.Join(keys, f.Name()), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{dir, keys, filepath.Join(dir, "brokers")} {
		if err := os.Chmod(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// flipByte changes one byte of a file: the one in the middle if at is negative.
func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at < 0 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		at = info.Size() / 2
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// appendUnknown writes what a later version might: a restriction of a kind that this
// one does not know.
func appendUnknown(t *testing.T, dir string) {
	t.Helper()
	store, err := keys.Open(filepath.Join(dir, "..", "keys"), keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	signer, verifier, err := store.LogSigner()
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(dir, eventlog.Options{Signer: signer, Verifier: verifier})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	log.Append(eventlog.Batch{
		Stream: "device/sensor-9", At: messages.Instant{TrustMs: 1, WallMs: 1}, Class: eventlog.Restricts,
		Drafts: []eventlog.Draft{{ID: messages.DeriveEventID([32]byte{1}, 0), Kind: 60000, Schema: 1, Critical: true, Body: []byte("?")}},
	}, func(_ []messages.Record, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFailedAppend: when the disk refuses a sync, the outcome of the append is unknown.
// From then on nothing is allowed, the program ends with 21 at once, and the next start
// repairs the log.
func TestFailedAppend(t *testing.T) {
	need(t, "strace", "sh")
	d, trace := startTraced(t)
	b := connectDemo(t, d)
	token := b.token(t, "sensor-1")
	if !b.authorize(t, token, "mqtt:topic:sensors/sensor-1/t") {
		t.Fatal("not authorized before the failure")
	}

	trace.failSyncs()
	start := time.Now()
	credential := body(mqttCredential("sensor-1", b.pem(t, "sensor-1")))
	if m, err := b.conn.Request("gatehouse.v1.demo.token", []byte(credential), 5*time.Second); err == nil && m.Header.Get("Gatehouse-Error") == "" {
		t.Errorf("a token that is not durable: %s", m.Data)
	}
	action := body(map[string]any{"clientDeviceAuthToken": token, "operation": "mqtt:publish", "resource": "mqtt:topic:sensors/sensor-1/t"})
	if m, err := b.conn.Request("gatehouse.v1.demo.authorize", []byte(action), time.Second); err == nil && m.Header.Get("Gatehouse-Error") == "" {
		t.Errorf("answered after the failure: %s", m.Data)
	}
	trace.exited(exitAppend)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it ended after %v, want a second or so", took)
	}
	if out, code := d.gatehouse("log", "verify"); code != 0 {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
	d = startDev(t, d.dir)
	if !connectDemo(t, d).authorize(t, token, "mqtt:topic:sensors/sensor-1/t") {
		t.Error("what was acknowledged is gone")
	}
}

// TestFailedAppendAtEnd: an append that fails while the program ends on a signal is one
// whose outcome is unknown, too.
func TestFailedAppendAtEnd(t *testing.T) {
	need(t, "strace", "sh")
	d, trace := startTraced(t)
	run, err := daemon.ReadRun(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	trace.failSyncs()
	if err := syscall.Kill(run.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	trace.exited(exitAppend)
}

// tracer is strace on a running `gatehouse dev`.
type tracer struct {
	d     *dev
	stdin io.Writer
	file  string
}

// startTraced starts the program in a directory of its own, to be traced later on.
func startTraced(t *testing.T) (*dev, *tracer) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &dev{t: t, dir: t.TempDir(), mqtt: freeAddr(t), nats: freeAddr(t), log: newBuffer(), done: make(chan error, 1)}
	file := filepath.Join(t.TempDir(), "trace")
	// The shell becomes strace, and so the program's parent: that one may always trace it.
	const script = `trace=$1; shift; "$@" & pid=$!; read -r go
exec strace -f -o "$trace" -e trace=fdatasync -e inject=fdatasync:error=EIO -p $pid`
	cmd := exec.Command("sh", "-c", script, "sh", file, path, "dev", "--dir", d.dir, "--mqtt", d.mqtt, "--nats", d.nats, "--http", freeAddr(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.run(cmd)
	return d, &tracer{d, stdin, file}
}

// failSyncs has the disk refuse every sync from now on.
func (tr *tracer) failSyncs() {
	tr.d.t.Helper()
	if _, err := fmt.Fprintln(tr.stdin, "go"); err != nil {
		tr.d.t.Fatal(err)
	}
	tr.d.log.await(tr.d.t, "attached", 10*time.Second)
}

// exited waits for the program's end and checks its exit code.
func (tr *tracer) exited(code int) {
	t := tr.d.t
	t.Helper()
	select {
	case <-tr.d.done: // strace ends when the program has
	case <-time.After(10 * time.Second):
		t.Fatalf("still running\n%s", tr.d.log)
	}
	text, err := os.ReadFile(tr.file)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("+++ exited with %d +++", code); !strings.Contains(string(text), want) {
		t.Errorf("want %q in:\n%s\n%s", want, text, tr.d.log)
	}
}

// TestFailureComesFirst: what the log says first is the exit code, not what follows from
// it, and not the signal that came before.
func TestFailureComesFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &failure{end: cancel}
	if err := f.or(eventlog.ErrInUse); !errors.Is(err, eventlog.ErrInUse) {
		t.Errorf("a log in use: %v", err)
	}
	if err := f.or(nil); err != nil {
		t.Errorf("no failure: %v", err)
	}
	f.note(eventlog.ErrFailed)
	f.note(eventlog.ErrClosed)
	if e, ok := errors.AsType[*exitError](f.or(context.Canceled)); !ok || e.code != exitAppend || !errors.Is(e, eventlog.ErrFailed) {
		t.Errorf("a failed append: %v, want exit %d", f.or(context.Canceled), exitAppend)
	}
	if ctx.Err() == nil {
		t.Error("the program goes on")
	}
	late := &failure{end: cancel}
	late.note(&eventlog.CorruptError{Seq: 7, Detail: "found while the daemon ran"})
	if e, ok := errors.AsType[*exitError](late.or(nil)); !ok || e.code != exitCorrupt {
		t.Errorf("damage found late: %v, want exit %d", late.or(nil), exitCorrupt)
	}
}

// TestLogInUse: who finds the log in use hears what helps there, which is --live only for
// a command that has it.
func TestLogInUse(t *testing.T) {
	dir := t.TempDir()
	log, err := eventlog.Open(daemon.LogDir(dir), eventlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // a test's own
	file := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(file, []byte("dir: .\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		live    bool
	}{
		{"log cat", true}, {"log verify", true}, {"log stat", true},
		{"device list", false}, {"device show pump-7", false}, {"explain --last", false}, {"serve -c " + file, false},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel() // most of it is waiting for the lock
			out, code := runProgram(t, append(strings.Fields(c.command), "--dir", dir)...)
			if code != exitInUse || !strings.Contains(out, "in use") || !strings.Contains(out, "stop") || strings.Contains(out, "--live") != c.live {
				t.Errorf("exit %d, want %d, and --live named: %v\n%s", code, exitInUse, c.live, out)
			}
			if help, _ := runProgram(t, append(strings.Fields(c.command), "--help")...); strings.Contains(help, "--live") != c.live {
				t.Errorf("it has --live: %v\n%s", !c.live, help)
			}
		})
	}
}

// TestDevDirectory: what a crash left behind of a first start does not end the next, a
// second daemon is told so, and credentials that others can reach refuse the start.
func TestDevDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, left := range []string{"cloud/authority.key", "cloud/core/key.pem", "devices/sensor-1/key.pem"} {
		path := filepath.Join(dir, left)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("half a k"), 0o400)); err != nil {
			t.Fatal(err)
		}
	}
	d := startDev(t, dir)
	if b := connectDemo(t, d); b.token(t, "sensor-1") == "" {
		t.Error("no token")
	}
	if out, code := runProgram(t, append([]string{"dev", "--dir", dir}, devFlags...)...); code != exitInUse {
		t.Errorf("a second dev: exit %d, want %d\n%s", code, exitInUse, out)
	}
	d.must("ok: ", "log", "verify", "--live") // the first does not mind
	privateFiles(t, dir)
	d.end(syscall.SIGTERM)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGTERM: exit %d, want 0\n%s", code, d.log)
	}
	d = startDev(t, dir)
	d.end(os.Interrupt)
	if err := os.Chmod(filepath.Join(dir, "brokers"), 0o777); err != nil {
		t.Fatal(err)
	}
	if out, code := runProgram(t, append([]string{"dev", "--dir", dir}, devFlags...)...); code != exitFailed || !strings.Contains(out, "chmod 700") {
		t.Errorf("credentials for everybody: exit %d\n%s", code, out)
	}
}

// privateFiles: nobody but the owner gets at anything; what others may read is public.
func privateFiles(t *testing.T, dir string) {
	t.Helper()
	public := map[string]bool{"ca.pem": true, "cert.pem": true, "authority.pem": true}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()
		switch {
		case path == dir || strings.HasPrefix(path, filepath.Join(dir, "log", "badger")): // behind a directory of 0700
		case e.IsDir() && mode != 0o700, !e.IsDir() && mode&0o077 != 0 && !public[e.Name()], mode&0o022 != 0:
			t.Errorf("%s: mode %04o", path, mode)
		case strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".creds") || e.Name() == "key.pem":
			if mode != 0o400 {
				t.Errorf("%s: mode %04o, want 0400", path, mode)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
