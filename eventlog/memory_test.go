package eventlog_test

import (
	"errors"
	"math"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestMemoryPassesTheSuite(t *testing.T) {
	eventlogtest.Run(t, func(_ *testing.T, o eventlog.Options) eventlog.Log { return eventlog.NewMemory(o) })
}

func TestMemoryHoldsAppendsUntilCommit(t *testing.T) {
	m := eventlog.NewMemory(eventlog.Options{})
	m.Hold()
	answered := 0
	for i := range 3 {
		m.Append(eventlog.Batch{Stream: eventlogtest.Device(i), Drafts: []eventlog.Draft{eventlogtest.Event(uint64(i), 4)}},
			func([]messages.Record, error) { answered++ })
	}
	if answered != 0 || m.Head().Seq != 0 {
		t.Fatalf("before Commit: %d answers, %d records", answered, m.Head().Seq)
	}
	if n := m.Commit(); n != 3 || answered != 3 || m.Head().Seq != 3 {
		t.Errorf("Commit: %d batches, %d answers, %d records, want 3 of each", n, answered, m.Head().Seq)
	}
}

func TestMemoryAppendsFromCallbacksInOrder(t *testing.T) {
	m := eventlog.NewMemory(eventlog.Options{})
	var order []uint64
	var again func(recs []messages.Record, err error)
	again = func(recs []messages.Record, err error) {
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, recs[0].Seq)
		if v := recs[0].Version; v < 5 {
			m.Append(eventlog.Batch{Stream: eventlogtest.Device(1), Expected: v, Drafts: []eventlog.Draft{eventlogtest.Event(v, 4)}}, again)
		}
	}
	m.Append(eventlog.Batch{Stream: eventlogtest.Device(1), Drafts: []eventlog.Draft{eventlogtest.Event(0, 4)}}, again)
	if len(order) != 5 || order[4] != 5 {
		t.Errorf("order %v, want 1 to 5", order)
	}
}

func TestMemoryFailureIsFinalAndItsOutcomeUnknown(t *testing.T) {
	for _, landed := range []bool{false, true} {
		var fatal error
		m := eventlog.NewMemory(eventlog.Options{Fatal: func(err error) { fatal = err }})
		eventlogtest.MustAppend(t, m, eventlogtest.Device(1), 0, 2)
		m.Fail(errors.New("disk on fire"), landed)
		for range 2 {
			_, err := eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(1), Expected: 2, Drafts: []eventlog.Draft{eventlogtest.Event(9, 4)}})
			if !errors.Is(err, eventlog.ErrFailed) {
				t.Errorf("landed %v: got %v, want ErrFailed", landed, err)
			}
		}
		if !errors.Is(fatal, eventlog.ErrFailed) {
			t.Errorf("Fatal got %v, want ErrFailed", fatal)
		}
		n, err := m.Reopen(eventlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(2)
		if landed {
			want = 3
		}
		if got := len(eventlogtest.Collect(t, n.Scan(t.Context(), 1, math.MaxUint64))); uint64(got) != want || n.Head().Seq != want {
			t.Errorf("landed %v: reopened with %d records, want %d", landed, got, want)
		}
		if _, err := n.Verify(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryRefusesUnknownCriticalKinds(t *testing.T) {
	m := eventlog.NewMemory(eventlog.Options{})
	d := eventlogtest.Event(1, 4)
	d.Kind, d.Critical = 900, true
	if _, err := eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(1), Drafts: []eventlog.Draft{d}}); err != nil {
		t.Fatal(err)
	}
	_, err := m.Reopen(eventlog.Options{KnownKind: func(k messages.Kind, _ uint8) bool { return k != 900 }})
	if !errors.Is(err, eventlog.ErrNewer) {
		t.Errorf("reopen: got %v, want ErrNewer", err)
	}
}

// TestMemoryCrashesWhileWriting: what is being written at a crash is in the log or not, what
// waits behind it is not, and nobody is told of either.
func TestMemoryCrashesWhileWriting(t *testing.T) {
	for landed := range 4 {
		m := eventlog.NewMemory(eventlog.Options{})
		eventlogtest.MustAppend(t, m, eventlogtest.Device(1), 0, 2)
		m.Hold()
		for i := range 3 {
			m.Append(eventlog.Batch{Stream: eventlogtest.Device(1), Expected: uint64(2 + i), Drafts: []eventlog.Draft{eventlogtest.Event(uint64(10+i), 4)}},
				func([]messages.Record, error) { t.Errorf("landed %d: batch %d was told", landed, i) })
		}
		if m.Waiting() != 3 {
			t.Errorf("%d batches wait, want 3", m.Waiting())
		}
		m.CrashWriting(landed)
		n, err := m.Reopen(eventlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(2 + landed); n.Head().Seq != want {
			t.Errorf("landed %d: %d records, want %d", landed, n.Head().Seq, want)
		}
		eventlogtest.MustAppend(t, n, eventlogtest.Device(1), n.Head().Seq, 1)
		if _, err := n.Verify(t.Context(), nil); err != nil {
			t.Errorf("landed %d: %v", landed, err)
		}
	}
}

// TestMemoryCommitsTheFirst: a write takes what waited when it began.
func TestMemoryCommitsTheFirst(t *testing.T) {
	m := eventlog.NewMemory(eventlog.Options{})
	m.Hold()
	var answered []int
	for i := range 5 {
		m.Append(eventlog.Batch{Stream: eventlogtest.Device(i), Drafts: []eventlog.Draft{eventlogtest.Event(uint64(i), 4)}},
			func([]messages.Record, error) { answered = append(answered, i) })
	}
	for _, want := range []int{2, 5} {
		m.CommitFirst(want - len(answered))
		if len(answered) != want || m.Head().Seq != uint64(want) || m.Waiting() != 5-want {
			t.Errorf("%d answers, %d records, %d wait, want %d, %d, %d", len(answered), m.Head().Seq, m.Waiting(), want, want, 5-want)
		}
	}
}

// TestMemoryFull: only what restricts goes onto a full disk.
func TestMemoryFull(t *testing.T) {
	m := eventlog.NewMemory(eventlog.Options{})
	m.SetFull(true)
	put := func(class eventlog.Class, i int) error {
		_, err := eventlogtest.Append(m, eventlog.Batch{Stream: eventlogtest.Device(i), Class: class, Drafts: []eventlog.Draft{eventlogtest.Event(uint64(i), 4)}})
		return err
	}
	if err := put(eventlog.Restricts, 1); err != nil {
		t.Error(err)
	}
	for _, class := range []eventlog.Class{eventlog.Records, eventlog.Grants} {
		if err := put(class, 2); !errors.Is(err, eventlog.ErrFull) {
			t.Errorf("class %d: got %v, want ErrFull", class, err)
		}
	}
	m.SetFull(false)
	if err := put(eventlog.Grants, 2); err != nil || m.Head().Seq != 2 {
		t.Errorf("with space again: %v, %d records", err, m.Head().Seq)
	}
}
