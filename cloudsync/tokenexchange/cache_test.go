package tokenexchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is a Clock of a synctest bubble.
type bubble struct{ start time.Time }

func (b bubble) Boot() time.Duration { return time.Since(b.start) + time.Hour }

func (bubble) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}

// script is a Source: what answer says of the nth question, after it took its time.
type script struct {
	asked  atomic.Int64
	atOnce atomic.Int64
	answer func(n int64) (time.Duration, Fetched, *Failure)
	t      *testing.T
}

func (s *script) Fetch(ctx context.Context) (Fetched, *Failure) {
	if s.atOnce.Add(1) != 1 {
		s.t.Error("two questions at once")
	}
	defer s.atOnce.Add(-1)
	takes, got, failure := s.answer(s.asked.Add(1))
	select {
	case <-time.After(takes):
		return got, failure
	case <-ctx.Done():
		return Fetched{}, &Failure{Message: "given up"}
	}
}

func (*script) Close() {}

func inBubble(t *testing.T, answer func(n int64) (time.Duration, Fetched, *Failure), test func(*testing.T, *Cache, *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		source := &script{answer: answer, t: t}
		c, err := NewCache(CacheConfig{Source: source, Clock: bubble{time.Now()}, Chance: func() float64 { return 0.5 }})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(t, c, source)
	})
}

func hourly(n int64) (time.Duration, Fetched, *Failure) {
	return time.Second, set(fmt.Sprint("set-", n), time.Hour), nil
}

// Warm before the first caller, renewed ahead of the end, and nobody waits.
func TestNobodyWaitsOnceItIsWarm(t *testing.T) {
	inBubble(t, func(n int64) (time.Duration, Fetched, *Failure) {
		takes, got, _ := hourly(n)
		if n > 1 {
			takes = 2 * time.Minute // a slow cloud
		}
		return takes, got, nil
	}, func(t *testing.T, c *Cache, source *script) {
		c.Start()
		time.Sleep(2 * time.Second)
		for range 4 * 60 * 60 / 7 {
			before := time.Now()
			got, fetched, err := c.Get(t.Context())
			if waited := time.Since(before); err != nil || fetched || waited != 0 {
				t.Fatalf("after %v: %v, %v, waited %v", c.clock.Boot(), got, err, waited)
			}
			time.Sleep(7 * time.Second)
		}
		if n := source.asked.Load(); n < 4 || n > 6 {
			t.Errorf("%d questions in four hours", n)
		}
	})
}

// Who comes while it is cold waits, all for one question.
func TestOneQuestionAtATime(t *testing.T) {
	inBubble(t, hourly, func(t *testing.T, c *Cache, source *script) {
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if got, fetched, err := c.Get(t.Context()); err != nil || got.AccessKeyID != "set-1" || !fetched {
					t.Errorf("got %v, %v, %v", got, fetched, err)
				}
			})
		}
		callers.Wait()
		if n := source.asked.Load(); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

// Cloud spec 2: a caller waits 30 s at most; the question goes on, and warms the cache.
func TestACallerWaitsThirtySeconds(t *testing.T) {
	inBubble(t, func(n int64) (time.Duration, Fetched, *Failure) { return time.Minute, set("late", time.Hour), nil }, func(t *testing.T, c *Cache, source *script) {
		before := time.Now()
		_, _, err := c.Get(t.Context())
		failure, ok := errors.AsType[*Failure](err)
		if !ok || failure.LocalStatus() != 504 || time.Since(before) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := c.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who goes away: %v", err)
		}
		time.Sleep(30 * time.Second)
		if got, fetched, err := c.Get(t.Context()); err != nil || fetched || got.AccessKeyID != "late" {
			t.Errorf("got %v, %v", got, err)
		}
		if n := source.asked.Load(); n != 1 {
			t.Errorf("%d questions", n)
		}
	})
}

