package eventlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// testGroup sequences n batches of one event into a group.
func testGroup(seq *sequencer, n, bodyBytes int) *group {
	g := seq.newGroup()
	for i := range n {
		stream := messages.StreamID("device/pump-" + string(rune('a'+i%26)))
		k := seq.streams.key(stream)
		b := Batch{Stream: stream, Expected: seq.version(g, k), At: messages.Instant{TrustMs: 1, WallMs: 2}, Cause: messages.Cause{Request: "r", Broker: "demo"}}
		b.Drafts = []Draft{{ID: messages.EventID{byte(i)}, Kind: 7, Schema: 1, Body: bytes.Repeat([]byte{byte(i)}, bodyBytes)}}
		seq.add(g, &pending{batch: b})
	}
	g.after = seq.tree.clone()
	g.root = g.after.root()
	return g
}

func newTestSequencer() *sequencer {
	return &sequencer{streams: newStreams(), earlier: func(messages.StreamID, uint64, int) ([]messages.Record, error) { return nil, nil }}
}

// journalImage lays out groups as one generation of a journal file.
func journalImage(gen uint64, sectors int, groups ...*group) []byte {
	b := make([]byte, journalDataStart)
	for _, g := range groups {
		b = appendFrame(b, g, gen, (len(b)-journalDataStart)/sectorBytes)
	}
	return append(b, make([]byte, journalDataStart+sectors*sectorBytes-len(b))...)
}

func scanImage(b []byte, gen uint64) (frames []frame, sc *scan, err error) {
	sc = &scan{f: bytes.NewReader(b), gen: gen, sectors: journalSectors(int64(len(b)))}
	sc.visit = func(f frame, _ int) error { frames = append(frames, f); return nil }
	err = sc.run(1)
	return frames, sc, err
}

func TestTreeAgreesWithTlog(t *testing.T) {
	var ours tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(300) {
		data := []byte{byte(n), byte(n >> 8)}
		want, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		before := len(stored)
		taken := ours.clone()
		stored = ours.add(leafHash(append([]byte{leafPrefix}, data...)), stored)
		if got := stored[before:]; len(got) != len(want) {
			t.Fatalf("record %d: %d hashes, want %d", n, len(got), len(want))
		}
		for i := range want {
			if stored[before+i] != want[i] {
				t.Fatalf("record %d: hash %d differs from tlog's", n, i)
			}
		}
		root, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		rebuilt, err := treeAt(uint64(n+1), reader)
		if err != nil {
			t.Fatal(err)
		}
		taken.take(want)
		if ours.root() != root || rebuilt.root() != root || taken.root() != root {
			t.Fatalf("root of %d records differs from tlog's", n+1)
		}
		for i := storedCount(uint64(n)); i < storedCount(uint64(n+1)); i++ {
			if got := recordOf(int64(i)); got != uint64(n+1) {
				t.Fatalf("hash %d belongs to record %d, want %d", i, got, n+1)
			}
		}
	}
}

func TestFramesComeBack(t *testing.T) {
	seq := newTestSequencer()
	groups := []*group{testGroup(seq, 1, 0), testGroup(seq, 30, 200), testGroup(seq, 2, 488), testGroup(seq, 1, 700<<10)}
	frames, sc, err := scanImage(journalImage(9, 3000, groups...), 9)
	if err != nil || len(sc.gaps) != 0 || sc.torn || len(frames) != len(groups) {
		t.Fatalf("%d frames, gaps %v, torn %v, error %v; want %d frames", len(frames), sc.gaps, sc.torn, err, len(groups))
	}
	for i, f := range frames {
		if f.first != groups[i].first || f.last() != groups[i].last() || f.root != groups[i].root || !bytes.Equal(f.entries, groups[i].entries) {
			t.Errorf("frame %d differs", i)
		}
	}
}

