package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// appendTo appends n events to stream and waits.
func appendTo(t *testing.T, l Log, stream messages.StreamID, n int) {
	t.Helper()
	version, err := l.Version(stream)
	if err != nil {
		t.Fatal(err)
	}
	b := Batch{Stream: stream, Expected: version}
	for i := range n {
		b.Drafts = append(b.Drafts, Draft{ID: messages.EventID{byte(version), byte(i), byte(i >> 8)}, Kind: 3, Schema: 1, Body: []byte(stream)})
	}
	done := make(chan error, 1)
	l.Append(b, func(_ []messages.Record, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func openTest(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	o.BallastBytes, o.MemTableBytes = -1, memTableBytesMin
	if o.JournalBytes == 0 {
		o.JournalBytes = 4 << 20
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeTest(t *testing.T, l Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// readsAll checks that stream has n versions, from each of a few on.
func readsAll(t *testing.T, l Log, stream messages.StreamID, n uint64) {
	t.Helper()
	for _, from := range []uint64{1, 2, n / 2, n - 1, n} {
		next := max(from, 1)
		for rec, err := range l.Read(context.Background(), stream, from) {
			if err != nil {
				t.Fatalf("%s from %d: %v", stream, from, err)
			}
			if rec.Stream != stream || rec.Version != next {
				t.Fatalf("%s from %d: got %s version %d, want version %d", stream, from, rec.Stream, rec.Version, next)
			}
			next++
		}
		if next != n+1 {
			t.Fatalf("%s from %d ends before version %d, want %d", stream, from, next, n)
		}
	}
}

// TestIndexIsWrittenForManyRecordsAtOnce: streams are read while their index moves from
// memory to Badger, busy ones cost it one key for many records, and what is in neither is
// found again by an open, also by one that allows less of it.
func TestIndexIsWrittenForManyRecordsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, Options{UnindexedMax: 2000})
	const rounds, busy = 40, 50
	name := func(i int) messages.StreamID { return messages.StreamID(fmt.Sprintf("device/busy-%d", i)) }
	stop, read := make(chan struct{}), make(chan struct{})
	appendTo(t, s, name(0), 3)
	go func() {
		defer close(read)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			n, err := s.Version(name(0))
			if err != nil {
				t.Error(err)
				return
			}
			got := uint64(0)
			for _, err := range s.Read(context.Background(), name(0), 1) {
				if err != nil {
					t.Errorf("read %d: %v", i, err)
					return
				}
				got++
			}
			if got < n {
				t.Errorf("read %d found %d versions, there were %d", i, got, n)
				return
			}
		}
	}()
	for round := range rounds {
		for i := range busy {
			appendTo(t, s, name(i), 4)
		}
		appendTo(t, s, messages.StreamID(fmt.Sprintf("device/once-%d", round)), 1)
	}
	appendTo(t, s, "core/one", 700) // more than an entry holds
	close(stop)
	<-read
	closeTest(t, s)
	for i, most := range []int{2000, 10, 100000} {
		s = openTest(t, dir, Options{UnindexedMax: most})
		readsAll(t, s, name(0), 3+4*rounds)
		readsAll(t, s, name(busy-1), 4*rounds)
		readsAll(t, s, "core/one", 700)
		readsAll(t, s, "device/once-7", 1)
		report, err := s.Verify(context.Background(), nil)
		if want := uint64(busy + rounds + 1 + i); err != nil || report.Streams != want || report.Head != s.Head() {
			t.Fatalf("at most %d unindexed: %+v, %v; want %d streams", most, report, err, want)
		}
		appendTo(t, s, messages.StreamID(fmt.Sprintf("device/again-%d", i)), 1) // makes room first
		closeTest(t, s)
		if at, head := s.lsm.state.indexed, s.Head().Seq; head-at > uint64(most) {
			t.Errorf("at most %d unindexed: the index ends at %d of %d", most, at, head)
		}
	}
	keys := 0
	for _, stream := range indexKeys(t, dir) {
		if strings.HasPrefix(stream, "device/busy") {
			keys++
		}
	}
	if records := busy * 4 * rounds; keys == 0 || keys > records/15 {
		t.Errorf("%d keys lead to %d records of busy streams", keys, records)
	}
}

// inBadger changes the content of a closed log's Badger.
func inBadger(t *testing.T, dir string, change func(*badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badgerOptions(filepath.Join(dir, badgerName), memTableBytesMin, compactors, false, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// indexKeys lists the streams of the index entries of a closed log.
func indexKeys(t *testing.T, dir string) (streams []string) {
	t.Helper()
	inBadger(t, dir, func(txn *badger.Txn) error {
		return iterate(txn, []byte{prefixStream}, []byte{prefixStream}, func(item *badger.Item) (bool, error) {
			stream, _, err := parseStreamKey(item.Key())
			streams = append(streams, string(stream))
			return true, err
		})
	})
	return streams
}

// TestWrongIndexIsFound: an index that leads elsewhere, to less or to more, is refused by
// an open where its keys alone show it, and else by Verify, Replay and Read.
func TestWrongIndexIsFound(t *testing.T) {
	live := t.TempDir()
	o := Options{UnindexedMax: 1, JournalBytes: journalBytesMin}
	var s *Store
	for range 4 { // the journal wraps: it cannot repair what is damaged
		s = openTest(t, live, o)
		for range 40 {
			for _, stream := range []messages.StreamID{"device/a", "device/b", "device/c"} {
				appendTo(t, s, stream, 2)
			}
		}
		closeTest(t, s)
	}
	key := func(stream messages.StreamID, last uint64) []byte { return streamIndexKey(stream, last) }
	entryOf := func(t *testing.T, txn *badger.Txn, stream messages.StreamID) (last uint64, seqs []uint64) {
		err := iterate(txn, streamPrefix(stream), streamPrefix(stream), func(item *badger.Item) (bool, error) {
			var err error
			if _, last, err = parseStreamKey(item.Key()); err == nil {
				seqs, err = readIndex(nil, item)
			}
			return false, err
		})
		if err != nil || len(seqs) == 0 {
			t.Fatalf("no entry of %s: %v", stream, err)
		}
		return last, seqs
	}
	put := func(txn *badger.Txn, stream messages.StreamID, last uint64, seqs []uint64) error {
		return txn.SetEntry(badger.NewEntry(key(stream, last), indexValue(seqs)).WithMeta(byte(len(seqs) - 1)))
	}
	for name, c := range map[string]struct {
		opens  bool
		damage func(*testing.T, *badger.Txn) error
	}{
		"nothing": {true, func(*testing.T, *badger.Txn) error { return nil }},
		"an entry is gone": {false, func(t *testing.T, txn *badger.Txn) error {
			last, _ := entryOf(t, txn, "device/b")
			return txn.Delete(key("device/b", last))
		}},
		"an entry too many": {false, func(t *testing.T, txn *badger.Txn) error { return put(txn, "device/d", 1, []uint64{3}) }},
		"two streams' records change places": {true, func(t *testing.T, txn *badger.Txn) error {
			lastA, seqsA := entryOf(t, txn, "device/a")
			lastB, seqsB := entryOf(t, txn, "device/b")
			seqsA[0], seqsB[0] = seqsB[0], seqsA[0]
			slices.Sort(seqsA)
			slices.Sort(seqsB)
			return errors.Join(put(txn, "device/a", lastA, seqsA), put(txn, "device/b", lastB, seqsB))
		}},
		"a record is in it twice": {true, func(t *testing.T, txn *badger.Txn) error {
			lastA, seqsA := entryOf(t, txn, "device/a")
			_, seqsB := entryOf(t, txn, "device/b")
			return put(txn, "device/a", lastA, seqsB[:len(seqsA)])
		}},
		"the stored head says less": {false, func(t *testing.T, txn *badger.Txn) error {
			state := s.lsm.state.cloned()
			state.indexed--
			return txn.Set(keyHead, state.encode())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			if err := os.CopyFS(dir, os.DirFS(live)); err != nil {
				t.Fatal(err)
			}
			inBadger(t, dir, func(txn *badger.Txn) error { return c.damage(t, txn) })
			l, err := Open(dir, Options{BallastBytes: -1, MemTableBytes: memTableBytesMin})
			if (err == nil) != c.opens || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("open: %v, want it to be refused as corrupt: %v", err, !c.opens)
			}
			if err != nil {
				return
			}
			defer closeTest(t, l)
			_, verified := l.Verify(context.Background(), nil)
			_, replayed := l.Replay(context.Background(), func([]messages.Record) error { return nil })
			var read error
			for _, stream := range []messages.StreamID{"device/a", "device/b"} {
				for _, err := range l.Read(context.Background(), stream, 1) {
					read = errors.Join(read, err)
				}
			}
			for what, err := range map[string]error{"Verify": verified, "Replay": replayed, "Read": read} {
				if good := name == "nothing"; good != (err == nil) || !good && !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestFormat1IndexIsRead(t *testing.T) {
	value := seal([]byte{4: 0, 11: 9, 12: 0, 13: 3, 14: 4})
	if got, err := decodeIndex(nil, value, 3); err != nil || !slices.Equal(got, []uint64{9, 12, 13}) {
		t.Errorf("got %v, %v; want records 9, 12 and 13", got, err)
	}
	h := storedHead{head: Head{Seq: 77}, kinds: map[kindKey]uint64{{3, 1, true}: 77}, indexed: 70}
	b := h.encode()
	old := seal(b[:len(b)-8]) // without how far the index is
	if got, err := decodeStoredHead(old); err != nil || got.indexed != 77 || got.kinds[kindKey{3, 1, true}] != 77 {
		t.Errorf("got %+v, %v; want all 77 records in the index", got, err)
	}
	h.indexed = 78
	if got, err := decodeStoredHead(h.encode()); err == nil {
		t.Errorf("got %+v of a head whose index is ahead of it", got)
	}
	for _, bad := range [][]uint64{{0}, {5, 5}, {7, 6}, {1, math.MaxUint64}} {
		if got, err := decodeIndex(nil, indexValue(bad), len(bad)+1); err == nil {
			t.Errorf("got %v of an entry for %v and one more", got, bad)
		}
	}
}

// TestChangedRecordIsFoundBehindASnapshot: an open does not hash what lies far back, nor
// does who reads it; Verify and Replay do.
func TestChangedRecordIsFoundBehindASnapshot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	o := Options{JournalBytes: 1 << 20}
	for range 2 {
		s := openTest(t, dir, o)
		for range 12 {
			appendTo(t, s, "device/a", 400)
		}
		closeTest(t, s)
	}
	inBadger(t, dir, func(txn *badger.Txn) error {
		item, err := txn.Get(numberKey(prefixBlock, 1))
		if err != nil {
			return err
		}
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		at := bytes.LastIndex(value[:100], []byte("device/a")) // the first record's body
		value[at]++
		return txn.SetEntry(badger.NewEntry(numberKey(prefixBlock, 1), seal(value)).WithMeta(item.UserMeta()))
	})
	s := openTest(t, dir, o)
	defer closeTest(t, s)
	_, verified := s.Verify(context.Background(), nil)
	_, replayed := s.Replay(context.Background(), func([]messages.Record) error { return nil })
	for what, err := range map[string]error{"Verify": verified, "Replay": replayed} {
		var c *CorruptError
		if !errors.As(err, &c) || c.Seq != 1 {
			t.Errorf("%s: %v, want it corrupt at record 1", what, err)
		}
	}
}

// TestBlockStarts: a record is in the block that begins last at or before it.
func TestBlockStarts(t *testing.T) {
	var b blockStarts
	if first, ok := b.of(1); ok {
		t.Errorf("of no block: %d", first)
	}
	b.add([]uint64{1, 4, 5})
	before := *b.list.Load()
	b.add([]uint64{9})
	for seq, want := range map[uint64]uint64{1: 1, 3: 1, 4: 4, 5: 5, 8: 5, 9: 9, 1000: 9} {
		if first, ok := b.of(seq); !ok || first != want {
			t.Errorf("record %d is in block %d, %v; want %d", seq, first, ok, want)
		}
	}
	if first, ok := b.of(0); ok {
		t.Errorf("of no record: %d", first)
	}
	if !slices.Equal(before, []uint64{1, 4, 5}) {
		t.Errorf("what a reader holds changed: %v", before)
	}
}
