package eventlog_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// BenchmarkRaw64 is the reference of design section 13: the same bytes from the same
// 64 writers, grouped by one goroutine, written to a preallocated file with one
// fdatasync a group, and nothing else.
func BenchmarkRaw64(b *testing.B) {
	const size = 32 << 20
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	queue := make(chan rawItem, 4096)
	var groups atomic.Int64
	go rawWriter(f, size, queue, &groups)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			ch := make(chan error, 1)
			done := func(err error) { ch <- err }
			for v := uint64(0); next.Add(1) <= int64(b.N); v++ {
				d := eventlogtest.Event(v, 120)
				rec := messages.Record{Seq: v, Version: v, Stream: eventlogtest.Device(1), Kind: d.Kind, ID: d.ID, Schema: 1, Body: d.Body}
				bytes, err := messages.AppendRecord(nil, &rec)
				if err != nil {
					b.Error(err)
					return
				}
				queue <- rawItem{bytes, done}
				if err := <-ch; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	close(queue)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/float64(groups.Load()), "events/group")
}

type rawItem struct {
	bytes []byte
	done  func(error)
}

// rawWriter writes what waits with one write and one fdatasync.
func rawWriter(f *os.File, size int, queue <-chan rawItem, groups *atomic.Int64) {
	var buf []byte
	var waiting []rawItem
	off := 0
	for it := range queue {
		buf, waiting = append(buf[:0], it.bytes...), append(waiting[:0], it)
		for more := true; more && len(buf) < 1<<20; {
			select {
			case it := <-queue:
				buf, waiting = append(buf, it.bytes...), append(waiting, it)
			default:
				more = false
			}
		}
		if off+len(buf) > size {
			off = 0
		}
		_, err := f.WriteAt(buf, int64(off))
		if err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
		off += (len(buf) + 511) / 512 * 512
		groups.Add(1)
		for _, w := range waiting {
			w.done(err)
		}
	}
}

// BenchmarkBadger64 is Badger alone: 64 writers, a synced transaction each.
func BenchmarkBadger64(b *testing.B) {
	db, err := badger.Open(badger.DefaultOptions(b.TempDir()).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				d := eventlogtest.Event(uint64(n), 120)
				rec := messages.Record{Seq: uint64(n), Version: uint64(n), Stream: eventlogtest.Device(1), Kind: d.Kind, ID: d.ID, Schema: 1, Body: d.Body}
				bytes, err := messages.AppendRecord(nil, &rec)
				if err == nil {
					err = db.Update(func(txn *badger.Txn) error {
						return txn.Set(binary.BigEndian.AppendUint64([]byte{'e'}, uint64(n)), bytes)
					})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
