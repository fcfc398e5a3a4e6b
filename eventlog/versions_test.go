package eventlog

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// TestVersions: a table is a map, whatever its keys have in common.
func TestVersions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var table versions
		want := map[streamKey]uint64{}
		// Of few values the first half, which decides where a key goes: they pile up, also at the end.
		half := rapid.SampledFrom([]uint64{0, 1, 1 << 40, math.MaxUint64 - 1, math.MaxUint64})
		for range rapid.IntRange(0, 400).Draw(rt, "steps") {
			k := streamKey{half.Draw(rt, "first half"), rapid.Uint64Range(0, 40).Draw(rt, "second half")}
			if got := table.get(k); got != want[k] {
				rt.Fatalf("%v: version %d, want %d", k, got, want[k])
			}
			want[k] = rapid.Uint64Range(1, math.MaxUint64).Draw(rt, "version")
			table.set(k, want[k])
		}
		for k, v := range want {
			if got := table.get(k); got != v {
				rt.Fatalf("%v: version %d, want %d", k, got, v)
			}
		}
		if table.n != len(want) {
			rt.Fatalf("%d streams, want %d", table.n, len(want))
		}
	})
}

// TestVersionsStaySmall: the promise of so many bytes a stream, and that there is always a free slot.
func TestVersionsStaySmall(t *testing.T) {
	var table versions
	dice := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 300_000; n++ {
		table.set(streamKey{dice.Uint64(), dice.Uint64()}, 1)
		each := float64(len(table.slots)) * float64(unsafe.Sizeof(versionSlot{})) / float64(n)
		if len(table.slots) <= n || n > 200_000 && each > 38 {
			t.Fatalf("%d slots for %d streams, %.1f bytes each", len(table.slots), n, each)
		}
	}
}

func BenchmarkVersions(b *testing.B) {
	var table versions
	dice := rand.New(rand.NewPCG(1, 2))
	keys := make([]streamKey, 1_000_000)
	for i := range keys {
		keys[i] = streamKey{dice.Uint64(), dice.Uint64()}
		table.set(keys[i], 1)
	}
	m := map[streamKey]uint64{}
	for _, k := range keys {
		m[k] = 1
	}
	sum := uint64(0)
	b.Run("table", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			sum += table.get(keys[i*7919%len(keys)])
		}
	})
	b.Run("map", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			sum += m[keys[i*7919%len(keys)]]
		}
	})
	if sum == 0 {
		b.Error("nothing was found")
	}
}
