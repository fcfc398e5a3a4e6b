package eventlog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// farIn makes files in a folder of the test's.
func farIn(t *testing.T) func() (eventlog.Far, error) {
	dir, n := t.TempDir(), 0
	return func() (eventlog.Far, error) {
		n++
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(n)))
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return f, err
	}
}

func TestMemoryFarPassesTheSuite(t *testing.T) {
	eventlogtest.Run(t, func(t *testing.T, o eventlog.Options) eventlog.Log {
		o.Far = farIn(t)
		return eventlog.NewMemory(o)
	})
}

// TestFarIsAsNear: whether records are kept in memory or far from it makes no difference to
// what is read, in order and by stream, and across lives that ended in all ways.
func TestFarIsAsNear(t *testing.T) {
	quiet := eventlog.Options{Fatal: func(error) {}}
	farOptions := quiet
	farOptions.Far = farIn(t)
	logs := []*eventlog.Memory{eventlog.NewMemory(quiet), eventlog.NewMemory(farOptions)}
	const streams = 300
	versions := make([]uint64, streams)
	seed := uint64(1)
	for life := range 6 {
		for i := range 2000 {
			seed = seed*6364136223846793005 + 1442695040888963407
			of, size := int(seed>>33)%streams, []int{4, 4, 4, 40, 3000}[(seed>>20)%5]
			n := 1 + i%3
			var drafts []eventlog.Draft
			for range n {
				seed++
				drafts = append(drafts, eventlogtest.Event(seed, size))
			}
			for _, m := range logs {
				if _, err := eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(of), Expected: versions[of], Drafts: drafts}); err != nil {
					t.Fatal(err)
				}
			}
			versions[of] += uint64(n)
		}
		same(t, logs[0], logs[1], streams)
		for i, m := range logs {
			if life%3 > 0 { // what is lost in the end, or not
				m.Fail(errors.New("on fire"), life%3 == 1)
				_, _ = eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(0), Expected: versions[0], Drafts: []eventlog.Draft{eventlogtest.Event(uint64(life), 4)}})
			}
			next, err := m.Reopen(quiet)
			if err != nil {
				t.Fatal(err)
			}
			logs[i] = next
		}
		if life%3 == 1 {
			versions[0]++
		}
	}
	same(t, logs[0], logs[1], streams)
}

func same(t *testing.T, near, far *eventlog.Memory, streams int) {
	t.Helper()
	if near.Head() != far.Head() {
		t.Fatalf("heads %+v and %+v", near.Head(), far.Head())
	}
	if a, b := all(t, near, 1), all(t, far, 1); !reflect.DeepEqual(a, b) {
		t.Fatal("the records differ")
	}
	for i := range streams {
		for _, from := range []uint64{0, 3} {
			var read [2][]messages.Record
			for k, m := range []*eventlog.Memory{near, far} {
				for rec, err := range m.Read(t.Context(), eventlogtest.Device(i), from) {
					if err != nil {
						t.Fatal(err)
					}
					read[k] = append(read[k], rec)
				}
			}
			if !reflect.DeepEqual(read[0], read[1]) {
				t.Fatalf("stream %d from %d: %d and %d records", i, from, len(read[0]), len(read[1]))
			}
		}
	}
	a, err := near.Verify(t.Context(), nil)
	b, wrong := far.Verify(t.Context(), nil)
	if a != b || err != nil || wrong != nil || near.Stat() != far.Stat() {
		t.Fatalf("%+v, %v and %+v, %v", a, err, b, wrong)
	}
}

func all(t *testing.T, m *eventlog.Memory, from uint64) []messages.Record {
	t.Helper()
	var recs []messages.Record
	for rec, err := range m.Scan(t.Context(), from, m.Head().Seq) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	return recs
}

// TestFarFails: a log that cannot be written far away fails as one whose disk fails; one
// that cannot be read back says so.
func TestFarFails(t *testing.T) {
	room := &failing{}
	var fatal error
	m := eventlog.NewMemory(eventlog.Options{Fatal: func(err error) { fatal = err }, Far: func() (eventlog.Far, error) { return room, nil }})
	drafts := slices.Repeat([]eventlog.Draft{eventlogtest.Event(1, 500<<10)}, 1)
	expected := uint64(0)
	for range 3 { // more than stays in memory
		if _, err := eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(1), Expected: expected, Drafts: drafts}); err != nil {
			t.Fatal(err)
		}
		drafts[0].ID[0]++
		expected++
	}
	room.err = errors.New("no such room")
	wrong := false
	for _, err := range m.Read(t.Context(), eventlogtest.Device(1), 1) {
		wrong = wrong || errors.Is(err, room.err)
	}
	if !wrong {
		t.Error("what cannot be read back is not an error")
	}
	for i := 0; i < 10 && fatal == nil; i++ {
		_, _ = eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(1), Expected: expected, Drafts: drafts})
		drafts[0].ID[0]++
		expected++
	}
	if !errors.Is(fatal, room.err) || !errors.Is(fatal, eventlog.ErrFailed) {
		t.Errorf("a write that failed: %v", fatal)
	}
}

type failing struct {
	bytes []byte
	err   error
}

func (f *failing) ReadAt(b []byte, at int64) (int, error) { return copy(b, f.bytes[at:]), f.err }

func (f *failing) WriteAt(b []byte, at int64) (int, error) {
	f.bytes = append(f.bytes[:at], b...)
	return len(b), f.err
}
