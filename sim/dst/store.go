package dst

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// store is the disk that the log is on. What is appended waits until a write begins, which
// takes all that waits then; it is durable, and told, when that has ended.
type store struct {
	s       *sched
	dice    dice
	log     *eventlog.Memory // of the present life of the process, or the last
	of      *process
	writing int    // batches of the write under way; 0: none is
	asked   bool   // a write is about to begin
	writes  uint64 // so far
	opens   uint64

	// Faults.
	slow    time.Duration // added to each write, up to that
	failing bool          // the next write fails
	full    bool          // what does not restrict is refused
	rotten  float64       // the chance that a snapshot is gone, or of another age, after a start

	snapshots map[string]kept
	witness   Witness
	seen      uint64                       // the last record that the witness has seen
	far       func() (eventlog.Far, error) // where records are kept; nil: in memory
}

// kept are a snapshot and its predecessor.
type kept struct {
	last, former eventlog.Snapshot
	hasFormer    bool
}

// errIO is what a disk says that fails.
var errIO = errors.New("input/output error")

// writeTime is what an fdatasync takes.
const (
	writeTimeMin = 200 * time.Microsecond
	writeTimeMax = 4 * time.Millisecond
)

func newStore(s *sched, seed uint64) *store {
	return &store{s: s, dice: diceOf(seed, diceStore), snapshots: map[string]kept{}}
}

// open begins a life of a process on the disk.
func (d *store) open(of *process, o eventlog.Options) (*disk, error) {
	d.opens++
	d.of, d.writing, d.asked = of, 0, false
	if d.log == nil {
		o.Far = d.far
		d.log = eventlog.NewMemory(o)
	} else {
		log, err := d.log.Reopen(o)
		if err != nil {
			return nil, err
		}
		d.log = log
	}
	d.log.Hold()
	d.log.SetFull(d.full)
	d.rot()
	return &disk{store: d, Memory: d.log}, nil
}

// rot loses snapshots, or puts their predecessors in their place, by the dice.
func (d *store) rot() {
	if d.rotten == 0 {
		return
	}
	for key, k := range d.snapshots {
		switch dice := d.dice.name(key).key(d.opens); {
		case !dice.chance(d.rotten):
		case k.hasFormer && dice.key(1).chance(.5):
			d.snapshots[key] = kept{last: k.former}
		default:
			delete(d.snapshots, key)
		}
	}
}

// crash ends the log as it is: what is being written is there or not.
func (d *store) crash() {
	landed := 0
	if d.writing > 0 && d.dice.key(uint64(d.s.now)).chance(.5) {
		landed = d.writing
		d.s.trace.say("what was being written at the crash is on the disk")
	}
	d.log.CrashWriting(landed)
	d.show()
}

// show has the witness see what is on the disk.
func (d *store) show() {
	head := d.log.Head().Seq
	if head == d.seen {
		return
	}
	recs := make([]messages.Record, 0, head-d.seen)
	for rec, err := range d.all(d.seen + 1) {
		if err != nil {
			panic(err) // it is in memory
		}
		recs = append(recs, rec)
	}
	d.seen = head
	d.witness.Durable(recs)
}

// fill says whether the disk is full.
func (d *store) fill(full bool) {
	d.full = full
	if d.log != nil {
		d.log.SetFull(full)
	}
}

// arrived has a write begin, unless one is under way or about to.
func (d *store) arrived() {
	if d.asked || d.writing > 0 {
		return
	}
	d.asked = true
	d.s.soon(aCommit, d.of, d.begin)
}

func (d *store) begin() {
	d.asked = false
	d.writing = d.log.Waiting()
	if d.writing == 0 {
		return
	}
	d.writes++
	dice := d.dice.key(uint64(d.s.now))
	took := dice.key(1).between(writeTimeMin, writeTimeMax)
	if d.slow > 0 {
		took += dice.key(2).between(0, d.slow)
	}
	d.s.after(took, aCommit, d.of, d.durable)
}

func (d *store) durable() {
	if d.failing {
		d.failing = false
		landed := d.dice.key(uint64(d.s.now)).key(3).chance(.5)
		d.s.trace.say("a write fails; landed: %v", landed)
		d.log.Fail(errIO, landed)
	}
	n := d.writing
	d.log.CommitFirst(n)
	d.writing = 0
	d.show() // what landed although it failed
	if root := d.log.Head().Root; true {
		d.s.trace.bytes('L', root[:])
	}
	if d.log.Waiting() > 0 {
		d.arrived()
	}
}

// disk is the store as one process sees it. It implements actors.Log.
type disk struct {
	store *store
	*eventlog.Memory
}

var _ actors.Log = (*disk)(nil)

// Append implements actors.Log.
func (d *disk) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	d.Memory.Append(b, done)
	if d.store.log == d.Memory {
		d.store.arrived()
	}
}

// PutSnapshot implements actors.Log.
func (d *disk) PutSnapshot(key string, s eventlog.Snapshot) error {
	if d.store.log != d.Memory {
		return eventlog.ErrClosed
	}
	k, had := d.store.snapshots[key]
	d.store.snapshots[key] = kept{last: s, former: k.last, hasFormer: had}
	return nil
}

// Snapshot implements actors.Log.
func (d *disk) Snapshot(key string) (eventlog.Snapshot, bool, error) {
	k, ok := d.store.snapshots[key]
	if !ok || k.last.Seq > d.Head().Seq {
		return eventlog.Snapshot{}, false, nil
	}
	return k.last, true, nil
}

// all yields the records from from on.
func (d *store) all(from uint64) iter.Seq2[messages.Record, error] {
	return d.log.Scan(context.Background(), from, math.MaxUint64)
}
