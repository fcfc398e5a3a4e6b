package eventlog_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// BenchmarkAppend64 appends one event at a time from 64 writers that wait for each:
// durable, hashed, indexed, fed to Badger. ns/op is per event.
func BenchmarkAppend64(b *testing.B) {
	l, err := eventlog.Open(b.TempDir(), eventlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range 64 {
		wg.Go(func() {
			stream := eventlogtest.Device(w)
			version := uint64(0)
			ch := make(chan error, 1)
			done := func(_ []messages.Record, err error) { ch <- err }
			for next.Add(1) <= int64(b.N) {
				l.Append(eventlog.Batch{Stream: stream, Expected: version, Drafts: []eventlog.Draft{eventlogtest.Event(version, 120)}}, done)
				if err := <-ch; err != nil {
					b.Error(err)
					return
				}
				version++
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	st := l.Stat()
	b.ReportMetric(float64(st.Events)/float64(st.Groups), "events/group")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReplay reads the whole log, checksums verified, records parsed.
func BenchmarkReplay(b *testing.B) {
	l, err := eventlog.Open(b.TempDir(), eventlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const events = 100_000
	var wg sync.WaitGroup
	for i := range events / 50 {
		batch := eventlog.Batch{Stream: eventlogtest.Device(i)}
		for k := range 50 {
			batch.Drafts = append(batch.Drafts, eventlogtest.Event(uint64(k), 120))
		}
		wg.Add(1)
		l.Append(batch, func(_ []messages.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	for b.Loop() {
		n := 0
		for _, err := range l.Scan(context.Background(), 1, math.MaxUint64) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != events {
			b.Fatalf("%d events, want %d", n, events)
		}
	}
	b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpen opens a clean log of 200,000 events in 50,000 streams.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	const streams, each = 50_000, 4
	var wg sync.WaitGroup
	for i := range streams {
		batch := eventlog.Batch{Stream: eventlogtest.Device(i)}
		for k := range each {
			batch.Drafts = append(batch.Drafts, eventlogtest.Event(uint64(i*each+k), 120))
		}
		wg.Add(1)
		l.Append(batch, func(_ []messages.Record, err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := eventlog.Open(dir, eventlog.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if got := l.Head().Seq; got != streams*each {
			b.Fatalf("%d events", got)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkReadStream reads one of 50,000 streams of four events, as an entity does that is
// woken: the events lie in four blocks, and more than one entry of the index leads to them.
func BenchmarkReadStream(b *testing.B) {
	l, err := eventlog.Open(b.TempDir(), eventlog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const streams, each = 50_000, 4
	for version := range uint64(each) {
		var wg sync.WaitGroup
		for i := range streams {
			wg.Add(1)
			drafts := []eventlog.Draft{eventlogtest.Event(uint64(i), 120)}
			l.Append(eventlog.Batch{Stream: eventlogtest.Device(i), Expected: version, Drafts: drafts}, func(_ []messages.Record, err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			})
		}
		wg.Wait()
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		n := 0
		for _, err := range l.Read(context.Background(), eventlogtest.Device(dice.IntN(streams)), 1) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != each {
			b.Fatalf("%d events, want %d", n, each)
		}
	}
}
