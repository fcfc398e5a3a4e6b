package eventlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// image is a log's directory and what it must hold.
type image struct {
	name, dir string
	want      []messages.Record
}

// images makes three directories: one that was closed; one as a crash leaves it, with
// a tail in write-ahead log and journal, whose first records are in Badger alone,
// because the journal has wrapped; and one whose tail is in the journal alone.
func images(t *testing.T) []image {
	t.Helper()
	closed, crashed := image{name: "closed", dir: filepath.Join(memoryDir(t), "log")}, image{name: "crashed", dir: filepath.Join(memoryDir(t), "log")}
	live := filepath.Join(memoryDir(t), "live")
	l := open(t, live, tiny)
	want := fill(t, l, 260)
	closeLog(t, l)
	l = open(t, live, tiny) // the first part is in tables now
	want = append(want, fill(t, l, 260)...)
	if err := l.PutSnapshot("devices", eventlog.Snapshot{Version: 1, Seq: 500, Data: []byte("folded")}); err != nil {
		t.Fatal(err)
	}
	copyDir(t, live, crashed.dir)
	closeLog(t, l)
	copyDir(t, live, closed.dir)
	closed.want, crashed.want = want, want

	tail := image{name: "tail", dir: filepath.Join(memoryDir(t), "log"), want: want[:len(want):len(want)]}
	l = open(t, live, tiny)
	tail.want = append(tail.want, fill(t, l, 40)...)
	tail.want = append(tail.want, eventlogtest.MustAppend(t, l, eventlogtest.Device(77), 0, 30)...) // a frame of many sectors, the last
	copyDir(t, live, tail.dir)
	closeLog(t, l)
	for _, wal := range wals(t, tail.dir) {
		if err := os.Remove(wal); err != nil {
			t.Fatal(err)
		}
	}
	if len(wals(t, crashed.dir)) == 0 {
		t.Fatal("the crash image has no write-ahead log")
	}
	return []image{closed, crashed, tail}
}