// Rules of doc.go: whatever subset of the last frame's sectors reached the disk, it is
// torn or whole; and whatever byte of whichever frame changes, it is noticed.
func TestTornIsNotDamagedAndDamagedIsNotTorn(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		seq := newTestSequencer()
		gen := 2 + rng.Uint64N(3)
		old := journalImage(gen-2, 200, testGroup(newTestSequencer(), 60, 300))
		groups := []*group{testGroup(seq, 1+rng.IntN(3), 20), testGroup(seq, 1+rng.IntN(9), 200), testGroup(seq, 1+rng.IntN(9), 300)}
		image := journalImage(gen, 200, groups...)
		end := journalDataStart
		for _, g := range groups {
			end += g.journalBytes()
		}
		copy(image[end:], old[end:]) // what the generation before left
		start := end - groups[2].journalBytes()
		torn := bytes.Clone(image)
		missing := 0
		for at := start; at < end; at += sectorBytes {
			if rng.IntN(2) == 0 {
				copy(torn[at:at+sectorBytes], old[at:])
				missing++
			}
		}
		frames, sc, err := scanImage(torn, gen)
		want := 3
		if missing > 0 {
			want = 2
		}
		if err != nil || len(sc.gaps) != 0 || len(frames) != want || sc.expect != groups[want-1].last()+1 {
			t.Fatalf("%d sectors missing: %d frames to %d, gaps %v, error %v; want %d frames", missing, len(frames), sc.expect-1, sc.gaps, err, want)
		}
		damaged := bytes.Clone(image)
		damaged[journalDataStart+rng.IntN(end-journalDataStart)] ^= byte(1 + rng.IntN(255))
		frames, sc, err = scanImage(damaged, gen)
		if err != nil || len(frames) != 2 || len(sc.gaps) != 1 || sc.torn {
			t.Fatalf("one byte changed: %d frames, gaps %v, torn %v, error %v", len(frames), sc.gaps, sc.torn, err)
		}
	}
}

func TestSectorOfAnotherPlaceOrTimeIsNotCurrent(t *testing.T) {
	g := testGroup(newTestSequencer(), 1, 10)
	b := appendFrame(nil, g, 5, 40)
	for _, c := range []struct {
		gen   uint64
		index int
		want  sectorState
	}{{5, 40, sectorCurrent}, {7, 40, sectorOld}, {3, 40, sectorBad}, {5, 41, sectorBad}, {1<<32 + 5, 40, sectorCurrent}} {
		if got := readSector(b, c.gen, c.index).state; got != c.want {
			t.Errorf("sector 40 of generation 5 read as sector %d of %d: state %d, want %d", c.index, c.gen, got, c.want)
		}
	}
	if got := readSector(make([]byte, sectorBytes), 5, 40).state; got != sectorZero {
		t.Errorf("zeros: state %d, want %d", got, sectorZero)
	}
}

// Golden bytes: a change here is a new format and needs a new number.
func TestFormatsStayAsTheyAre(t *testing.T) {
	g := testGroup(newTestSequencer(), 1, 4)
	sum := func(b []byte) string {
		return hex.EncodeToString([]byte{byte(len(b) >> 8), byte(len(b))}) + hex.EncodeToString(crc(b))
	}
	h := headState{head: Head{Seq: 7, Root: g.root}, generation: 3, journalBytes: journalBytesMin, ballastBytes: 5, clean: true, checkpoint: []byte("note")}
	jh := journalHead{generation: 3, first: 8, before: g.root, stored: Head{Seq: 6, Root: g.root}}
	sh := storedHead{head: Head{Seq: 7, Root: g.root}, kinds: map[kindKey]uint64{{7, 1, true}: 9}, indexed: 5}
	for name, c := range map[string][2]string{
		"frame":        {sum(appendFrame(nil, g, 2, 1)), "02009e9c4c88"},
		"HEAD":         {sum(encodeSlot(magicHead, 9, h.encode())), "100018e8e1f5"},
		"journal head": {sum(encodeSlot(magicJournal, 3, jh.encode())), "10006b57d2d7"},
		"stored head":  {sum(sh.encode()), "0044a35dbe70"},
		"index value":  {hex.EncodeToString(indexValue([]uint64{300, 301, 900})), "74f2e06001ac0201d704"},
		"index key":    {hex.EncodeToString(streamIndexKey("device/a", 258)), "73086465766963652f610000000000000102"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %s, want %s", name, c[0], c[1])
		}
	}
}

