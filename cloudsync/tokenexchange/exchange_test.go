package tokenexchange

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Every hand-out is on record before it happens, the first of each set to each consumer by
// itself; without a record there is none. No record or log has a secret.
func TestHandOutsAreOnRecord(t *testing.T) {
	s := newSite(t, nil)
	s.failing = errors.New("the log is full")
	if status, _, body := s.get(s.token("app")); status != 503 || !strings.Contains(body, "NotRecorded") || strings.Contains(body, "needle") {
		t.Errorf("without a record: %d %s", status, body)
	}
	s.failing = nil
	for range 3 {
		s.get(s.token("app"))
	}
	s.get(s.token("other"))
	if len(s.recorded) != 2 {
		t.Fatalf("%d records", len(s.recorded))
	}
	e := s.recorded[0]
	if e.Consumer != "app" || e.RoleAlias != "alias" || e.AccessKeyId != "ASIANEEDLE1" || e.ExpiresMs != time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC).UnixMilli() || e.Source != "cache" {
		t.Errorf("recorded %v", e)
	}
	for _, taken := range s.cfg.Exchange.Taken() {
		if want := map[string]uint64{"app": 3, "other": 1}[taken.Consumer]; taken.Count != want || taken.AccessKeyID != "ASIANEEDLE1" {
			t.Errorf("account: %+v", taken)
		}
	}
	if printed := fmt.Sprintf("%v %+v %s %v", s.recorded, s.cfg.Exchange.Taken(), s.log.String(), s.denied); strings.Contains(printed, "needle") || strings.Contains(printed, s.token("app")) {
		t.Errorf("a secret in %s", printed)
	}
}

// A set that is another each time does not fill the log: one record a minute, the rest counted.
func TestRecordsOfOneConsumerAreBounded(t *testing.T) {
	clock := &hand{}
	cache, err := NewCache(CacheConfig{Source: short{new(int)}, Clock: clock, Chance: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	x := NewExchange(cache, clock, "alias")
	if _, err := x.HandOut(t.Context(), "app"); err == nil {
		t.Error("handed out, and nobody records it")
	}
	var recorded []*messages.CredentialsServed
	x.Record(func(_ context.Context, e *messages.CredentialsServed) error {
		recorded = append(recorded, e)
		return nil
	})
	for range 600 {
		if _, err := x.HandOut(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		clock.pass(time.Second)
	}
	if len(recorded) != 10 || recorded[0].Repeats != 0 || recorded[1].Repeats != 59 || recorded[1].Source != "cloud" {
		t.Errorf("%d records: %v", len(recorded), recorded)
	}
}

// hand is a clock that moves by hand, without timers.
type hand struct {
	mu  sync.Mutex
	now time.Duration
}

func (h *hand) pass(d time.Duration) { h.mu.Lock(); h.now += d; h.mu.Unlock() }

func (h *hand) Boot() time.Duration { h.mu.Lock(); defer h.mu.Unlock(); return h.now + time.Hour }

func (*hand) AfterFunc(time.Duration, func()) func() bool { return func() bool { return true } }

// short is a Source of sets that are nearly over.
type short struct{ n *int }

func (s short) Fetch(context.Context) (Fetched, *Failure) {
	*s.n++
	return set(fmt.Sprint("short-", *s.n), time.Minute), nil
}

func (short) Close() {}
