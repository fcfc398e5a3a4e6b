package daemon

import (
	"cmp"
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Refresh says how far the refresh of stored trust is that this daemon began last.
type Refresh struct {
	Phase     string     `json:"phase"` // "idle", "listing", "confirming", "asking"
	StartedAt *time.Time `json:"startedAt,omitempty"`
	Listed    int        `json:"listed"` // things associated with this core
	Pages     int        `json:"pages"`
	Done      int        `json:"done"` // questions settled …
	Total     int        `json:"total"`
	Renewed   int        `json:"renewed"`
	Denied    int        `json:"denied"`
	Silent    int        `json:"unanswered"`
	Removed   int        `json:"removed"`
}

// refreshNow begins a refresh, and reports on it.
func (d *Daemon) refreshNow(ctx context.Context, _ struct{}) (RefreshReport, error) {
	if d.refresh == nil {
		return RefreshReport{}, messages.Refuse(messages.RefusedNotReady, "nobody is asked for the associated things: set cloud.control in gatehouse.yaml")
	}
	answer, err := d.refresh.Run(ctx)
	switch {
	case err != nil:
		return RefreshReport{}, err
	case answer.Outcome == messages.RefreshOffline:
		return RefreshReport{}, messages.Refuse(messages.RefusedNotReady, "the cloud cannot be reached; a refresh begins when it is back, if one is due")
	}
	return d.refreshReport(ctx, struct{}{})
}

func refreshOf(s actors.RefreshStatus) Refresh {
	r := Refresh{
		Phase: cmp.Or(s.Phase, "idle"), Listed: s.Listed, Pages: s.Pages,
		Done: s.Done, Total: s.Total, Renewed: s.Renewed, Denied: s.Denied, Silent: s.Unanswered, Removed: s.Removed,
	}
	if s.StartedMs != 0 {
		started := moment(s.StartedMs)
		r.StartedAt = &started
	}
	return r
}
