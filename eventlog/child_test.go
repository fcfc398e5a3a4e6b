package eventlog_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

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
	dir := memoryDir(t)
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
	lock := filepath.Join(dir, "LOCK") // put back from a copy, it is another file
	if err := errors.Join(copyFile(lock, lock+".copy"), os.Rename(lock+".copy", lock)); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "open", dir).Output(); err != nil || string(out) != "in use: true\nin use: true\n" {
		t.Errorf("beside another LOCK, the second process says %q, %v", out, err)
	}
	mustHold(t, l, append(want, fill(t, l, 10)...))
}
