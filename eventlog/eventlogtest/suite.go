// Package eventlogtest is the suite that every eventlog.Log passes.
package eventlogtest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Open returns an empty log with options o; the suite closes it.
type Open func(t *testing.T, o eventlog.Options) eventlog.Log

// Run runs the suite against the logs that open makes.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"records come back as they were appended", testRoundTrip},
		{"the loser of a race over a version gets a conflict", testConflict},
		{"a repeated append gets its first records", testIdempotent},
		{"bad batches are refused at the door", testBadBatch},
		{"the applied hook sees each group before its callers", testApplied},
		{"concurrent writers lose nothing and repeat nothing", testConcurrent},
		{"Follow gives history then live, no gap, no repeat", testFollow},
		{"Follow ends with its context and with the log", testFollowEnds},
		{"proofs check against the roots", testProofs},
		{"Verify accepts a good log and reports progress", testVerify},
		{"a replay hands out what is there, checked, and ends where it is refused", testReplay},
		{"snapshots come back, and those ahead of the log do not go in", testSnapshots},
		{"after Close everything is refused", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

func testRoundTrip(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	var want []messages.Record
	for i := range 300 {
		dev := i % 7
		v, err := l.Version(Device(dev))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, MustAppend(t, l, Device(dev), v, 1+i%3)...)
	}
	for i, r := range want {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has sequence number %d", i, r.Seq)
		}
	}
	got := Collect(t, l.Scan(t.Context(), 0, math.MaxUint64))
	if !slices.EqualFunc(got, want, Equal) {
		t.Fatalf("scan: got %d records, want the %d that were appended", len(got), len(want))
	}
	if part := Collect(t, l.Scan(t.Context(), 17, 90)); !slices.EqualFunc(part, want[16:90], Equal) {
		t.Errorf("scan 17..90: got %d records, want 74", len(part))
	}
	for dev := range 8 {
		var mine []messages.Record
		for _, r := range want {
			if r.Stream == Device(dev) {
				mine = append(mine, r)
			}
		}
		for _, from := range []uint64{0, 1, 2, uint64(len(mine) / 2), uint64(len(mine)), uint64(len(mine) + 1), math.MaxUint64} {
			tail := mine[min(max(from, 1)-1, uint64(len(mine))):]
			if got := Collect(t, l.Read(t.Context(), Device(dev), from)); !slices.EqualFunc(got, tail, Equal) {
				t.Errorf("read %s from %d: got %d records, want %d", Device(dev), from, len(got), len(tail))
			}
		}
		if v, _ := l.Version(Device(dev)); v != uint64(len(mine)) {
			t.Errorf("version of %s: got %d, want %d", Device(dev), v, len(mine))
		}
	}
	if st := l.Stat(); st.Head != l.Head() || st.Head.Seq != uint64(len(want)) || st.Streams != 7 {
		t.Errorf("stat: %+v, want %d events in 7 streams", st, len(want))
	}
}

func testConflict(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	MustAppend(t, l, Device(1), 0, 2)
	for _, expected := range []uint64{0, 1, 3, 99} {
		_, err := Append(l, eventlog.Batch{Stream: Device(1), Expected: expected, Drafts: []eventlog.Draft{Event(777+expected, 10)}})
		if !errors.Is(err, eventlog.ErrConflict) {
			t.Errorf("append after version %d of a stream at 2: got %v, want ErrConflict", expected, err)
		}
	}
	const racers = 32
	errs := make(chan error, racers)
	for i := range racers {
		l.Append(eventlog.Batch{Stream: Device(1), Expected: 2, Drafts: []eventlog.Draft{Event(uint64(1000+i), 10)}},
			func(_ []messages.Record, err error) { errs <- err })
	}
	won := 0
	for range racers {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, eventlog.ErrConflict):
			t.Errorf("loser: got %v, want ErrConflict", err)
		}
	}
	if won != 1 || l.Head().Seq != 3 {
		t.Errorf("%d racers won and the log has %d records, want 1 and 3", won, l.Head().Seq)
	}
}

func testIdempotent(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	MustAppend(t, l, Device(1), 0, 1)
	b := eventlog.Batch{Stream: Device(1), Expected: 1, Drafts: []eventlog.Draft{Event(10, 5), Event(11, 5)}}
	type answer struct {
		recs []messages.Record
		err  error
	}
	ch := make(chan answer, 2)
	for range 2 { // most likely in one group
		l.Append(b, func(recs []messages.Record, err error) { ch <- answer{recs, err} })
	}
	first, second := <-ch, <-ch
	MustAppend(t, l, Device(1), 3, 1)
	third, err := Append(l, b)
	if first.err != nil || second.err != nil || err != nil {
		t.Fatalf("repeated append: %v, %v, %v", first.err, second.err, err)
	}
	if len(first.recs) != 2 || !slices.EqualFunc(first.recs, second.recs, Equal) || !slices.EqualFunc(first.recs, third, Equal) {
		t.Errorf("repeated append: got %v and %v, want %v", second.recs, third, first.recs)
	}
	if l.Head().Seq != 4 {
		t.Errorf("the log has %d records, want 4", l.Head().Seq)
	}
	b.Drafts = append(b.Drafts, Event(12, 5)) // not the same decision any more
	if _, err := Append(l, b); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("append of another decision: got %v, want ErrConflict", err)
	}
}

