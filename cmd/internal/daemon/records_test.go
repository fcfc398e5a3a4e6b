package daemon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestCountRecords: what `log stat` says of a log, stored or live.
func TestCountRecords(t *testing.T) {
	log := eventlog.NewMemory(eventlog.Options{})
	appendNotes(t, log, "core/lifecycle", messages.KindStarted, 3)
	appendNotes(t, log, "device/pump-7", messages.KindSessionOpened, 2)
	s, err := CountRecords(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{messages.KindStarted.String(): 3, messages.KindSessionOpened.String(): 2}
	if s.Events != 5 || s.Streams != 2 || !maps.Equal(s.Kinds, want) || s.Root != log.Head().Root.String() || s.Bytes == 0 {
		t.Errorf("%+v, want 5 events in 2 streams of kinds %v", s, want)
	}
}

// damaged is a log whose third record cannot be read.
type damaged struct {
	eventlog.Log
	err error
}

func (d damaged) Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		for rec, err := range d.Log.Scan(ctx, from, to) {
			if rec.Seq == 3 {
				rec, err = messages.Record{}, fmt.Errorf("scan: %w", d.err)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

func (d damaged) Verify(context.Context, func(done, total uint64)) (eventlog.Report, error) {
	return eventlog.Report{}, fmt.Errorf("verify: %w", d.err)
}

// TestCorruptIsAnAnswer: that the log is corrupt is what was asked, and reaches who asked
// over NATS, too, with the exit code of its own; any other error is a failure to answer.
func TestCorruptIsAnAnswer(t *testing.T) {
	log := eventlog.NewMemory(eventlog.Options{})
	appendNotes(t, log, "core/lifecycle", messages.KindStarted, 4)
	wrong := &eventlog.CorruptError{Seq: 3, Detail: "a byte differs"}
	ask := func(err error) map[string]func() (corrupt string, err error) {
		d := &Daemon{log: damaged{log, err}}
		return map[string]func() (string, error){
			"verify": func() (string, error) { r, err := d.verify(t.Context(), VerifyRequest{}); return r.Corrupt, err },
			"stat":   func() (string, error) { r, err := d.logStat(t.Context(), struct{}{}); return r.Corrupt, err },
			"records": func() (string, error) {
				r, err := d.records(t.Context(), RecordsRequest{})
				if len(r.Records) != 2 {
					t.Errorf("%d records before the corruption, want 2", len(r.Records))
				}
				return r.Corrupt, err
			},
		}
	}
	for name, f := range ask(wrong) {
		corrupt, err := f()
		if err != nil || !strings.Contains(corrupt, "record 3: a byte differs") || !errors.Is(CorruptError(corrupt), eventlog.ErrCorrupt) {
			t.Errorf("%s of a corrupt log: %q, %v; want what is wrong as the answer", name, corrupt, err)
		}
	}
	for name, f := range ask(context.DeadlineExceeded) {
		if corrupt, err := f(); !errors.Is(err, context.DeadlineExceeded) || CorruptError(corrupt) != nil {
			t.Errorf("%s without an outcome: %q, %v; want the error", name, corrupt, err)
		}
	}
}

// appendNotes appends n events, whatever they say, to a new stream.
func appendNotes(t *testing.T, log eventlog.Log, stream messages.StreamID, kind messages.Kind, n int) {
	t.Helper()
	drafts := make([]eventlog.Draft, n)
	for i := range drafts {
		drafts[i] = eventlog.Draft{ID: messages.DeriveEventID([32]byte{byte(kind)}, i), Kind: kind, Schema: 1}
	}
	err := eventlog.ErrBusy
	log.Append(eventlog.Batch{Stream: stream, At: messages.Instant{TrustMs: 1, WallMs: 1}, Drafts: drafts},
		func(_ []messages.Record, outcome error) { err = outcome }) // in memory: before Append returns
	if err != nil {
		t.Fatal(err)
	}
}
