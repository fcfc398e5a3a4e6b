package eventlog_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Some tests need a process that can be killed, or that may kill itself: the test
// binary again, told by its environment what to do in which directory.
const (
	childTask   = "GATEHOUSE_EVENTLOG_TASK"
	childDir    = "GATEHOUSE_EVENTLOG_DIR"
	childKilled = "GATEHOUSE_EVENTLOG_KILLED"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	switch task := os.Getenv(childTask); task {
	case "":
		os.Exit(m.Run())
	case "append":
		os.Exit(childAppend(dir))
	case "open":
		os.Exit(childOpen(dir))
	case "fill":
		os.Exit(childFill(dir))
	default:
		fmt.Println("unknown task", task)
		os.Exit(2)
	}
}

func child(t testing.TB, task, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// childAppend appends for ever and says what was acknowledged.
func childAppend(dir string) int {
	l, err := eventlog.Open(dir, small(tiny))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			stream := eventlogtest.Device(w)
			v, err := l.Version(stream)
			for err == nil {
				var recs []messages.Record
				drafts := []eventlog.Draft{eventlogtest.Event(v<<8|uint64(w), 30+int(v%50))}
				recs, err = eventlogtest.Append(l, eventlog.Batch{Stream: stream, Expected: v, Drafts: drafts})
				if err == nil {
					v++
					fmt.Printf("ack %d %x\n", recs[0].Seq, recs[0].ID) // one write each
				}
			}
			fmt.Println("error", err)
		})
	}
	wg.Wait()
	return 1
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(7, 7))
	acked := map[uint64]string{}
	for kill := range 40 {
		cmd := child(t, "append", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(out)
		delay := time.Duration(rng.IntN(40)) * time.Millisecond
		if kill%4 != 0 { // else it may be killed while it opens and recovers
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("kill %d: child says nothing: %v", kill, err)
			}
			record(t, acked, line)
		}
		timer := time.AfterFunc(delay, func() { _ = cmd.Process.Kill() })
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break // the rest of a line is no acknowledgement
			}
			record(t, acked, line)
		}
		timer.Stop()
		if err := cmd.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
		if len(acked) > 0 && (kill%5 == 4 || kill < 3) {
			mustHaveAcked(t, dir, acked)
		}
	}
	t.Logf("%d events acknowledged in 40 lives", len(acked))
	mustHaveAcked(t, dir, acked)
}

func record(t testing.TB, acked map[uint64]string, line string) {
	t.Helper()
	var seq uint64
	var id string
	if _, err := fmt.Sscanf(line, "ack %d %s\n", &seq, &id); err != nil {
		t.Fatalf("child says %q", line)
	}
	if acked[seq] != "" {
		t.Fatalf("record %d acknowledged twice", seq)
	}
	acked[seq] = id
}

func mustHaveAcked(t testing.TB, dir string, acked map[uint64]string) {
	t.Helper()
	l := open(t, dir, eventlog.Options{ReadOnly: true})
	defer closeLog(t, l)
	found := 0
	for rec, err := range l.Scan(bg, 1, math.MaxUint64) {
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := acked[rec.Seq]; ok {
			if id != hex.EncodeToString(rec.ID[:]) {
				t.Fatalf("record %d: acknowledged with id %s, it has %x", rec.Seq, id, rec.ID)
			}
			found++
		}
	}
	if found != len(acked) {
		t.Fatalf("%d events were acknowledged, %d of them are there", len(acked), found)
	}
	if _, err := l.Verify(bg, nil); err != nil {
		t.Fatal(err)
	}
}

// childOpen tries to open a log in both ways and says what came of it.
func childOpen(dir string) int {
	for _, readOnly := range []bool{false, true} {
		_, err := eventlog.Open(dir, small(eventlog.Options{ReadOnly: readOnly}))
		fmt.Printf("in use: %v\n", errors.Is(err, eventlog.ErrInUse))
	}
	return 0
}

func TestSecondProcessIsRefusedAndTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, eventlog.Options{})
	want := fill(t, l, 50)
	closeLog(t, l)
	l = open(t, dir, eventlog.Options{})
	defer closeLog(t, l)
	before := digest(t, dir)
	out, err := child(t, "open", dir).Output()
	if err != nil || string(out) != "in use: true\nin use: true\n" {
		t.Errorf("second process says %q, %v", out, err)
	}
	if digest(t, dir) != before {
		t.Error("the second process changed the directory")
	}
	mustHold(t, l, append(want, fill(t, l, 10)...))
}

// full are options for a disk of 24 MiB.
var full = eventlog.Options{JournalBytes: 1 << 20, BallastBytes: 512 << 10}