func testBadBatch(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	long := messages.StreamID(bytes.Repeat([]byte{'x'}, 256))
	for _, b := range []eventlog.Batch{
		{Stream: Device(1)},
		{Drafts: []eventlog.Draft{Event(1, 1)}},
		{Stream: long, Drafts: []eventlog.Draft{Event(1, 1)}},
		{Stream: Device(1), Drafts: []eventlog.Draft{{Schema: 1}}},
		{Stream: Device(1), Drafts: []eventlog.Draft{Event(1, messages.RecordBodyMaxBytes+1)}},
		{Stream: Device(1), Drafts: []eventlog.Draft{Event(1, 700<<10), Event(2, 700<<10)}},
		{Stream: Device(1), Drafts: make([]eventlog.Draft, eventlog.BatchDraftsMax+1)},
		{Stream: Device(1), Class: 9, Drafts: []eventlog.Draft{Event(1, 1)}},
	} {
		if _, err := Append(l, b); !errors.Is(err, eventlog.ErrBatch) {
			t.Errorf("append of %d drafts to %.20q: got %v, want ErrBatch", len(b.Drafts), b.Stream, err)
		}
	}
	if got := l.Head().Seq; got != 0 {
		t.Errorf("the log has %d records, want none", got)
	}
}

func testApplied(t *testing.T, open Open) {
	var mu sync.Mutex
	var applied []uint64
	l := open(t, eventlog.Options{Applied: func(recs []messages.Record) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range recs {
			applied = append(applied, r.Seq)
		}
	}})
	defer l.Close()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		l.Append(eventlog.Batch{Stream: Device(i), Drafts: []eventlog.Draft{Event(uint64(i), 20)}},
			func(recs []messages.Record, err error) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				if err != nil || !slices.Contains(applied, recs[0].Seq) {
					t.Errorf("done before applied: %v", err)
				}
			})
	}
	wg.Wait()
	for i, seq := range applied {
		if seq != uint64(i+1) {
			t.Fatalf("applied %d as number %d", seq, i+1)
		}
	}
	if len(applied) != 200 {
		t.Errorf("applied %d records, want 200", len(applied))
	}
}

