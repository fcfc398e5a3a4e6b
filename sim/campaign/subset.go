package campaign

import "sync"

// subset looks for a small part of the n things 0..n-1 with which fails still says yes, by
// taking away chunks: halves, then quarters, down to single things, again and again, until
// no single one can be taken away. At most jobs calls of fails run at a time, and it takes
// the same way however many. stop is asked before each round of calls; once it says yes, or
// when nothing more can go, the part found so far is returned, in order. fails is not asked
// about the whole, which is taken to fail.
func subset(n, jobs int, fails func(keep []int) bool, stop func() bool) (keep []int, whole bool) {
	keep = make([]int, n)
	for i := range keep {
		keep[i] = i
	}
	if n == 0 {
		return keep, true
	}
	if !stop() && fails(nil) {
		return nil, true
	}
	for size := (n + 1) / 2; ; {
		took := false
		for at := 0; at < len(keep); {
			if stop() {
				return keep, false
			}
			// A fixed number of chunks a round, so that the way does not depend on the machine.
			var tries [][2]int
			for next := at; next < len(keep) && len(tries) < chunksARound; next += size {
				tries = append(tries, [2]int{next, min(next+size, len(keep))})
			}
			away := spare(keep, tries, jobs, fails)
			if len(away) == 0 {
				at = tries[len(tries)-1][1]
				continue
			}
			took = true
			gone := 0
			for _, c := range away {
				gone += c[1] - c[0]
			}
			at = tries[len(tries)-1][1] - gone
			if len(away) == 1 { // others of the round may be spared in its absence
				at = away[0][0]
			}
			keep = without(keep, away...)
		}
		switch {
		case size > 1:
			size = (size + 1) / 2
		case !took:
			return keep, true
		}
		size = min(size, max(1, len(keep)))
		if len(keep) == 0 {
			return keep, true
		}
	}
}

const chunksARound = 4

// spare returns chunks without which, all at once, fails still says yes: each that can be
// spared alone, or if they cannot all go together the first of them.
func spare(keep []int, chunks [][2]int, jobs int, fails func([]int) bool) [][2]int {
	can := make([]bool, len(chunks))
	var wait sync.WaitGroup
	slots := make(chan struct{}, max(1, jobs))
	for i, c := range chunks {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			can[i] = fails(without(keep, c))
		})
	}
	wait.Wait()
	var away [][2]int
	for i, c := range chunks {
		if can[i] {
			away = append(away, c)
		}
	}
	if len(away) > 1 && !fails(without(keep, away...)) {
		away = away[:1]
	}
	return away
}

// without returns keep without what stands at the chunks, which are in order.
func without(keep []int, chunks ...[2]int) []int {
	rest := make([]int, 0, len(keep))
	at := 0
	for _, c := range chunks {
		rest = append(rest, keep[at:c[0]]...)
		at = c[1]
	}
	return append(rest, keep[at:]...)
}
