package eventlog_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// full are options for a disk of 24 MiB.
var full = eventlog.Options{JournalBytes: 1 << 20, BallastBytes: 512 << 10}

// childFill fills the disk that the log is on and goes on revoking.
func childFill(dir string) int {
	o := full
	if os.Getenv(childKilled) != "" {
		o.BallastBytes = 30 << 20 // as much as production keeps, for these sizes
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
	for n := uint64(0); refused < 50 && (n < 2000 || os.Getenv(childKilled) == ""); n++ { // until there is no more room for records
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
	disk := tmpfs(t, 140)
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
