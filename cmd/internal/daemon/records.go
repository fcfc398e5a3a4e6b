package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// RecordsRequest asks for a page of the log.
type RecordsRequest struct {
	From   uint64            `json:"from,omitempty"`
	Limit  int               `json:"limit,omitempty"`
	Stream messages.StreamID `json:"stream,omitempty"`
}

// Records is a page of the log; Next is where the following page begins, 0 at the end.
type Records struct {
	Records []json.RawMessage `json:"records"`
	Next    uint64            `json:"next,omitempty"`
	Corrupt string            `json:"corrupt,omitempty"` // what is wrong where the page ends
}

// VerifyRequest asks for a verification of the log.
type VerifyRequest struct {
	// Checkpoint is one that somebody kept elsewhere, which the log must extend. Empty: none.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// VerifyReport is the outcome of a verification of the log.
type VerifyReport struct {
	Events uint64 `json:"events"`
	Root   string `json:"root"`
	// Extends is how many events the checkpoint counts that the log was held against: it has
	// these, and they are the same.
	Extends *uint64 `json:"extends,omitempty"`
	Corrupt string  `json:"corrupt,omitempty"` // what is wrong; then there is no more to say
}

// CheckpointReport is the log's checkpoint as of now: a C2SP signed note with the number of
// events and the root of their tree, to be kept elsewhere.
type CheckpointReport struct {
	Checkpoint string `json:"checkpoint"`
}

// LogStats says what a log consists of.
type LogStats struct {
	Events  uint64            `json:"events"`
	Root    string            `json:"root"`
	Streams uint64            `json:"streams"`
	Kinds   map[string]uint64 `json:"kinds"`
	Bytes   uint64            `json:"bytes"`             // of the records, as they are hashed
	Corrupt string            `json:"corrupt,omitempty"` // what is wrong where the counting ended
}

// Limits of a page of records: an answer must fit a NATS message of 64 KiB.
const (
	recordsPage   = 50
	recordsBudget = 40 << 10
)

func (d *Daemon) records(ctx context.Context, q RecordsRequest) (Records, error) {
	return ReadRecords(ctx, d.log, q)
}

// ReadRecords makes a page of the log, in the form `gatehouse log cat` prints.
func ReadRecords(ctx context.Context, log eventlog.Log, q RecordsRequest) (Records, error) {
	limit := q.Limit
	if limit <= 0 || limit > recordsPage {
		limit = recordsPage
	}
	page, bytes := Records{Records: []json.RawMessage{}}, 0
	next := log.Scan(ctx, max(q.From, 1), math.MaxUint64)
	if q.Stream != "" {
		next = log.Read(ctx, q.Stream, 1)
	}
	for rec, err := range next {
		if err != nil {
			page.Corrupt, err = corruptText(err)
			return page, err
		}
		if rec.Seq < q.From {
			continue
		}
		line, err := pageLine(&rec)
		if err != nil {
			return Records{}, err
		}
		if len(page.Records) == limit || len(page.Records) > 0 && bytes+len(line) > recordsBudget {
			page.Next = rec.Seq
			break
		}
		bytes += len(line)
		page.Records = append(page.Records, line)
	}
	return page, nil
}

// pageLine renders a record; of one that is too long for a page, such as a large policy,
// the envelope only.
func pageLine(rec *messages.Record) ([]byte, error) {
	if len(rec.Body) > recordsBudget/2 {
		short := *rec
		short.Body, short.Schema = nil, 0
		return messages.RecordJSON(&short)
	}
	return messages.RecordJSON(rec)
}

func (d *Daemon) verify(ctx context.Context, q VerifyRequest) (VerifyReport, error) {
	return VerifyLog(ctx, d.log, d.logKey, q, nil)
}

// VerifyStored recomputes the whole log of a stopped daemon. dir is the daemon's directory or
// the log's own, which has no key: then a checkpoint is taken at its word. progress, if set,
// hears how far it is.
func VerifyStored(ctx context.Context, dir string, q VerifyRequest, progress func(done, total uint64)) (r VerifyReport, err error) {
	verifier, err := logVerifier(dir)
	if err != nil {
		return r, err
	}
	log, err := OpenReadOnly(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return VerifyLog(ctx, log, verifier, q, progress)
}

// VerifyLog recomputes a whole log, and holds it against a checkpoint if there is one.
func VerifyLog(ctx context.Context, log eventlog.Log, verifier note.Verifier, q VerifyRequest, progress func(done, total uint64)) (VerifyReport, error) {
	var r VerifyReport
	var err error
	if q.Checkpoint != "" {
		// First: it is the cheaper one, and a file that is no checkpoint need not wait.
		var kept eventlog.Head
		kept, err = eventlog.Extends(log, []byte(q.Checkpoint), verifier)
		r.Extends = &kept.Seq
	}
	if err == nil {
		var report eventlog.Report
		report, err = log.Verify(ctx, progress)
		r.Events, r.Root = report.Head.Seq, report.Head.Root.String()
	}
	if err != nil {
		corrupt, err := corruptText(err)
		return VerifyReport{Corrupt: corrupt}, err
	}
	return r, nil
}

func (d *Daemon) checkpoint(ctx context.Context, _ struct{}) (CheckpointReport, error) {
	signed, err := d.log.Checkpoint(ctx)
	return CheckpointReport{string(signed)}, err
}

// corruptText is what err says is wrong with the log: a part of the answer, since an error
// is for a daemon that could not look. Any other error is returned as it is.
func corruptText(err error) (string, error) {
	if errors.Is(err, eventlog.ErrCorrupt) {
		return err.Error(), nil
	}
	return "", err
}

// CorruptError is the Corrupt of an answer as the error that a reader of the log gets; nil
// if it is empty.
func CorruptError(text string) error {
	if text == "" {
		return nil
	}
	return corruptError(text)
}

type corruptError string

func (e corruptError) Error() string { return string(e) }
func (e corruptError) Unwrap() error { return eventlog.ErrCorrupt }

func (d *Daemon) logStat(ctx context.Context, _ struct{}) (LogStats, error) {
	return CountRecords(ctx, d.log, nil)
}

// CountRecords counts the records that a log has now. progress, if set, hears how far it
// is.
func CountRecords(ctx context.Context, log eventlog.Log, progress func(done, total uint64)) (LogStats, error) {
	head, stat := log.Head(), log.Stat()
	s := LogStats{Events: head.Seq, Root: head.Root.String(), Streams: stat.Streams, Kinds: map[string]uint64{}}
	for rec, err := range log.Scan(ctx, 1, head.Seq) {
		if err != nil {
			s.Corrupt, err = corruptText(err)
			return s, err
		}
		s.Kinds[rec.Kind.String()]++
		s.Bytes += uint64(messages.RecordSize(&rec))
		if progress != nil && rec.Seq%4096 == 0 {
			progress(rec.Seq, head.Seq)
		}
	}
	return s, nil
}
