package dst

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

// A stream of chance is for one purpose: what one part of the world draws changes nothing
// of what another does.
type stream uint64

// The streams.
const (
	diceSched stream = iota + 1
	diceRun
	diceNet
	diceStore
	diceCloud
	diceNonces
	diceCore
	diceBroker
	diceCerts
	diceHerd
)

// dice is a source of chance that is asked with keys: the same keys, the same answer, and
// what was asked before does not matter. So a plan that lacks an action goes on as it did
// wherever that action made no difference.
type dice uint64

// diceOf is the dice of one stream of a seed.
func diceOf(seed uint64, s stream) dice { return dice(mix(seed, uint64(s)*0x9e3779b97f4a7c15)) }

// mix folds a 128-bit product, as wyhash does.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0xa0761d6478bd642f, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// key narrows the dice down.
func (d dice) key(k uint64) dice { return dice(mix(uint64(d)+k, 0x8ebc6af09c88c6e3^k)) }

// name narrows the dice down by a text.
func (d dice) name(s string) dice { return d.key(hashOf(s)) }

// u64 is what the dice show.
func (d dice) u64() uint64 { return mix(uint64(d), 0x589965cc75374cc3) }

// float is in [0, 1).
func (d dice) float() float64 { return float64(d.u64()>>11) / (1 << 53) }

// chance is true with probability p.
func (d dice) chance(p float64) bool { return p > 0 && d.float() < p }

// below is in [0, n), which must be positive.
func (d dice) below(n int) int {
	hi, _ := bits.Mul64(d.u64(), uint64(n))
	return int(hi)
}

// between is in [lo, hi], small values as likely as large ones.
func (d dice) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(d.float()*float64(hi-lo))
}

// spread is in [lo, hi], each order of magnitude as likely as any other. lo is positive.
func (d dice) spread(lo, hi time.Duration) time.Duration {
	return time.Duration(float64(lo) * math.Exp(d.float()*math.Log(float64(hi)/float64(lo))))
}

// hashOf is FNV-1a.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// bytes is a source of bytes that look random: what entities make their tokens of.
type randomBytes struct {
	dice dice
	n    uint64
}

// fill is actors.Config's Random.
func (r *randomBytes) fill(b []byte) {
	for len(b) > 0 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], r.dice.key(r.n).u64())
		r.n++
		b = b[copy(b, word[:]):]
	}
}
