package projections

import "github.com/gatehouse-edge/gatehouse/messages"

// Refresh is what the log says of the refreshes of stored trust (client-device-auth spec
// 5.5).
type Refresh struct {
	DueMs  int64         // when the next one is due, trust time; 0: none is planned
	Why    string        // why it is due then, if there is more to say than that a day passed
	Last   *RefreshRun   // the one that ended last; nil: none did
	GoodMs int64         // when the last one completed, trust time; 0: none ever did
	Began  *RefreshBegun // the one under way; nil: there is none
}

// RefreshBegun is a refresh under way.
type RefreshBegun struct {
	Seq uint64
	At  messages.Instant
}

// RefreshRun is a refresh that ended.
type RefreshRun struct {
	Seq    uint64 // the record of its end
	Began  messages.Instant
	Ended  messages.Instant
	Failed string // why; empty: it completed
	// What a complete one did.
	Listed, Renewed, Removed, Denied, Unanswered uint64
}

// Refresh describes the last refresh and the next.
func (v *Views) Refresh() Refresh {
	v.mu.RLock()
	defer v.mu.RUnlock()
	r := v.refresh
	if r.Last != nil {
		last := *r.Last
		r.Last = &last
	}
	if r.Began != nil {
		began := *r.Began
		r.Began = &began
	}
	return r
}

func (v *Views) refreshed(rec *messages.Record, e messages.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := &v.refresh
	run := &RefreshRun{Seq: rec.Seq, Ended: rec.At}
	if r.Began != nil {
		run.Began = r.Began.At
	}
	switch e := e.(type) {
	case *messages.RefreshPlanned: // one under way may wait for a second listing
		r.Why = e.Reason
		if r.Began == nil {
			r.DueMs = e.DueMs
		}
	case *messages.RefreshStarted:
		r.Began = &RefreshBegun{Seq: rec.Seq, At: rec.At}
	case *messages.RefreshCompleted:
		run.Listed, run.Renewed, run.Removed, run.Denied, run.Unanswered = e.Listed, e.Renewed, e.Removed, e.Denied, e.Unanswered
		*r = Refresh{DueMs: e.NextDueMs, Last: run, GoodMs: rec.At.TrustMs}
	case *messages.RefreshFailed:
		run.Failed = e.Reason
		*r = Refresh{DueMs: e.NextDueMs, Last: run, GoodMs: r.GoodMs}
	}
}
