package eventlog

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the frontier of the RFC 6962 tree over records 1..size: the roots of the
// perfect subtrees that size decomposes into, largest first. It is all that adding a
// record or computing the root needs, where tlog.StoredHashes reads hashes back.
type tree struct {
	size  uint64
	peaks []tlog.Hash
}

// add appends the leaf hash of record size+1 and returns stored with the hashes that
// tlog stores for it: the leaf and the roots of the subtrees it completes, in the
// order of tlog.StoredHashIndex.
func (t *tree) add(leaf tlog.Hash, stored []tlog.Hash) []tlog.Hash {
	stored = append(stored, leaf)
	for range bits.TrailingZeros64(^t.size) { // one merge for each trailing one
		last := len(t.peaks) - 1
		leaf = nodeHash(&t.peaks[last], &leaf)
		t.peaks = t.peaks[:last]
		stored = append(stored, leaf)
	}
	t.peaks = append(t.peaks, leaf)
	t.size++
	return stored
}

// root returns the tree's root. An empty tree's is the hash of nothing (RFC 6962, 2.1).
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = nodeHash(&t.peaks[i], &h)
	}
	return h
}

// copyTo makes to what t is, in to's memory if that is enough.
func (t *tree) copyTo(to *tree) {
	to.size, to.peaks = t.size, append(to.peaks[:0], t.peaks...)
}

func (t *tree) clone() tree {
	return tree{size: t.size, peaks: append(make([]tlog.Hash, 0, 64), t.peaks...)}
}

// nodeHash is RFC 6962, 2.1: SHA-256(0x01 ‖ left ‖ right), without tlog.NodeHash's
// allocation.
func nodeHash(left, right *tlog.Hash) tlog.Hash {
	var b [1 + 2*tlog.HashSize]byte
	b[0] = 0x01
	copy(b[1:], left[:])
	copy(b[1+tlog.HashSize:], right[:])
	return sha256.Sum256(b[:])
}

// leafPrefix is RFC 6962's 0x00 before a leaf's data. Entries are stored with it, so
// that their bytes are what is hashed.
const leafPrefix byte = 0x00

// leafHash hashes an entry: leafPrefix and the record's canonical bytes.
func leafHash(entry []byte) tlog.Hash { return sha256.Sum256(entry) }

// treeAt rebuilds the frontier of the first size records from stored hashes.
func treeAt(size uint64, r tlog.HashReader) (tree, error) {
	t := tree{size: size, peaks: make([]tlog.Hash, 0, 64)}
	var need []int64
	done := uint64(0)
	for level := 63; level >= 0; level-- {
		if size>>level&1 == 1 {
			need = append(need, tlog.StoredHashIndex(level, int64(done>>level)))
			done += 1 << level
		}
	}
	if len(need) == 0 {
		return t, nil
	}
	hashes, err := r.ReadHashes(need)
	if err != nil {
		return tree{}, fmt.Errorf("tree of %d records: %w", size, err)
	}
	t.peaks = append(t.peaks, hashes...)
	return t, nil
}

// storedCount is tlog.StoredHashCount for our unsigned sizes.
func storedCount(size uint64) uint64 { return uint64(tlog.StoredHashCount(int64(size))) }

// recordOf returns which record (from 1) the stored hash index belongs to: the one
// whose addition completed that subtree.
func recordOf(index int64) uint64 {
	level, n := tlog.SplitStoredHashIndex(index)
	return uint64(n+1) << level
}

func proveRecord(seq, size, head uint64, r tlog.HashReader) (tlog.RecordProof, error) {
	if seq < 1 || seq > size || size > head {
		return nil, fmt.Errorf("proof of record %d in a tree of %d: %w: the log has %d", seq, size, ErrRange, head)
	}
	p, err := tlog.ProveRecord(int64(size), int64(seq-1), r)
	if err != nil {
		return nil, fmt.Errorf("proof of record %d in a tree of %d: %w", seq, size, err)
	}
	return p, nil
}

func proveTree(old, size, head uint64, r tlog.HashReader) (tlog.TreeProof, error) {
	if old < 1 || old > size || size > head {
		return nil, fmt.Errorf("consistency of trees %d and %d: %w: the log has %d", old, size, ErrRange, head)
	}
	p, err := tlog.ProveTree(int64(size), int64(old), r)
	if err != nil {
		return nil, fmt.Errorf("consistency of trees %d and %d: %w", old, size, err)
	}
	return p, nil
}
