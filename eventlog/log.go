package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Class tells the free-space guard what a batch is for. When the disk is nearly
// full, Records and Grants are refused with ErrFull and Restricts still go in:
// deny early, allow late (design section 1).
type Class uint8

// The classes, from the one that is given up first.
const (
	Records   Class = iota // notes for auditors
	Grants                 // widens what a device may do
	Restricts              // narrows it: revocations, withdrawals, closed sessions
)

// Draft is an event before the log has given it a place.
type Draft struct {
	ID       messages.EventID
	Kind     messages.Kind
	Schema   uint8
	Critical bool
	Body     []byte // the log's after Append: the caller must not change it
}

// Batch is what one decision adds to one stream: all of it or nothing.
type Batch struct {
	Stream   messages.StreamID
	Expected uint64 // version of the stream's last record; 0 for a new stream
	At       messages.Instant
	Cause    messages.Cause
	Class    Class
	Drafts   []Draft // 1 to BatchDraftsMax
}

// Limits of a batch and of a combined commit. A group is closed when the next batch
// would pass either bound, so a batch within both always fits.
const (
	BatchDraftsMax = 1024
	GroupEventsMax = 4096
	GroupBytesMax  = 1 << 20
)

// Log is the append-only event log of one core. All methods are safe to call at the
// same time. The two implementations, Store on disk and Memory for tests and the
// simulator, pass the same suite (eventlogtest).
type Log interface {
	// Append puts b in the queue and returns. done is called exactly once: with the
	// records as they are in the log once they are durable, or with an error that
	// says none of them is, except ErrFailed, which says nobody knows.
	//
	// Calls of done come one at a time, in the order of the log, after
	// Options.Applied saw the group. They come from the appender and must not block
	// it: hand the work on. A batch refused at the door (ErrClosed, ErrFailed,
	// ErrBusy, ErrBatch) has its done called before Append returns, by the caller's
	// own goroutine.
	//
	// A repeated append is recognised: when the stream already holds b's events, by
	// their ids, right after version Expected, done gets those records and no error.
	// Otherwise a wrong Expected is ErrConflict.
	Append(b Batch, done func(recs []messages.Record, err error))

	// Read yields stream's records from version fromVersion (0 and 1 are the same)
	// to the last that is durable when Read starts.
	Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error]

	// Scan yields the records with sequence numbers from..to, both included (from 0
	// means 1), and stops at the head as it is when Scan starts. Pass math.MaxUint64
	// as to for everything.
	Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error]

	// Follow yields the records from sequence number from on, first those that are
	// there, then each as it becomes durable: no gap, no repeat. It ends with ctx's
	// error, with ErrClosed, or with whatever stopped the log. A slow reader costs no
	// memory: it reads from disk until it has caught up.
	Follow(ctx context.Context, from uint64) iter.Seq2[messages.Record, error]

	// Head returns the size of the durable log and the root of its Merkle tree.
	Head() Head

	// Version returns the version of stream's last durable record, 0 if it has none.
	Version(stream messages.StreamID) (uint64, error)

	// PutSnapshot keeps s under key in place of what was there. Losing a snapshot
	// loses nothing but time, so it is not durable on return. ErrFull when space is
	// short; a snapshot ahead of the log is refused.
	PutSnapshot(key string, s Snapshot) error

	// Snapshot returns what PutSnapshot kept under key. A snapshot that is missing,
	// damaged or ahead of the log is reported as not there: replay instead.
	Snapshot(key string) (s Snapshot, found bool, err error)

	// Checkpoint returns a C2SP checkpoint of the head: a signed note where
	// Options.Signer is set, else the bare text. The events it covers are durable.
	Checkpoint(ctx context.Context) ([]byte, error)

	// Proof proves that record seq is in the tree of the first size records; check it
	// with tlog.CheckRecord (whose record numbers start at 0: pass seq-1).
	Proof(seq, size uint64) (tlog.RecordProof, error)

	// ConsistencyProof proves that the tree of the first old records is a prefix of
	// the tree of the first size records; check it with tlog.CheckTree.
	ConsistencyProof(old, size uint64) (tlog.TreeProof, error)

	// Verify reads everything there is and recomputes it: bytes, tree, streams,
	// index, checkpoints. progress, which may be nil, is called now and then.
	Verify(ctx context.Context, progress func(done, total uint64)) (Report, error)

	// Replay is Verify that hands on what it has checked, in order and to the end of the
	// log: a state that is folded of it may be used only if the error is nil. visit is
	// called from the caller's goroutine; the records, their bodies included, are its
	// until it returns. An error of visit ends the replay.
	Replay(ctx context.Context, visit func([]messages.Record) error) (Report, error)

	// Stat returns counters for people and metrics.
	Stat() Stat

	// Close waits for the batches already accepted, makes the log clean and releases
	// it. Calling it again is harmless.
	Close() error
}

