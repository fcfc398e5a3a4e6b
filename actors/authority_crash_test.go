package actors_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// crashing is a log that stops after some appends to core/ca: the process is as good as
// dead, and whether the last one got through nobody was told.
type crashing struct {
	*actorstest.Log
	mu       sync.Mutex
	left     int
	swallows bool // the last append is durable, and its word is lost
}

func (c *crashing) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	c.mu.Lock()
	if b.Stream == messages.StreamCA {
		c.left--
	}
	left := c.left
	c.mu.Unlock()
	switch {
	case left >= 0:
		c.Log.Append(b, done)
	case left == -1 && c.swallows:
		c.Log.Append(b, func([]messages.Record, error) { done(nil, eventlog.ErrClosed) })
	default:
		done(nil, eventlog.ErrClosed)
	}
}

// TestAuthorityKilledAtEachStep: ordered, signed, issued, delivered, or anywhere before and
// between. After a restart exactly one valid certificate is delivered, no serial twice, and
// nothing left before it was on record.
func TestAuthorityKilledAtEachStep(t *testing.T) {
	for _, own := range []bool{true, false} {
		for _, swallows := range []bool{false, true} {
			for n := range 12 {
				t.Run(fmt.Sprintf("own key %t, word lost %t, after %d events", own, swallows, n), func(t *testing.T) {
					killedAfter(t, n, own, swallows)
				})
			}
		}
	}
}

func killedAfter(t *testing.T, n int, own, swallows bool) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store := keys.NewSeeded([32]byte{byte(n)})
	clock := actorstest.NewClock(noonUTC)
	s := newSubscriber(t)
	if !own {
		s.key = nil
	}
	live := func(c *core) (failed bool) {
		a, err := actors.StartAuthority(t.Context(), c.config)
		if err != nil {
			return true
		}
		defer a.Close()
		for _, step := range []func() error{
			func() error { return a.Hosts(t.Context(), "file", []string{"gate.example"}) },
			func() error { _, err := a.Subscribe(t.Context(), s.want("b1", ca.Server)); return err },
			func() error { return a.Rotate(t.Context(), "an operator's wish") },
		} {
			if err := step(); err != nil {
				return true
			}
		}
		return false
	}
	first := newCoreAt(t, clock, memory, store, ca.TypeECDSAP256)
	first.limit(t, &crashing{Log: first.log, left: n, swallows: swallows})
	failed := live(first)
	before := issued(t, memory)
	for _, d := range s.got {
		if !slices.Contains(before, d.Serial) {
			t.Errorf("certificate %s left and is not on record", d.Serial)
		}
	}
	const whole = 1 + 1 + 3 + 3 // the authority, the addresses, two certificates
	if wantFailed := n < whole-1; failed != wantFailed && n != whole-1 {
		t.Fatalf("failed %t, want %t: the steps are other than this test knows", failed, wantFailed)
	}

	s.got = nil
	second := newCoreAt(t, clock, memory, store, ca.TypeECDSAP256)
	a, err := second.start(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Hosts(t.Context(), "file", []string{"gate.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Subscribe(t.Context(), s.want("b1", ca.Server)); err != nil {
		t.Fatal(err)
	}
	if len(s.got) != 1 {
		t.Fatalf("%d certificates were delivered, want one", len(s.got))
	}
	d, leaf := s.last(t)
	if err := verify(leaf, a.PEM(), clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Error(err)
	}
	all := issued(t, memory)
	if all[len(all)-1] != d.Serial {
		t.Errorf("the certificate is not the last on record")
	}
	if list := a.Describe().Certificates; len(list) != 1 || list[0].Serial != d.Serial || !list[0].Delivered {
		t.Errorf("described as %+v", list)
	}
	if created := strings.Count(second.kinds(t), "AuthorityCreated"); created != 1 {
		t.Errorf("%d authorities, want one", created)
	}
	// What was issued for a key that is still there is used, and not made again.
	if n := len(all) - len(before); own && len(before) > 0 && n != 0 || n > 1 {
		t.Errorf("%d certificates were issued before, %d after", len(before), n)
	}
}

// limit has the core write to another log.
func (c *core) limit(t *testing.T, log actors.Log) {
	t.Helper()
	sys, err := actors.New(actors.Config{Log: log, Views: c.views, Cloud: actorstest.NewCloud(), Clock: c.trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	c.sys, c.config.System = sys, sys
}

// lossy is a log whose word about one append is lost: it is durable, and said not to be.
type lossy struct {
	*actorstest.Log
	mu   sync.Mutex
	lose int // after so many more to core/ca; below 0: none
}

func (l *lossy) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	l.mu.Lock()
	lost := false
	if b.Stream == messages.StreamCA {
		lost = l.lose == 0
		l.lose--
	}
	l.mu.Unlock()
	if lost {
		l.Log.Append(b, func([]messages.Record, error) { done(nil, eventlog.ErrBusy) })
		return
	}
	l.Log.Append(b, done)
}

// TestWordOfTheLogIsLost: the authority goes on in the same process, with what is on record.
func TestWordOfTheLogIsLost(t *testing.T) {
	for _, change := range []string{"rotation", "another type"} {
		for n := range 6 {
			t.Run(fmt.Sprintf("%s, event %d", change, n), func(t *testing.T) {
				memory := eventlog.NewMemory(actorstest.Options(nil))
				c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
				log := &lossy{Log: c.log, lose: -1}
				c.limit(t, log)
				b := c.mustStart(t)
				log.mu.Lock()
				log.lose = n
				log.mu.Unlock()
				if change == "rotation" {
					_ = b.authority.Rotate(t.Context(), "test") // may fail: it is done later
				} else {
					c.settings.Type = ca.TypeRSA2048
				}
				for range 9 * 24 {
					c.clock.Advance(time.Hour)
				}
				if err := verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
					t.Error(err)
				}
				issued(t, memory)
				status := b.authority.Describe()
				if last := status.Certificates[0]; !last.Delivered || last.Serial != fmt.Sprintf("%040x", b.Leaf().SerialNumber) {
					t.Errorf("certificate %+v", last)
				}
				newest := status.Authorities[len(status.Authorities)-1]
				if wanted := c.settings.Type; newest.Type != wanted || !newest.Issues {
					t.Errorf("authorities %+v", status.Authorities)
				}
			})
		}
	}
}