func crc(b []byte) []byte {
	sum := crc32.Checksum(b, castagnoli)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

func TestNewerFormatIsRefusedAsSuch(t *testing.T) {
	b := encodeSlot(magicHead, 1, nil)
	b[11]++
	copy(b[slotBytes-4:], crc(b[:slotBytes-4]))
	if _, _, err := readSlots(bytes.NewReader(append(b, b...)), magicHead); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

func FuzzFrame(f *testing.F) {
	seq := newTestSequencer()
	image := journalImage(4, 12, testGroup(seq, 1, 30), testGroup(seq, 5, 300))
	f.Add(image[journalDataStart:], uint16(700), byte(1))
	f.Add(image[journalDataStart:], uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		if len(data) > 64*sectorBytes {
			return
		}
		data = append(bytes.Clone(data), make([]byte, (sectorBytes-len(data)%sectorBytes)%sectorBytes)...)
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
		}
		frames, sc, err := scanImage(append(make([]byte, journalDataStart), data...), 4)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		next := uint64(1)
		for _, fr := range frames {
			if fr.first < next {
				t.Fatalf("frame from %d after %d", fr.first, next-1)
			}
			if next = fr.last() + 1; next == 0 {
				return
			}
			for rest := fr.entries; len(rest) > 0; {
				var entry []byte
				if entry, rest, err = nextEntry(rest); err != nil {
					break
				}
				_, _ = messages.ParseRecord(entry[1:])
			}
		}
		_ = sc
	})
}

func FuzzHeader(f *testing.F) {
	h := headState{generation: 1, journalBytes: journalBytesMin, checkpoint: []byte("gatehouse\n1\nAAAA\n")}
	jh := journalHead{generation: 1, first: 1}
	sh := storedHead{kinds: map[kindKey]uint64{{1, 1, true}: 1}}
	large := []byte(snapshotNote("k", &Snapshot{Version: 1, Seq: 2, Data: []byte("data")}))
	file := binary.BigEndian.AppendUint32(append([]byte(magicSnapshot), 0, 0, 0, snapshotFormat), uint32(len(large)))
	f.Add(slices.Concat(file, crc(large), large, []byte("data")))
	for _, b := range [][]byte{h.encode(), jh.encode(), sh.encode(), encodeSlot(magicHead, 1, h.encode())} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHead(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("HEAD %x encodes as %x", b, h.encode())
		}
		if h, err := decodeJournalHead(b); err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("journal head %x encodes as %x", b, h.encode())
		}
		_, _ = decodeStoredHead(b)
		if s, err := parseSnapshot(b, "k", nil); err == nil && !bytes.HasSuffix(b, s.Data) {
			t.Errorf("snapshot of %d bytes in %d", len(s.Data), len(b))
		}
		_, _, _ = parseStreamKey(b)
		_, _ = decodeSlot(magicHead, b)
		if h, err := openCheckpoint(b, "", nil); err == nil && h.Seq > 1<<63-1 {
			t.Errorf("checkpoint of %d records", h.Seq)
		}
	})
}

func FuzzRecord(f *testing.F) {
	g := testGroup(newTestSequencer(), 3, 20)
	f.Add(seal(append(make([]byte, 4), g.entries...)), uint8(3), g.entries)
	f.Add(indexValue([]uint64{7, 8, 300, 1 << 40}), uint8(3), g.entries)
	f.Add(seal([]byte{4: 0, 11: 7, 12: 0, 13: 5}), uint8(1), g.entries)
	f.Fuzz(func(t *testing.T, value []byte, count uint8, entries []byte) {
		if got, err := blockEntries(value, int(count)); err == nil {
			for _, e := range got {
				_, _ = parseEntry(e, 1)
			}
		}
		if seqs, err := decodeIndex(nil, value, 1+int(count)); err == nil && (len(seqs) != 1+int(count) || !slices.IsSorted(seqs)) {
			t.Errorf("index entry of %d records leads to %v", 1+int(count), seqs)
		}
		_, _ = decodeHashes(value, 1+uint64(count), 1+int(count))
		for rest := entries; len(rest) > 0; {
			entry, next, err := nextEntry(rest)
			if err != nil {
				break
			}
			if rec, err := parseEntry(entry, 1); err == nil {
				again, err := messages.AppendRecord([]byte{leafPrefix}, &rec)
				if err != nil || !bytes.Equal(again, entry) {
					t.Errorf("entry %x is written as %x, %v", entry, again, err)
				}
			}
			rest = next
		}
	})
}

func FuzzBadgerFiles(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := checkTableBytes(b); err == nil {
			t.Errorf("%x passes for a table", b)
		}
		var good bytes.Buffer
		if _, err := goodWAL(bytes.NewReader(b), &good); err != nil || !bytes.HasPrefix(b, good.Bytes()) {
			t.Errorf("%x of %x passes for a write-ahead log, %v", good.Bytes(), b, err)
		}
	})
}