func wals(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "badger", "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// flips chooses where to flip a byte of a file: its ends, and places among and beside
// what is not zero.
func flips(b []byte, n int, rng *rand.Rand) []int {
	var used []int
	for i, c := range b {
		if c != 0 {
			used = append(used, i)
		}
	}
	if len(b) == 0 {
		return nil
	}
	at := []int{0, len(b) - 1, rng.IntN(len(b))}
	if len(used) > 0 {
		at = append(at, used[len(used)-1])
		for range n {
			at = append(at, used[rng.IntN(len(used))])
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir+string(filepath.Separator)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// outcome opens a damaged copy of an image and says what happened: "whole", "refused",
// or why that must not be. Refusing changes nothing: every file but the damaged one is
// still as in the image.
func outcome(t *testing.T, dir string, im image, damaged string) string {
	l, err := eventlog.Open(dir, small(tiny))
	if err == nil {
		defer l.Close()
		if err := holds(l, im.want); err != nil {
			return "opened, and wrong: " + err.Error()
		}
		return "whole"
	}
	if !errors.Is(err, eventlog.ErrCorrupt) {
		return "refused for another reason: " + err.Error()
	}
	for _, name := range files(t, im.dir) {
		before, errBefore := os.ReadFile(filepath.Join(im.dir, name))
		after, errAfter := os.ReadFile(filepath.Join(dir, name))
		if name != damaged && (errBefore != nil || errAfter != nil || !bytes.Equal(before, after)) {
			return fmt.Sprintf("refused, and %s changed: %v", name, err)
		}
	}
	return "refused"
}

func TestFlippedByteIsRepairedOrRefusedNeverLost(t *testing.T) {
	t.Parallel()
	for _, im := range images(t) {
		sound := filepath.Join(memoryDir(t), "log")
		copyDir(t, im.dir, sound)
		if got := outcome(t, sound, im, ""); got != "whole" {
			t.Fatalf("%s, nothing flipped: %s", im.name, got)
		}
		for _, name := range files(t, im.dir) {
			if im.name == "tail" && !strings.HasPrefix(name, "journal") && name != "HEAD" {
				continue
			}
			t.Run(im.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				original, err := os.ReadFile(filepath.Join(im.dir, name))
				if err != nil {
					t.Fatal(err)
				}
				rng := rand.New(rand.NewPCG(1, uint64(len(original))))
				n := 2
				if strings.HasPrefix(name, "journal") || strings.HasSuffix(name, ".mem") {
					n = 6
				}
				count := map[string]int{}
				for _, at := range flips(original, n, rng) {
					dir := filepath.Join(memoryDir(t), "log")
					copyDir(t, im.dir, dir)
					flip(t, filepath.Join(dir, name), int64(at), original[at]^byte(1<<rng.IntN(8)))
					got := outcome(t, dir, im, name)
					count[got]++
					if got != "whole" && got != "refused" {
						t.Errorf("byte %d of %d: %s", at, len(original), got)
					}
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				t.Log(count)
			})
		}
	}
}

func TestMissingOrShortFileIsRepairedOrRefused(t *testing.T) {
	t.Parallel()
	for _, im := range images(t) {
		for _, name := range files(t, im.dir) {
			for _, damage := range []string{"missing", "half"} {
				t.Run(fmt.Sprintf("%s/%s %s", im.name, name, damage), func(t *testing.T) {
					t.Parallel()
					dir := filepath.Join(memoryDir(t), "log")
					copyDir(t, im.dir, dir)
					path := filepath.Join(dir, name)
					fi, err := os.Stat(path)
					if err == nil && damage == "missing" {
						err = os.Remove(path)
					} else if err == nil {
						err = os.Truncate(path, fi.Size()/2)
					}
					if err != nil {
						t.Fatal(err)
					}
					if got := outcome(t, dir, im, name); got != "whole" && got != "refused" {
						t.Error(got)
					}
				})
			}
		}
	}
}

func flip(t *testing.T, path string, at int64, to byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{to}, at); err != nil {
		t.Fatal(err)
	}
}

// An old copy of one part beside the new rest is noticed: the journal or HEAD knows
// better.
func TestOldCopyOfAPartIsRepairedOrRefused(t *testing.T) {
	live, old := filepath.Join(memoryDir(t), "live"), filepath.Join(memoryDir(t), "old")
	l := open(t, live, tiny)
	want := fill(t, l, 300)
	copyDir(t, live, old)
	want = append(want, fill(t, l, 300)...)
	closeLog(t, l)
	for _, part := range []string{"HEAD", "journal.0", "journal.1", "badger"} {
		dir := filepath.Join(memoryDir(t), "log")
		copyDir(t, live, dir)
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
		if part == "badger" {
			copyDir(t, filepath.Join(old, part), filepath.Join(dir, part))
		} else if err := copyFile(filepath.Join(old, part), filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
		got := outcome(t, dir, image{dir: dir, want: want}, part)
		t.Log(part, got)
		if got != "whole" && got != "refused" {
			t.Errorf("old %s: %s", part, got)
		}
	}
}

// HEAD knows better than an old copy of all the rest, also where no journal has wrapped.
func TestOldCopyOfAllButHeadIsRefused(t *testing.T) {
	for name, o := range map[string]eventlog.Options{"tiny": tiny, "not wrapped": {}} {
		live, old := filepath.Join(memoryDir(t), "live"), filepath.Join(memoryDir(t), "old")
		l := open(t, live, o)
		fill(t, l, 100)
		copyDir(t, live, old)
		fill(t, l, 100)
		closeLog(t, l)
		if err := copyFile(filepath.Join(live, "HEAD"), filepath.Join(old, "HEAD")); err != nil {
			t.Fatal(err)
		}
		if l, err := eventlog.Open(old, small(o)); !errors.Is(err, eventlog.ErrCorrupt) {
			if err == nil {
				closeLog(t, l)
			}
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The reason for all this: Badger alone opens such a log without an error and has lost
// half of it. The journal brings it back.
func TestBadgerAloneLosesWhatOneFlippedBitHides(t *testing.T) {
	live := filepath.Join(memoryDir(t), "live")
	l := open(t, live, eventlog.Options{JournalBytes: 1 << 20})
	want := fill(t, l, 1000)
	image := filepath.Join(memoryDir(t), "image")
	copyDir(t, live, image)
	closeLog(t, l)
	logs := wals(t, image)
	if len(logs) != 1 {
		t.Fatalf("write-ahead logs: %v, want one", logs)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	used := slices.IndexFunc(b, func(c byte) bool { return c != 0 })
	for used < len(b) && slices.ContainsFunc(b[used:min(len(b), used+4096)], func(c byte) bool { return c != 0 }) {
		used += 4096
	}
	b[used/2] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(memoryDir(t), "alone")
	copyDir(t, filepath.Join(image, "badger"), alone)
	db, err := badger.Open(badger.DefaultOptions(alone).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		t.Fatalf("Badger alone refuses the damage: %v: has it learned?", err)
	}
	blocks := 0
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{'e'}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			blocks += int(it.Item().UserMeta()) + 1
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if blocks >= len(want) {
		t.Errorf("Badger alone has %d of %d records: the flipped byte did no harm", blocks, len(want))
	}
	repaired := open(t, image, eventlog.Options{JournalBytes: 1 << 20})
	defer closeLog(t, repaired)
	mustHold(t, repaired, want)
	if got := repaired.Stat().Repaired; got == 0 {
		t.Errorf("nothing was repaired, and Badger alone had %d of %d records", blocks, len(want))
	}
}
