package eventlog

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Store is the Log on disk: a journal that makes groups durable, and Badger fed
// behind it. Make one with Open. Three goroutines own its moving parts: the sequencer
// (append.go) builds groups, the writer (append.go) makes them durable and answers,
// the feeder (feed.go) moves them into Badger.
type Store struct {
	dir     string
	o       Options
	log     *slog.Logger
	streams *streams
	lsm     *lsm
	head    *headFile
	lock    []*os.File // held for the life of the process or until Close
	journal *journal   // owned by the writer
	space   *guard
	scratch string // working copy of a log open for inspection

	mu      sync.Mutex // guards what follows
	queue   []pending
	queued  int // batches accepted and not yet sequenced
	closing bool

	arrived chan struct{} // a batch is in the queue, or closing began
	groups  chan *group   // sequencer to writer
	written chan struct{} // closed when the writer has ended
	work    chan struct{} // there is something to feed
	hurry   atomic.Bool   // somebody waits for the feeder
	pulse   pulse         // the head moved, or the log stopped
	fed     pulse         // Badger moved, or space changed

	viewMu sync.RWMutex // guards the next
	view   view

	failure   atomic.Pointer[error]
	failOnce  sync.Once
	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
	running   sync.WaitGroup

	snapshots sync.Mutex   // one snapshot is written at a time
	readers   sync.RWMutex // read-held while Badger is read, write-held to close it

	stats counters
}

type counters struct {
	groups, events, repaired, unknown atomic.Uint64
	generation, journalUsed           atomic.Uint64
}

// view is what readers see: Badger up to stored, then the groups in memory, up to
// head. A copy of it is a consistent snapshot, for groups do not change and the slice
// is only appended to and cut at the front.
type view struct {
	head   Head
	stored Head     // durable in Badger
	recent []*group // durable in the journal, the last of them end at head
	bytes  int      // of recent's entries
}

var _ Log = (*Store)(nil)

func (s *Store) look() view {
	s.viewMu.RLock()
	defer s.viewMu.RUnlock()
	return s.view
}

// group returns the group of v that holds seq.
func (v *view) group(seq uint64) *group {
	lo, hi := 0, len(v.recent)
	for lo < hi {
		if mid := (lo + hi) / 2; v.recent[mid].last() < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(v.recent) && v.recent[lo].first <= seq {
		return v.recent[lo]
	}
	return nil
}

// fail makes the log refuse everything from now on and reports the failure.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	s.failOnce.Do(func() {
		s.failure.Store(&err)
		s.log.Error("event log failed, it answers nothing any more", "error", cause)
		s.pulse.wake()
		s.fed.wake()
		s.o.Fatal(err)
	})
	return *s.failure.Load()
}

// failed returns why the log refuses everything, nil while it works.
func (s *Store) failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// stopped implements followed.
func (s *Store) stopped() error {
	if err := s.failed(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

func (s *Store) grown() <-chan struct{} { return s.pulse.next() }

// Head implements Log.
func (s *Store) Head() Head { return s.look().head }

// Version implements Log.
func (s *Store) Version(stream messages.StreamID) (uint64, error) {
	if s.closed.Load() {
		return 0, ErrClosed
	}
	return s.streams.get(s.streams.key(stream)), nil
}

// Scan implements Log.
func (s *Store) Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		fail := func(next uint64, err error) { yield(messages.Record{}, fmt.Errorf("scan from %d: %w", next, err)) }
		end := min(to, s.Head().Seq)
		for next := max(from, 1); next <= end; {
			if err := ctx.Err(); err != nil {
				fail(next, err)
				return
			}
			recs, err := s.chunk(next, end)
			if err != nil {
				fail(next, err)
				return
			}
			for i := range recs {
				if !yield(recs[i], nil) {
					return
				}
			}
			next += uint64(len(recs))
		}
	}
}

