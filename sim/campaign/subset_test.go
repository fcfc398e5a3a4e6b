package campaign

import (
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func contains(keep []int, all ...int) bool {
	for _, v := range all {
		if !slices.Contains(keep, v) {
			return false
		}
	}
	return true
}

func never() bool { return false }

// TestSubsetFindsTheFew: out of many, those that matter together are what is left, on any
// number of cores, by few questions.
func TestSubsetFindsTheFew(t *testing.T) {
	for _, jobs := range []int{1, 2, 7} {
		var asked atomic.Int64
		keep, whole := subset(1000, jobs, func(keep []int) bool {
			asked.Add(1)
			return contains(keep, 3, 500, 501, 999)
		}, never)
		if !whole || !slices.Equal(keep, []int{3, 500, 501, 999}) {
			t.Errorf("%d jobs: %v, %v", jobs, keep, whole)
		}
		if asked.Load() > 400 {
			t.Errorf("%d jobs: %d questions", jobs, asked.Load())
		}
	}
}

// TestSubsetIsMinimal: whatever fails, in monotone or odd ways, what is left fails, is in
// order, and no single thing can be taken from it.
func TestSubsetIsMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 60).Draw(t, "n")
		need := rapid.SliceOfNDistinct(rapid.IntRange(0, 59), 0, 5, rapid.ID[int]).Draw(t, "need")
		need = slices.DeleteFunc(need, func(v int) bool { return v >= n })
		odd := rapid.Bool().Draw(t, "odd") // an even number of others hides it
		fails := func(keep []int) bool {
			return contains(keep, need...) && (!odd || len(keep) == n || (len(keep)-len(need))%2 == 0)
		}
		keep, whole := subset(n, 2, fails, never)
		if !whole || !slices.IsSorted(keep) || len(keep) < n && !fails(keep) {
			t.Fatalf("%v, %v", keep, whole)
		}
		for i := range keep {
			if rest := without(keep, [2]int{i, i + 1}); fails(rest) {
				t.Fatalf("%v can be made smaller: %v", keep, rest)
			}
		}
	})
}

// TestSubsetEnds: told to stop it returns what it has, which fails.
func TestSubsetEnds(t *testing.T) {
	for after := range 12 {
		left := after
		keep, whole := subset(64, 2, func(keep []int) bool { return contains(keep, 1, 60) }, func() bool { left--; return left < 0 })
		if !contains(keep, 1, 60) || whole && len(keep) > 2 {
			t.Errorf("after %d rounds: %v, %v", after, keep, whole)
		}
	}
}
