package eventlog

import "math/bits"

// versions maps streams to their versions, which begin at 1: open addressing, the next free
// slot, and room for a quarter more when four fifths are taken. So of many streams each takes
// 30 to 38 bytes; a map of Go's, half of which is free as often as not, takes up to 52, and there are
// two streams a device. A key is its own hash, under seeds that nobody knows.
type versions struct {
	slots []versionSlot
	n     int // streams
}

type versionSlot struct {
	key     streamKey
	version uint64 // 0: free
}

// slot returns where k is, or the free slot where it belongs. There is a free one.
func (t *versions) slot(k streamKey) *versionSlot {
	at, _ := bits.Mul64(k[0], uint64(len(t.slots))) // in proportion: what is next to each other stays so when it grows
	for {
		s := &t.slots[at]
		if s.version == 0 || s.key == k {
			return s
		}
		if at++; at == uint64(len(t.slots)) {
			at = 0
		}
	}
}

// get returns k's version, 0 if it is not known.
func (t *versions) get(k streamKey) uint64 {
	if len(t.slots) == 0 {
		return 0
	}
	return t.slot(k).version
}

// set notes k's version, which is not 0.
func (t *versions) set(k streamKey, version uint64) {
	if t.n >= len(t.slots)/5*4 {
		t.grow()
	}
	s := t.slot(k)
	if s.version == 0 {
		t.n++
	}
	*s = versionSlot{k, version}
}

func (t *versions) grow() {
	old := t.slots
	t.slots = make([]versionSlot, len(old)+max(len(old)/4, min(len(old), 1<<14), 64))
	for i := range old {
		if old[i].version != 0 {
			*t.slot(old[i].key) = old[i]
		}
	}
}
