package actors

import (
	"testing"
	"testing/synctest"
)

// TestTurnsThatWaitHoldUpNobody: a turn that waits for a later one gets its turn, workers
// are used again, those who are left over go, and stop lets the rest go, too: synctest
// fails on a goroutine that stays.
func TestTurnsThatWaitHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkers()
		const turns = 2 * idleWorkersMax
		gate, done := make(chan struct{}), make(chan int, turns+1)
		for i := range turns {
			w.run(func() { <-gate; done <- i })
		}
		synctest.Wait()
		w.run(func() { close(gate) })
		synctest.Wait()
		if len(done) != turns || len(w.idle) != idleWorkersMax {
			t.Errorf("%d turns are done and %d workers idle, want %d and %d", len(done), len(w.idle), turns, idleWorkersMax)
		}
		w.run(func() {
			if len(w.idle) != idleWorkersMax-1 {
				t.Errorf("a turn left %d workers idle", len(w.idle))
			}
		})
		synctest.Wait()
		w.stop()
		w.run(func() { done <- turns })
		synctest.Wait()
		if len(done) != turns+1 {
			t.Error("a turn after the end did not run")
		}
	})
}