// Head is the end of the log.
type Head struct {
	Seq  uint64    // sequence number of the last durable record, 0 when empty
	Root tlog.Hash // RFC 6962 root of the tree over records 1..Seq
}

// Snapshot is a folded state as of a sequence number. Version is the fold's own
// format; whoever reads a snapshot of another version must ignore it.
type Snapshot struct {
	Version uint32
	Seq     uint64 // the last record folded in
	Data    []byte // at most SnapshotBytesMax

	// Root is that of the tree of the first Seq records, in a snapshot that was read from
	// disk; zero in others. What is put need not have it.
	Root tlog.Hash
}

// Bounds of a snapshot.
const (
	SnapshotBytesMax    = 1 << 30
	SnapshotKeyBytesMax = 512
)

// Report is what Verify found in a good log.
type Report struct {
	Head        Head
	Streams     uint64
	Checkpoints uint64 // stored checkpoints whose root matched (and whose signature did, if a verifier was given)
	Unknown     uint64 // records of kinds this version does not know; kept and hashed
}

// Stat describes the log at one moment.
type Stat struct {
	Head         Head
	Streams      uint64
	Stored       uint64 // records in the LSM tree; the rest is in the journal and in memory
	Groups       uint64 // combined commits since open
	Events       uint64 // events appended since open
	Repaired     uint64 // records brought back from the journal at open
	Generation   uint64 // of the current journal file
	JournalUsed  uint64 // bytes written in the current journal file
	JournalBytes uint64 // size of one journal file
	FreeBytes    uint64 // of the file system, as last seen
	Low          bool   // space is short: Records and Grants are refused
	Ballast      bool   // the ballast file is in place
	Unknown      uint64 // records of unknown, not critical kinds seen since open
	Failed       error  // why the log refuses everything, nil while it works
}

// Errors that callers branch on.
var (
	ErrConflict = errors.New("stream has another version than expected")
	ErrCorrupt  = errors.New("event log is corrupt")
	ErrNewer    = errors.New("event log was written by a newer version")
	ErrInUse    = errors.New("event log is in use by another process")
	ErrFull     = errors.New("no space for this event")
	ErrClosed   = errors.New("event log is closed")
	ErrFailed   = errors.New("event log failed: the outcome of the append is unknown")
	ErrBusy     = errors.New("event log has too many appends waiting")
	ErrBatch    = errors.New("malformed batch")
	ErrReadOnly = errors.New("event log is open for inspection only")
	ErrRange    = errors.New("sequence number outside the log")
)

// A CorruptError says where the log stops being what was acknowledged. It matches
// ErrCorrupt.
type CorruptError struct {
	Seq    uint64 // the first record that is missing or wrong; 0 when that cannot be told
	Detail string // what was found, and where
	Err    error  // the cause, if another error told
}

// Error says what was found.
func (e *CorruptError) Error() string {
	s := fmt.Sprintf("%v at record %d: %s", ErrCorrupt, e.Seq, e.Detail)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes every CorruptError match ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(seq uint64, cause error, format string, args ...any) *CorruptError {
	return &CorruptError{Seq: seq, Detail: fmt.Sprintf(format, args...), Err: cause}
}
