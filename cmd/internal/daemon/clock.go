package daemon

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
)

// released is when this version was made, for a build that does not say: no certificate
// of the cloud is judged by an earlier time.
var released = time.Date(2026, time.November, 21, 0, 0, 0, 0, time.UTC)

// builtAt is when this program was built: the time of its commit, if that is known.
func builtAt() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil && at.After(released) {
				return at
			}
		}
	}
	return released
}

// startClock resumes the trust clock from the log.
func (d *Daemon) startClock(anchor actors.Anchor) {
	var options []actors.ClockOption
	if d.cfg.BudgetOffTime {
		options = append(options, actors.Budget(d.views.TrustDurationMs()))
	}
	d.trust = actors.NewTrustClock(d.clock, anchor, options...)
	built := builtAt()
	d.tlsTime = func() time.Time { return d.trust.TLSTime(built) }
	if d.cfg.CloudTime != nil {
		d.cfg.CloudTime.now.Store(&d.tlsTime)
	}
	if d.trust.State() != actors.ClockCertain {
		d.logger.Warn("nobody knows how long this machine was off: its clock is not synchronised",
			"stored trust", offTimeText(d.cfg.BudgetOffTime), "wall clock", d.clock.Wall().UTC().Format(time.RFC3339),
			"hint", "it is known again when the machine's clock is synchronised (NTP) or the cloud answers twice")
	}
}

func offTimeText(budget bool) string {
	if budget {
		return "counts for a shorter time (trust.unknownOffTime: budget)"
	}
	return "does not count until the time is known (trust.unknownOffTime: strict)"
}

// CloudTime is a daemon's TrustClock.TLSTime, for those who are made before the daemon.
type CloudTime struct {
	now atomic.Pointer[func() time.Time]
}

// Now is the time by which the cloud's certificate is judged.
func (c *CloudTime) Now() time.Time {
	if now := c.now.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

// ClockReport describes the trust clock.
type ClockReport struct {
	State string    `json:"state"` // "certain", "uncertain": no trust from before counts; "budget": it counts for less
	Time  time.Time `json:"time"`
	// BudgetUsed is what starts with an unknown off time have taken off the trust duration.
	BudgetUsed string `json:"budgetUsed,omitempty"`
	// Suspect is how far a wall clock that was not synchronised moved the clock at the start.
	Suspect string `json:"suspect,omitempty"`
	// AgreedAt is when the cloud's own time last agreed with it.
	AgreedAt *time.Time `json:"agreedAt,omitempty"`
}

func clockReport(s actors.ClockStatus) ClockReport {
	r := ClockReport{State: string(s.State), Time: moment(s.NowMs)}
	if s.ChargedMs != 0 {
		r.BudgetUsed = durationText(s.ChargedMs)
	}
	if s.SuspectMs != 0 {
		r.Suspect = durationText(s.SuspectMs)
	}
	if s.AgreedMs != 0 {
		at := moment(s.AgreedMs)
		r.AgreedAt = &at
	}
	return r
}
