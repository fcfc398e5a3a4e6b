package cloudsync

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// site is a network that a test takes up and down, seen by a monitor in a bubble.
type site struct {
	mu      sync.Mutex
	up      bool
	probes  int
	changes []bool
}

func (s *site) set(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = up
}

func (s *site) probe(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes++
	if !s.up {
		return errors.New("unreachable")
	}
	return nil
}

func (s *site) told(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, up)
}

// seen returns the probes and changes since it was last called.
func (s *site) seen() (probes int, changes []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	probes, changes = s.probes, s.changes
	s.probes, s.changes = 0, nil
	return probes, changes
}

func (s *site) want(t *testing.T, probes int, changes ...bool) {
	t.Helper()
	synctest.Wait()
	if p, c := s.seen(); p != probes || !slices.Equal(c, changes) {
		t.Errorf("%d probes, changes %v, want %d and %v", p, c, probes, changes)
	}
}

func watch(t *testing.T, s *site) *Monitor {
	t.Helper()
	m, err := NewMonitor(MonitorConfig{
		Probe:     s.probe,
		AfterFunc: func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
		Jitter:    func() float64 { return 0.999999 },
		OnChange:  s.told,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMonitorProbesAtOnceAndWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{}
		m := watch(t, s)
		defer m.Close()
		if err := m.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.want(t, 1)
		// Down: 1, 2, 4, 8, 16, 30, 30 … seconds apart.
		for _, wait := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			time.Sleep(wait*time.Second - time.Millisecond)
			s.want(t, 0)
			time.Sleep(time.Millisecond)
			s.want(t, 1)
		}
		s.set(true)
		time.Sleep(30 * time.Second)
		s.want(t, 1, true)
		if !m.NetworkUp() {
			t.Error("the probe succeeded and the network is down")
		}
		// Up: every 30 s; lost again: from 1 s.
		time.Sleep(90 * time.Second)
		s.want(t, 3)
		s.set(false)
		time.Sleep(30 * time.Second)
		s.want(t, 1, false)
		time.Sleep(time.Second)
		s.want(t, 1)
	})
}

func TestAFailedQuestionHastensAProbeAndASuccessIsProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{up: true}
		m := watch(t, s)
		defer m.Close()
		s.want(t, 1, true)

		m.Observe(false) // one slow answer while all is well
		s.want(t, 1)
		if !m.NetworkUp() {
			t.Error("one failed question took the network down")
		}
		s.set(false)
		m.Observe(false)
		s.want(t, 1, false)
		m.Observe(false) // known already
		s.want(t, 0)
		m.Observe(true)
		s.want(t, 0, true)
		time.Sleep(30 * time.Second)
		s.want(t, 1, false)
	})
}

func TestJitterKeepsWaitsWithinHalfAndWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, jitter := range []float64{0, 0.5, 0.999} {
			waits := make(chan time.Duration, 1)
			m, err := NewMonitor(MonitorConfig{
				Probe:      func(context.Context) error { return nil },
				AfterFunc:  func(d time.Duration, _ func()) func() bool { waits <- d; return func() bool { return true } },
				Jitter:     func() float64 { return jitter },
				UpInterval: 10 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			want := 5*time.Second + time.Duration(jitter*float64(5*time.Second))
			if got := <-waits; got != want {
				t.Errorf("jitter %v: waits %v, want %v", jitter, got, want)
			}
			m.Close()
		}
	})
}

func TestCloseEndsAProbeUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []bool
		m, err := NewMonitor(MonitorConfig{
			Probe:     func(ctx context.Context) error { <-ctx.Done(); return nil },
			AfterFunc: func(time.Duration, func()) func() bool { return func() bool { return true } },
			Jitter:    func() float64 { return 0 },
			OnChange:  func(up bool) { told = append(told, up) },
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Settle without a result: %v", err)
		}
		m.Close()
		if m.NetworkUp() || len(told) > 0 {
			t.Errorf("a probe that was broken off counted: up %v, told %v", m.NetworkUp(), told)
		}
	})
	if _, err := NewMonitor(MonitorConfig{}); err == nil {
		t.Error("a monitor without anything was made")
	}
}
