package actors

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// A device that connects every minute makes millions of events in a year, and its entity
// is folded anew whenever it comes back from passivation. So an entity keeps a snapshot
// of its state every so many events: recovery reads that and the tail behind it. A
// snapshot is never the truth: one that is missing, damaged or of another version means
// a whole fold.
const (
	snapshotEvery   = 128
	snapshotVersion = 3 // of the states' form: raised when a decider's state changes its meaning
)

// snapshotKey is where an entity's snapshot lies in the log's store.
func snapshotKey(stream messages.StreamID) string { return "entity/" + string(stream) }

// snapshot is a state as of a stream version.
type snapshot[S any] struct {
	Version uint64
	State   S
}

// snapshots are a family's codec for its states.
func snapshots[S any]() (encode func(version uint64, state any) ([]byte, error), decode func([]byte) (uint64, any, error)) {
	encode = func(version uint64, state any) ([]byte, error) {
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(snapshot[S]{version, state.(S)})
		return b.Bytes(), err
	}
	decode = func(data []byte) (uint64, any, error) {
		var s snapshot[S]
		err := gob.NewDecoder(bytes.NewReader(data)).Decode(&s)
		return s.Version, s.State, err
	}
	return encode, decode
}

// restore takes the entity's snapshot up, if there is a good one.
func (e *entity) restore() {
	if e.family.decode == nil {
		return
	}
	if n, err := e.sys.log.Version(e.stream); err == nil && n < snapshotEvery {
		return // there is none yet, and looking for one costs as much as the records
	}
	s, found, err := e.sys.log.Snapshot(snapshotKey(e.stream))
	if err != nil || !found || s.Version != snapshotVersion {
		return
	}
	version, state, err := e.family.decode(s.Data)
	if err != nil {
		e.sys.logger.Warn("snapshot ignored: folding the whole stream", "stream", e.stream, "error", err)
		return
	}
	e.state, e.version, e.snapped = state, version, version
}

// keep writes a snapshot when one is due. seq is the last record folded in.
func (e *entity) keep(seq uint64) {
	if e.family.encode == nil || e.version-e.snapped < snapshotEvery || e.poisoned != nil {
		return
	}
	e.snapped = e.version // also if it fails: the next try comes as much later
	data, err := e.family.encode(e.version, e.state)
	if err == nil {
		err = e.sys.log.PutSnapshot(snapshotKey(e.stream), eventlog.Snapshot{Version: snapshotVersion, Seq: seq, Data: data})
	}
	if err != nil {
		e.sys.logger.Debug("no snapshot", "stream", e.stream, "error", fmt.Errorf("version %d: %w", e.version, err))
	}
}
