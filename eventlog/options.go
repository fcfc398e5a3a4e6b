package eventlog

import (
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Options set up a log. The zero value works: unsigned checkpoints, production
// sizes, and a panic on a failed append.
type Options struct {
	// Applied is called once per committed group, in order, from the appender,
	// before any done of that group: the place to fold records into read models. It
	// must not block and must not call Append. Nil: nobody wants to know.
	Applied func([]messages.Record)

	// KnownKind says whether this version can fold records of kind in schema. A
	// critical record it does not know refuses the open with ErrNewer. Nil: every
	// kind is known.
	KnownKind func(kind messages.Kind, schema uint8) bool

	// Signer signs checkpoints; an Ed25519 note signer whose name is Origin. Nil:
	// checkpoints are bare text.
	Signer note.Signer

	// Verifier checks the checkpoints that are found at open and in Verify. Nil with
	// a signer set means signatures are not checked, only roots.
	Verifier note.Verifier

	// Origin is the first line of a checkpoint. Default: the signer's or verifier's
	// name, else "gatehouse.local/log", and any origin is accepted of what is found.
	Origin string

	// Now tells the wall time, for the age of the last checkpoint only. Default: the
	// system clock.
	Now func() time.Time

	// Fatal is called once when an append failed: its outcome is unknown, the log
	// refuses everything from then on, and the process must end (exit code 21 in
	// production). Default: panic.
	Fatal func(error)

	// Logger gets what an operator can act upon. Default: discard.
	Logger *slog.Logger

	// JournalBytes is the size of each of the two journal files, fixed when the log
	// is created. At least 64 KiB; below 4 MiB the largest group shrinks with it.
	// Default 32 MiB.
	JournalBytes int64

	// MemTableBytes is Badger's memtable size, at least 6 MiB. Default 8 MiB.
	MemTableBytes int64

	// UnindexedMax is how many of the last stored records at most are not in the index: an
	// open reads them, memory leads to them. At least 1. Default 32,768.
	UnindexedMax int

	// BallastBytes is kept aside in a file, to be released when the disk is full so
	// that Badger can finish what it does. Negative: none. Default 40 MiB, but at
	// most a quarter of what is free when the log is created.
	BallastBytes int64

	// FreeSpace tells how many bytes the file system of dir has left for us.
	// Default: statfs.
	FreeSpace func(dir string) (uint64, error)

	// QueueMax bounds the batches that wait; more is ErrBusy. Default 65,536.
	QueueMax int

	// Far gives Memory room outside of memory for its records and their hashes; it is called
	// twice. Nil: they are kept in memory. Open has no use for it.
	Far func() (Far, error)

	// ReadOnly opens for inspection: Append is refused and no byte of the directory
	// changes, clean or not.
	ReadOnly bool

	// ScratchDir is where opening puts its working copy when ReadOnly is set.
	// Default: beside the log, else the system's temporary directory.
	ScratchDir string

	// Step is told of the steps of an append, from the goroutine that takes them, with
	// the records it is about, or nil: the crash campaign (sim/crash) kills the process
	// there, and that is all it is for. Nil in production, where nothing outside of the
	// process can set it.
	Step func(step Step, records []messages.Record)

	anyOrigin bool // nobody said whose log this is: take it as it is
}

// originWanted is the origin that checkpoints found must have, "" for any.
func (o *Options) originWanted() string {
	if o.anyOrigin {
		return ""
	}
	return o.Origin
}

// Defaults and bounds of Options.
const (
	journalBytesDefault  = 32 << 20
	journalBytesMin      = 64 << 10
	journalBytesMax      = 1 << 30
	memTableBytesDefault = 8 << 20
	memTableBytesMin     = 6 << 20 // a transaction may use 15 %: the largest record must fit
	memTableBytesMax     = 64 << 20
	ballastBytesDefault  = 5 * memTableBytesDefault // what an open after a crash may need, see doc.go
	queueMaxDefault      = 65536
	unindexedMaxDefault  = 1 << 15
	originDefault        = "gatehouse.local/log"
)

func (o Options) withDefaults() (Options, error) {
	if o.Applied == nil {
		o.Applied = func([]messages.Record) {}
	}
	if o.Step == nil {
		o.Step = func(Step, []messages.Record) {}
	}
	if o.KnownKind == nil {
		o.KnownKind = func(messages.Kind, uint8) bool { return true }
	}
	if o.Origin == "" {
		switch {
		case o.Signer != nil:
			o.Origin = o.Signer.Name()
		case o.Verifier != nil:
			o.Origin = o.Verifier.Name()
		default:
			o.Origin, o.anyOrigin = originDefault, true
		}
	}
	if o.Now == nil {
		o.Now = systemNow
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FreeSpace == nil {
		o.FreeSpace = freeSpace
	}
	if o.QueueMax == 0 {
		o.QueueMax = queueMaxDefault
	}
	if o.UnindexedMax <= 0 {
		o.UnindexedMax = unindexedMaxDefault
	}
	if o.JournalBytes == 0 {
		o.JournalBytes = journalBytesDefault
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = memTableBytesDefault
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = ballastBytesDefault
	}
	if o.JournalBytes < journalBytesMin || o.JournalBytes > journalBytesMax {
		return o, fmt.Errorf("journal of %d bytes: want %d to %d", o.JournalBytes, journalBytesMin, journalBytesMax)
	}
	if o.MemTableBytes < memTableBytesMin || o.MemTableBytes > memTableBytesMax {
		return o, fmt.Errorf("memtable of %d bytes: want %d to %d", o.MemTableBytes, memTableBytesMin, memTableBytesMax)
	}
	return o, nil
}
