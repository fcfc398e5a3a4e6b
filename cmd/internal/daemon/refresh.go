package daemon

import (
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Refresh describes the refresh of stored trust.
type Refresh struct {
	Phase     string     `json:"phase"` // "idle", "listing", "confirming", "asking"
	StartedAt *time.Time `json:"startedAt,omitempty"`
	DueAt     *time.Time `json:"dueAt,omitempty"`
	Listed    int        `json:"listed"` // things associated with this core
	Pages     int        `json:"pages"`
	Done      int        `json:"done"` // questions settled …
	Total     int        `json:"total"`
	Renewed   int        `json:"renewed"`
	Denied    int        `json:"denied"`
	Silent    int        `json:"unanswered"`
	Removed   int        `json:"removed"`
}

// refreshNow begins a refresh.
func (d *Daemon) refreshNow(ctx context.Context, _ struct{}) (Refresh, error) {
	if d.refresh == nil {
		return Refresh{}, errNoRefresh
	}
	answer, err := d.refresh.Run(ctx)
	switch {
	case err != nil:
		return Refresh{}, err
	case answer.Outcome == messages.RefreshOffline:
		return Refresh{}, messages.Refuse(messages.RefusedNotReady, "the cloud cannot be reached; a refresh begins when it is back, if one is due")
	}
	return d.refreshing(ctx, struct{}{})
}

// errNoRefresh says what is missing.
var errNoRefresh = messages.Refuse(messages.RefusedNotReady, "nobody is asked for the associated things: set cloud.control in gatehouse.yaml")

// refreshing says how far the refresh is.
func (d *Daemon) refreshing(context.Context, struct{}) (Refresh, error) {
	if d.refresh == nil {
		return Refresh{}, errNoRefresh
	}
	return refreshOf(d.refresh.Status()), nil
}

func refreshOf(s actors.RefreshStatus) Refresh {
	at := func(ms int64) *time.Time {
		if ms == 0 {
			return nil
		}
		t := time.UnixMilli(ms).UTC()
		return &t
	}
	r := Refresh{
		Phase: s.Phase, StartedAt: at(s.StartedMs), DueAt: at(s.DueMs), Listed: s.Listed, Pages: s.Pages,
		Done: s.Done, Total: s.Total, Renewed: s.Renewed, Denied: s.Denied, Silent: s.Unanswered, Removed: s.Removed,
	}
	if r.Phase == "" {
		r.Phase = "idle"
	}
	return r
}
