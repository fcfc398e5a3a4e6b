package daemon

import (
	"maps"
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