func testConcurrent(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	const writers, each = 16, 60
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := eventlog.Batch{Stream: Device(w), Expected: uint64(i), Drafts: []eventlog.Draft{Event(uint64(w*each+i), 100)}}
				recs, err := Append(l, b)
				if err != nil || recs[0].Version != uint64(i+1) {
					t.Errorf("writer %d, event %d: %v", w, i, err)
					return
				}
				if i%10 == 9 { // read your writes
					if got := Collect(t, l.Read(context.Background(), Device(w), 1)); len(got) != i+1 {
						t.Errorf("writer %d reads %d of its %d events", w, len(got), i+1)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[messages.EventID]bool{}
	for i, r := range Collect(t, l.Scan(t.Context(), 1, math.MaxUint64)) {
		if r.Seq != uint64(i+1) || seen[r.ID] {
			t.Fatalf("record %d: sequence number %d, seen before: %v", i, r.Seq, seen[r.ID])
		}
		seen[r.ID] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d records, want %d", len(seen), writers*each)
	}
}

func testProofs(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	roots := map[uint64]tlog.Hash{}
	var recs []messages.Record
	for i := range 130 {
		recs = append(recs, MustAppend(t, l, Device(i%5), uint64(i/5), 1)...)
		roots[l.Head().Seq] = l.Head().Root
	}
	for _, size := range []uint64{1, 2, 3, 64, 100, 130} {
		for _, seq := range []uint64{1, 2, size/2 + 1, size} {
			if seq > size {
				continue
			}
			p, err := l.Proof(seq, size)
			if err != nil {
				t.Fatalf("proof of %d in %d: %v", seq, size, err)
			}
			leaf, err := messages.AppendRecord(nil, &recs[seq-1])
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(p, int64(size), roots[size], int64(seq-1), tlog.RecordHash(leaf)); err != nil {
				t.Errorf("proof of %d in %d: %v", seq, size, err)
			}
		}
		for _, old := range []uint64{1, size/2 + 1, size} {
			if old > size {
				continue
			}
			p, err := l.ConsistencyProof(old, size)
			if err != nil {
				t.Fatalf("consistency of %d and %d: %v", old, size, err)
			}
			if err := tlog.CheckTree(p, int64(size), roots[size], int64(old), roots[old]); err != nil {
				t.Errorf("consistency of %d and %d: %v", old, size, err)
			}
		}
	}
	for _, bad := range [][2]uint64{{0, 5}, {6, 5}, {1, 131}} {
		if _, err := l.Proof(bad[0], bad[1]); !errors.Is(err, eventlog.ErrRange) {
			t.Errorf("proof of %d in %d: got %v, want ErrRange", bad[0], bad[1], err)
		}
		if _, err := l.ConsistencyProof(bad[0], bad[1]); !errors.Is(err, eventlog.ErrRange) {
			t.Errorf("consistency of %d and %d: got %v, want ErrRange", bad[0], bad[1], err)
		}
	}
}

func testVerify(t *testing.T, open Open) {
	l := open(t, eventlog.Options{KnownKind: func(k messages.Kind, _ uint8) bool { return k != 3 }})
	defer l.Close()
	unknown := uint64(0)
	for i := range 150 {
		for _, r := range MustAppend(t, l, Device(i), 0, 3) {
			if r.Kind == 3 {
				unknown++
			}
		}
	}
	calls, last := 0, uint64(0)
	rep, err := l.Verify(t.Context(), func(done, total uint64) {
		calls++
		if done < last || total != 450 {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Head != l.Head() || rep.Streams != 150 || rep.Unknown != unknown || calls == 0 || last != 450 {
		t.Errorf("report %+v, progress to %d in %d calls; want head %+v, 150 streams, %d unknown", rep, last, calls, l.Head(), unknown)
	}
}

func testReplay(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	var want []messages.Record
	for i := range 60 {
		want = append(want, MustAppend(t, l, Device(i%7), uint64(i/7)*40, 40)...)
	}
	var got []messages.Record
	report, err := l.Replay(t.Context(), func(recs []messages.Record) error {
		for _, r := range recs { // they and their bodies are ours until we return
			r.Body = bytes.Clone(r.Body)
			got = append(got, r)
		}
		return nil
	})
	if err != nil || report.Head != l.Head() || report.Streams != 7 || !slices.EqualFunc(got, want, Equal) {
		t.Errorf("replayed %d of %d records: %+v, %v", len(got), len(want), report, err)
	}
	refused, calls := errors.New("refused"), 0
	_, err = l.Replay(t.Context(), func([]messages.Record) error {
		calls++
		return refused
	})
	if !errors.Is(err, refused) || calls != 1 {
		t.Errorf("a refused replay: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Replay(ctx, func([]messages.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled replay: %v", err)
	}
}

func testSnapshots(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	MustAppend(t, l, Device(1), 0, 5)
	if _, ok, err := l.Snapshot("sessions"); ok || err != nil {
		t.Errorf("snapshot before any: %v, %v", ok, err)
	}
	for i, size := range []int{0, 10, 3 << 20, 1 << 10, 2 << 20} {
		want := eventlog.Snapshot{Version: uint32(i), Seq: uint64(i), Data: bytes.Repeat([]byte{byte(i + 1)}, size)}
		if err := l.PutSnapshot("sessions", want); err != nil {
			t.Fatal(err)
		}
		got, ok, err := l.Snapshot("sessions")
		if err != nil || !ok || got.Version != want.Version || got.Seq != want.Seq || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("snapshot of %d bytes: found %v with %d bytes, error %v", size, ok, len(got.Data), err)
		}
	}
	if err := l.PutSnapshot("sessions", eventlog.Snapshot{Seq: 6}); !errors.Is(err, eventlog.ErrRange) {
		t.Errorf("snapshot ahead of the log: got %v, want ErrRange", err)
	}
	if err := l.PutSnapshot("", eventlog.Snapshot{}); !errors.Is(err, eventlog.ErrRange) {
		t.Errorf("snapshot without a key: got %v, want ErrRange", err)
	}
}

func testClosed(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	MustAppend(t, l, Device(1), 0, 1)
	answered := make(chan error, 64)
	for i := range 64 {
		l.Append(eventlog.Batch{Stream: Device(2 + i), Drafts: []eventlog.Draft{Event(uint64(i), 9)}},
			func(_ []messages.Record, err error) { answered <- err })
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if err := <-answered; err != nil {
			t.Errorf("accepted before Close: %v", err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := Append(l, eventlog.Batch{Stream: Device(1), Expected: 1, Drafts: []eventlog.Draft{Event(5, 5)}}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("append after Close: got %v, want ErrClosed", err)
	}
	if err := l.PutSnapshot("x", eventlog.Snapshot{}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("snapshot after Close: got %v, want ErrClosed", err)
	}
}
