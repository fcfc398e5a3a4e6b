package client_test

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func cachedSession(b testing.TB) *client.Session {
	desk := clienttest.Start(b, broker)
	der := clienttest.Certificate(b, thing).Certificate[0]
	desk.Trust(thing, der)
	desk.SetPolicy(connect, publish, subscribe)
	c, err := client.Connect(b.Context(), client.Config{Broker: broker, URL: desk.URL(), MaxStale: authapi.MaxStale})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	if err := c.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	s, err := c.Authenticate(b.Context(), thing, der)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Await(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s
}

func TestCachedDecisionDoesNotAllocate(t *testing.T) {
	s := cachedSession(t)
	allocs := testing.AllocsPerRun(1000, func() {
		if s.Publish(mine) != client.Allowed || s.Publish(theirs) != client.Denied || s.Subscribe("sensors/sensor-1/#") != client.Allowed {
			t.Fatal("wrong decision")
		}
	})
	// Heartbeats are taken in meanwhile, which is counted too but not once a run. Under
	// the race detector sync.Pool forgets on purpose.
	if allocs >= 1 && !raceDetector {
		t.Errorf("%v allocations for three decisions, want 0", allocs)
	}
}

func BenchmarkPublishCached(b *testing.B) {
	s := cachedSession(b)
	b.ReportAllocs()
	for b.Loop() {
		if s.Publish(mine) != client.Allowed {
			b.Fatal("not allowed")
		}
	}
}

func BenchmarkPublishCachedParallel(b *testing.B) {
	s := cachedSession(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if s.Publish(mine) != client.Allowed {
				b.Error("not allowed")
				return
			}
		}
	})
}