// Offline: the set is good to its end, and then there is a clear error; when the cloud is
// back, the next caller finds a set.
func TestOfflineUntilTheEnd(t *testing.T) {
	var away atomic.Bool
	inBubble(t, func(n int64) (time.Duration, Fetched, *Failure) {
		if away.Load() {
			return time.Second, Fetched{}, unavailable(0, "connection refused: check the network")
		}
		return hourly(n)
	}, func(t *testing.T, c *Cache, source *script) {
		c.Start()
		time.Sleep(2 * time.Second)
		away.Store(true)
		time.Sleep(time.Hour - 3*time.Second)
		if got, _, err := c.Get(t.Context()); err != nil || got.AccessKeyID != "set-1" {
			t.Fatalf("a second before the end: %v, %v", got, err)
		}
		time.Sleep(time.Second)
		before := time.Now()
		_, _, err := c.Get(t.Context())
		failure, ok := errors.AsType[*Failure](err)
		if !ok || failure.LocalStatus() != 500 || failure.Code != CodeUnavailable || time.Since(before) != 0 {
			t.Errorf("at the end: %v after %v", err, time.Since(before))
		}
		asked := source.asked.Load()
		if asked < 4 || asked > 30 {
			t.Errorf("%d questions in five minutes without an answer", asked)
		}
		away.Store(false)
		c.Wake()
		time.Sleep(2 * time.Second)
		if got, fetched, err := c.Get(t.Context()); err != nil || fetched || got.AccessKeyID == "set-1" {
			t.Errorf("the cloud is back: %v, %v, %v", got, fetched, err)
		}
	})
}

// A cloud that says no is not asked more often because many want to know.
func TestANoIsKept(t *testing.T) {
	inBubble(t, func(n int64) (time.Duration, Fetched, *Failure) {
		return time.Second, Fetched{}, &Failure{Status: 403, Code: "AccessDeniedException", Message: "Access Denied"}
	}, func(t *testing.T, c *Cache, source *script) {
		for range 119 {
			if _, _, err := c.Get(t.Context()); err == nil {
				t.Fatal("credentials")
			}
			time.Sleep(time.Second)
		}
		if n := source.asked.Load(); n != 1 {
			t.Errorf("%d questions in two minutes", n)
		}
		time.Sleep(2 * time.Second)
		_, _, _ = c.Get(t.Context())
		if n := source.asked.Load(); n != 2 {
			t.Errorf("%d questions after two minutes", n)
		}
	})
}

func TestClosingBreaksOffWhatIsUnderWay(t *testing.T) {
	inBubble(t, func(int64) (time.Duration, Fetched, *Failure) { return time.Hour, Fetched{}, nil }, func(t *testing.T, c *Cache, _ *script) {
		c.Start()
		errs := make(chan error)
		go func() {
			_, _, err := c.Get(t.Context())
			errs <- err
		}()
		synctest.Wait()
		c.Close()
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("who waited: %v", err)
		}
		if _, _, err := c.Get(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("who comes later: %v", err)
		}
		c.Wake()
	})
}

// The network comes back just after a question had failed, or while one is under way that it
// comes too late for: the next is soon, however long it was away.
func TestTheNetworkComesBackBesideAQuestion(t *testing.T) {
	const takes = 5 * time.Second
	for name, into := range map[string]time.Duration{"just after it failed": takes + 100*time.Millisecond, "while it is under way": takes / 2} {
		t.Run(name, func(t *testing.T) {
			var away atomic.Bool
			away.Store(true)
			inBubble(t, func(n int64) (time.Duration, Fetched, *Failure) {
				if away.Load() {
					return takes, Fetched{}, unavailable(0, "no answer")
				}
				return hourly(n)
			}, func(t *testing.T, c *Cache, source *script) {
				c.Start()
				time.Sleep(time.Hour) // by now it is asked every few minutes
				for before := source.asked.Load(); source.asked.Load() == before; {
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(into)
				away.Store(false)
				c.Wake()
				time.Sleep(takes + 3*time.Second)
				if _, fetched, err := c.Get(t.Context()); err != nil || fetched {
					t.Errorf("the network is back: %v", err)
				}
			})
		})
	}
}
