package actors

import (
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// foldFrom folds a stream onto state, from version from on.
func (r *rig) foldFrom(stream messages.StreamID, f family, state any, from uint64) any {
	r.t.Helper()
	for rec, err := range r.log.Read(r.t.Context(), stream, from) {
		if err != nil {
			r.t.Fatal(err)
		}
		e, err := messages.DecodeEvent(&rec)
		if err != nil {
			r.t.Fatal(err)
		}
		state = f.evolve(state, e, rec.At)
	}
	return state
}

// comeAndGo makes events in the device's stream: two sessions' worth and more each time.
func (r *rig) comeAndGo(thing messages.ThingName, c identity, times int) {
	r.t.Helper()
	for range times {
		if got, _ := r.connect(thing, c); got != "ok" {
			r.t.Fatalf("connect: %s", got)
		}
		r.do(messages.CloseSessions{Thing: thing, Reason: messages.CloseReason_CLOSE_BY_BROKER})
	}
}

// TestSnapshotIsTheFold: a busy device leaves a snapshot; it and the tail behind it are
// the fold of the whole stream.
func TestSnapshotIsTheFold(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, _ := r.join(pump)
	r.comeAndGo(pump, c, snapshotEvery)
	r.atRest()
	stream := messages.DeviceStream(pump)
	s, found, err := r.log.Snapshot(snapshotKey(stream))
	if err != nil || !found {
		t.Fatalf("snapshot: %v, %v", found, err)
	}
	version, state, err := devices.decode(s.Data)
	if err != nil || version < snapshotEvery {
		t.Fatalf("snapshot of version %d: %v", version, err)
	}
	whole := r.foldFrom(stream, devices, devices.fresh(), 1).(device.Device)
	resumed := r.foldFrom(stream, devices, state, version+1).(device.Device)
	if len(whole.Sessions)+len(resumed.Sessions) != 0 || !reflect.DeepEqual(whole.Attachments, resumed.Attachments) || whole.WithdrawnMs != resumed.WithdrawnMs {
		t.Errorf("snapshot and tail give\n%+v\nthe whole stream\n%+v", resumed, whole)
	}
	r.restart()
	r.comeAndGo(pump, c, 1)
}

// TestBadSnapshotIsIgnored: of another version, damaged, or empty: the stream is folded
// from its beginning.
func TestBadSnapshotIsIgnored(t *testing.T) {
	for name, bad := range map[string]eventlog.Snapshot{
		"another version": {Version: snapshotVersion + 1, Seq: 1, Data: []byte("x")},
		"damaged":         {Version: snapshotVersion, Seq: 1, Data: []byte("not gob")},
		"empty":           {Version: snapshotVersion, Seq: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.policy()
			c, _ := r.join(pump)
			r.do(messages.QuarantineDevice{Thing: pump, Reason: "stolen"})
			r.restart()
			if err := r.log.PutSnapshot(snapshotKey(messages.DeviceStream(pump)), bad); err != nil {
				t.Fatal(err)
			}
			if got, _ := r.connect(pump, c); got == "ok" {
				t.Error("the quarantine is forgotten")
			}
		})
	}
}

// TestJournalIsNotFolded: a stream that only grows costs nothing to take up again.
func TestJournalIsNotFolded(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.do(messages.MarkClock{Mark: r.trust.Mark()})
	}
	r.restart()
	var read atomic.Bool
	r.log.OnRead(func(s messages.StreamID) {
		if s == messages.StreamClock {
			read.Store(true)
		}
	})
	r.do(messages.MarkClock{Mark: r.trust.Mark()})
	if version, err := r.log.Version(messages.StreamClock); err != nil || version != 4 || read.Load() {
		t.Errorf("version %d, %v, read %v; want 4, unread", version, err, read.Load())
	}
}