// chunk returns some records from number from on, at least one, none after to.
func (s *Store) chunk(from, to uint64) ([]messages.Record, error) {
	v := s.look()
	if from > v.stored.Seq {
		g := v.group(from)
		if g == nil {
			return nil, corrupt(from, nil, "it is neither stored nor in memory")
		}
		return g.recs[from-g.first : min(to, g.last())-g.first+1], nil
	}
	release, err := s.reading()
	if err != nil {
		return nil, err
	}
	defer release()
	recs, err := s.lsm.scan(from, min(to, v.stored.Seq))
	if err == nil && len(recs) == 0 {
		err = corrupt(from, nil, "it is stored and cannot be found")
	}
	return recs, err
}

// Read implements Log.
func (s *Store) Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		fail := func(err error) { yield(messages.Record{}, fmt.Errorf("read %q: %w", stream, err)) }
		end := s.streams.get(s.streams.key(stream))
		for next := max(fromVersion, 1); next <= end; {
			if err := ctx.Err(); err != nil {
				fail(err)
				return
			}
			recs, err := s.versions(stream, next, 256)
			if err != nil {
				fail(err)
				return
			}
			for i := range recs {
				if recs[i].Version > end {
					return
				}
				if !yield(recs[i], nil) {
					return
				}
			}
			next += uint64(len(recs))
		}
	}
}

// versions returns some of stream's records from version from on, which exists, from
// wherever they are; at least one.
func (s *Store) versions(stream messages.StreamID, from uint64, most int) ([]messages.Record, error) {
	v := s.look() // before Badger is asked: what it does not have is in the view
	release, err := s.reading()
	if err != nil {
		return nil, err
	}
	defer release()
	recs, err := s.lsm.read(stream, from, most)
	if err != nil || len(recs) > 0 {
		return recs, err
	}
	k := s.streams.key(stream)
	for _, g := range v.recent {
		if last, ok := g.streams[k]; !ok || last < from {
			continue
		}
		for i := range g.recs {
			if r := &g.recs[i]; r.Stream == stream && r.Version >= from {
				recs = append(recs, *r)
			}
		}
		if len(recs) >= most {
			break
		}
	}
	if len(recs) == 0 || recs[0].Version != from {
		return nil, corrupt(0, nil, "version %d of %q is neither stored nor in memory", from, stream)
	}
	return recs, nil
}

// Follow implements Log.
func (s *Store) Follow(ctx context.Context, from uint64) iter.Seq2[messages.Record, error] {
	return follow(ctx, s, from)
}

// earlier implements sequencer.earlier: n durable records of stream, or fewer.
func (s *Store) earlier(stream messages.StreamID, from uint64, n int) ([]messages.Record, error) {
	var recs []messages.Record
	for rec, err := range s.Read(context.Background(), stream, from) {
		if err != nil {
			return nil, err
		}
		if recs = append(recs, rec); len(recs) == n {
			break
		}
	}
	return recs, nil
}

// Stat implements Log.
func (s *Store) Stat() Stat {
	v := s.look()
	st := Stat{
		Head: v.head, Stored: v.stored.Seq, Streams: uint64(s.streams.count()),
		Groups: s.stats.groups.Load(), Events: s.stats.events.Load(), Repaired: s.stats.repaired.Load(),
		Generation: s.stats.generation.Load(), JournalUsed: s.stats.journalUsed.Load(),
		Unknown: s.stats.unknown.Load(), Failed: s.failed(),
	}
	if s.head != nil {
		s.head.mu.Lock()
		st.JournalBytes = s.head.state.journalBytes
		s.head.mu.Unlock()
	}
	if s.space != nil {
		st.FreeBytes, st.Low, st.Ballast = s.space.status()
	}
	return st
}

// reading keeps Badger open until release is called.
func (s *Store) reading() (release func(), err error) {
	s.readers.RLock()
	if s.closed.Load() {
		s.readers.RUnlock()
		return nil, ErrClosed
	}
	return s.readers.RUnlock, nil
}

// signal puts a token in a channel of capacity 1.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
