package main

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// carryOut runs a row with a planted bug, or without, in the size of CI or smaller.
func carryOut(t *testing.T, id, bug string, change func(*campaign)) *Row {
	t.Helper()
	c := newTestCampaign(t)
	c.bug = bug
	if change != nil {
		change(c)
	}
	row := c.carryOut(trialOf(id))
	t.Logf("%s, bug %q: %s", id, bug, progress(row))
	return row
}

// TestPlantedBugsAreFound: a campaign that finds nothing shows something only if it finds
// what is there. Each way of finding something has its bug.
func TestPlantedBugsAreFound(t *testing.T) {
	few := func(c *campaign) {
		c.kinds = []messages.Kind{messages.KindDeviceQuarantined, messages.KindSessionOpened}
	}
	for _, b := range []struct {
		id, bug string
		change  func(*campaign)
		found   func(*Row) bool
	}{
		{"A1", "", few, (*Row).Passed},
		{"A1", bugAckFirst, few, func(r *Row) bool { return r.Lost > 0 }},
		{"A1", bugForgetsIDs, few, func(r *Row) bool { return r.Twice > 0 }},
	} {
		t.Run(b.id+" "+b.bug, func(t *testing.T) {
			row := carryOut(t, b.id, b.bug, b.change)
			if !b.found(row) || row.Passed() != (b.bug == "") {
				t.Errorf("not found: %+v", row)
			}
		})
	}
}
