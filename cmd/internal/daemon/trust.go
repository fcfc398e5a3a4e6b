package daemon

import (
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// TrustDueRequest asks whose trust lapses next.
type TrustDueRequest struct {
	WithinMs int64 `json:"withinMs,omitempty"` // only who lapses within that; 0: all
	Limit    int   `json:"limit,omitempty"`    // lines; as many as fit a message by default
	// Until and After are the last line of the page before.
	Until time.Time          `json:"until,omitzero"`
	After messages.ThingName `json:"after,omitempty"`
}

// TrustDue says how old stored trust is, and whose lapses next, soonest first.
type TrustDue struct {
	At            time.Time   `json:"at"` // trust time
	TrustDuration string      `json:"trustDuration"`
	Things        int         `json:"things"`  // known
	Trusted       int         `json:"trusted"` // of which stored trust counts now
	Pending       int         `json:"pending"` // which the core let in, not the cloud: in no number below
	Lapse         LapseCounts `json:"lapse"`
	OldestSeconds int64       `json:"oldestSeconds"` // age of trust that counts: since the cloud confirmed it
	MedianSeconds int64       `json:"medianSeconds"`
	Due           []DueLine   `json:"due"`
	More          bool        `json:"more"`
}

// LapseCounts is how many devices lose their trust within a time, if the cloud stays away.
type LapseCounts struct {
	Hour int `json:"within1h"`
	Day  int `json:"within24h"`
	Week int `json:"within7d"`
}

// DueLine is a device and when its trust lapses.
type DueLine struct {
	Thing       messages.ThingName `json:"thing"`
	Until       time.Time          `json:"until"`
	LeftSeconds int64              `json:"leftSeconds"`
	AgeSeconds  int64              `json:"ageSeconds"`
	Sessions    int                `json:"sessions"`
	Quarantined bool               `json:"quarantined,omitempty"`
	Pending     bool               `json:"pending,omitempty"`
}

// duePage bounds a page, as devicesPage does.
const duePage = 200

func (d *Daemon) trustDue(_ context.Context, q TrustDueRequest) (TrustDue, error) {
	if q.Limit <= 0 || q.Limit > duePage {
		q.Limit = duePage
	}
	return ListTrustDue(d.views, d.sys.Trust(), d.trust.NowMs(), q), nil
}

// ListTrustDue answers a TrustDueRequest.
func ListTrustDue(v *projections.Views, trust messages.Trust, nowMs int64, q TrustDueRequest) TrustDue {
	query := projections.TrustQuery{Trust: trust, NowMs: nowMs, WithinMs: q.WithinMs, Limit: q.Limit, After: q.After}
	if q.After != "" {
		query.AfterMs = q.Until.UnixMilli()
	}
	r := v.TrustDue(query)
	t := TrustDue{
		At: moment(nowMs), TrustDuration: durationText(trust.DurationMs), Things: r.Things, Trusted: r.Trusted, Pending: r.Pending,
		Lapse: LapseCounts{Hour: r.Hour, Day: r.Day, Week: r.Week}, OldestSeconds: r.OldestMs / 1000, MedianSeconds: r.MedianMs / 1000,
		Due: []DueLine{}, More: r.More,
	}
	for _, line := range r.Due {
		t.Due = append(t.Due, DueLine{
			Thing: line.Thing, Until: moment(line.EndMs), LeftSeconds: (line.EndMs - nowMs) / 1000,
			AgeSeconds: max(0, nowMs-line.SinceMs) / 1000, Sessions: line.Sessions, Quarantined: line.Quarantined, Pending: line.Pending,
		})
	}
	return t
}

// RefreshReport says what the refresh of stored trust did last, when it is due, and how
// far one under way is.
type RefreshReport struct {
	DueAt *time.Time  `json:"dueAt,omitempty"` // absent: none is planned
	Why   string      `json:"why,omitempty"`
	Last  *RefreshRun `json:"last,omitempty"`
	// Running is when one began that has not ended.
	Running *time.Time `json:"running,omitempty"`
	// Progress is what a running daemon knows of it; absent if nobody lists the associated
	// things, or no daemon runs.
	Progress *Refresh `json:"progress,omitempty"`
}

// RefreshRun is a refresh that ended.
type RefreshRun struct {
	Record     uint64     `json:"record"`
	Outcome    string     `json:"outcome"` // completed or failed
	Reason     string     `json:"reason,omitempty"`
	BeganAt    *time.Time `json:"beganAt,omitempty"`
	EndedAt    time.Time  `json:"endedAt"`
	Listed     uint64     `json:"listed"`
	Renewed    uint64     `json:"renewed"`
	Removed    uint64     `json:"removed"`
	Denied     uint64     `json:"denied"`
	Unanswered uint64     `json:"unanswered"`
}

// RefreshOf reports on refreshes from the read models.
func RefreshOf(v *projections.Views) RefreshReport {
	s := v.Refresh()
	r := RefreshReport{Why: s.Why}
	if s.DueMs != 0 {
		due := moment(s.DueMs)
		r.DueAt = &due
	}
	if s.Began != nil {
		began := s.Began.At.Trust()
		r.Running = &began
	}
	if l := s.Last; l != nil {
		r.Last = &RefreshRun{
			Record: l.Seq, Outcome: "completed", Reason: l.Failed, EndedAt: l.Ended.Trust(),
			Listed: l.Listed, Renewed: l.Renewed, Removed: l.Removed, Denied: l.Denied, Unanswered: l.Unanswered,
		}
		if l.Failed != "" {
			r.Last.Outcome = "failed"
		}
		if l.Began != (messages.Instant{}) {
			began := l.Began.Trust()
			r.Last.BeganAt = &began
		}
	}
	return r
}

func (d *Daemon) refreshReport(context.Context, struct{}) (RefreshReport, error) {
	r := RefreshOf(d.views)
	if d.refresh != nil {
		progress := refreshOf(d.refresh.Status())
		r.Progress = &progress
	}
	return r, nil
}
