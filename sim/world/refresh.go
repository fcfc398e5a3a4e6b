package world

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/refresh"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// Associate makes a thing a client device of the core, or ends that.
func (w *World) Associate(thing messages.ThingName, associated bool) error {
	if !associated {
		return w.cloud.registry.Disassociate(coreThing, thing)
	}
	if err := w.cloud.registry.AddThing(thing); err != nil {
		return err
	}
	return w.cloud.registry.Associate(coreThing, w.Machine.Now(), thing)
}

// SetFaults makes the cloud misbehave; none ends it.
func (w *World) SetFaults(faults []fault.Fault) error {
	return w.cloud.emulator.SetFaults(fault.Script{Faults: faults})
}

// Refresh is what the log says of the daily refresh.
type Refresh struct {
	DueMs     int64                      // when the next is due, trust time
	Running   bool                       // one is under way
	Completed *messages.RefreshCompleted // the last one's end since the record asked about; nil: none
	Failed    *messages.RefreshFailed    // the same for a listing that failed
}

// LogSeq is the last record's number.
func (w *World) LogSeq() uint64 { return w.log.Head().Seq }

// Refresh tells what the log says of the refresh, and how it ended after record since.
func (w *World) Refresh(since uint64) (r Refresh, err error) {
	var s refresh.State
	err = w.eachEvent(func(rec *messages.Record, e messages.Event) {
		if rec.Stream != messages.StreamSync {
			return
		}
		s = refresh.Evolve(s, e, rec.At)
		if rec.Seq <= since {
			return
		}
		switch e := e.(type) {
		case *messages.RefreshCompleted:
			r.Completed, r.Failed = e, nil
		case *messages.RefreshFailed:
			r.Completed, r.Failed = nil, e
		}
	})
	r.DueMs, r.Running = s.DueMs, s.RunningMs != 0
	return r, err
}

// refreshMax is how long a refresh may take in the world's time: more than a confirming
// listing waits for.
const refreshMax = time.Hour

// AwaitRefresh lets time pass until no refresh is under way.
func (w *World) AwaitRefresh() error {
	for end := w.Machine.Since() + refreshMax; ; {
		r, err := w.Refresh(0)
		switch {
		case err != nil || !r.Running:
			return err
		case w.Machine.Since() >= end:
			return fmt.Errorf("the refresh is still under way after %v (%s)", refreshMax, w.core.refresher.Status().Phase)
		}
		if err := w.AdvanceTo(w.Machine.Since() + time.Second); err != nil {
			return err
		}
	}
}