// childFill fills the disk that the log is on and goes on revoking.
func childFill(dir string) int {
	o := full
	if os.Getenv(childKilled) != "" {
		o.BallastBytes = 24 << 20 // as much as production keeps, for these sizes
	}
	l, err := eventlog.Open(filepath.Join(dir, "log"), small(o))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	refused, before, revocations := 0, uint64(0), uint64(3000)
	if os.Getenv(childKilled) != "" {
		revocations = 1000
	}
	for n := uint64(0); refused < 50; n++ { // until there is no more room for records
		_, err := eventlogtest.Append(l, eventlog.Batch{
			Stream: messages.DeviceStream(messages.ThingName(fmt.Sprint("note-", n))), Class: eventlog.Records,
			Drafts: []eventlog.Draft{eventlogtest.Event(n, 2000), eventlogtest.Event(n+1<<40, 2000)},
		})
		switch {
		case errors.Is(err, eventlog.ErrFull):
			refused++
		case err != nil:
			fmt.Println("error", err)
			return 1
		}
	}
	for l.Stat().Stored == 0 { // fed in the background
		time.Sleep(time.Millisecond)
	}
	before = l.Head().Seq
	f, err := os.Create(filepath.Join(dir, "somebody-else"))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	_, err = io.Copy(f, io.LimitReader(zeros{}, 1<<30)) // takes the rest
	fmt.Println("the disk says:", err)
	for n := range revocations {
		rec, err := eventlogtest.Append(l, eventlog.Batch{
			Stream: messages.DeviceStream(messages.ThingName(fmt.Sprint("revoked-", n))), Class: eventlog.Restricts,
			Drafts: []eventlog.Draft{eventlogtest.Event(n+1<<50, 120)},
		})
		if errors.Is(err, eventlog.ErrFull) {
			fmt.Println("full after", n)
			break
		}
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Printf("ack %d %x\n", rec[0].Seq, rec[0].ID)
	}
	st := l.Stat()
	if os.Getenv(childKilled) != "" {
		return 0 // no Close: as if killed
	}
	fmt.Printf("records before: %d\n", before)
	fmt.Printf("stat low=%v ballast=%v free=%d stored=%d head=%d\n", st.Low, st.Ballast, st.FreeBytes, st.Stored, st.Head.Seq)
	if err := l.Close(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// tmpfs mounts a file system of so many MiB; it needs root.
func tmpfs(t *testing.T, mib int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatal("mounting a tmpfs needs root")
		}
		t.Skip("mounting a tmpfs needs root")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// fillDisk lets a child fill the disk and returns what it acknowledged after that.
func fillDisk(t *testing.T, disk string, env ...string) map[uint64]string {
	t.Helper()
	cmd := child(t, "fill", disk)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
			t.Fatalf("killed by %v after %s", exit.Sys().(syscall.WaitStatus).Signal(), tail(out))
		}
		t.Fatalf("%v after %s", err, tail(out))
	}
	acked := map[uint64]string{}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "ack ") {
			record(t, acked, line)
		} else {
			t.Log(strings.TrimSpace(line))
		}
	}
	return acked
}

func TestFullDiskNeverKillsAndStillTakesRevocations(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, 24)
	acked := fillDisk(t, disk)
	if len(acked) < 1000 {
		t.Errorf("%d revocations were accepted on a full disk, want 1,000", len(acked))
	}
	log := filepath.Join(disk, "log")
	if l, err := eventlog.Open(log, small(full)); err == nil {
		closeLog(t, l)
	} else if !errors.Is(err, eventlog.ErrFull) {
		t.Errorf("open on the full disk: got %v, want that it works or ErrFull", err)
	}
	mustHaveAcked(t, log, acked) // inspection finds another disk for its working copy
	if err := os.Remove(filepath.Join(disk, "somebody-else")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=200m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	l := open(t, log, full)
	if v, err := l.Version("device/revoked-7"); v != 1 || err != nil {
		t.Errorf("a revocation from the full disk: version %d, %v", v, err)
	}
	eventlogtest.MustAppend(t, l, eventlogtest.Device(1), 0, 3)
	closeLog(t, l)
	mustHaveAcked(t, log, acked)
}

// The ballast is there so that a log can be opened again when nothing is free.
func TestFullDiskCanBeOpenedAfterACrash(t *testing.T) {
	t.Parallel()
	disk := tmpfs(t, 64)
	acked := fillDisk(t, disk, childKilled+"=1")
	log := filepath.Join(disk, "log")
	if free, err := exec.Command("stat", "-f", "-c", "%a", disk).Output(); err != nil || strings.TrimSpace(string(free)) != "0" {
		t.Fatalf("blocks free: %s, %v; want none", free, err)
	}
	l := open(t, log, full)
	if v, err := l.Version("device/revoked-7"); v != 1 || err != nil {
		t.Errorf("a revocation from the full disk: version %d, %v", v, err)
	}
	_, err := eventlogtest.Append(l, eventlog.Batch{
		Stream: eventlogtest.Device(1), Class: eventlog.Restricts, Drafts: []eventlog.Draft{eventlogtest.Event(1, 10)},
	})
	if err != nil {
		t.Errorf("revocation after the restart: %v", err)
	}
	_, err = eventlogtest.Append(l, eventlog.Batch{
		Stream: eventlogtest.Device(2), Class: eventlog.Grants, Drafts: []eventlog.Draft{eventlogtest.Event(1, 10)},
	})
	if !errors.Is(err, eventlog.ErrFull) {
		t.Errorf("grant on a full disk: got %v, want ErrFull", err)
	}
	closeLog(t, l)
	mustHaveAcked(t, log, acked)
}

func tail(b []byte) string { return string(b[max(0, len(b)-600):]) }
