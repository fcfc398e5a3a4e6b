package main

import (
	"flag"
	"os"
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

var all = flag.Bool("all", false, "also the bugs that take long to find")

// TestPlantedBugsAreFound: a campaign that finds nothing shows something only if it finds
// what is there. Each way of finding something has its bug.
func TestPlantedBugsAreFound(t *testing.T) {
	few := func(c *campaign) {
		c.kinds = []messages.Kind{messages.KindDeviceQuarantined, messages.KindSessionOpened}
	}
	lost := func(r *Row) bool { return r.Lost > 0 }
	unseen := func(r *Row) bool { return r.Unseen > 0 }
	for _, b := range []struct {
		id, bug string
		change  func(*campaign)
		found   func(*Row) bool
	}{
		{"A1", "", few, (*Row).Passed},
		{"A1", bugAckFirst, few, lost},
		{"A1", bugForgetsIDs, few, func(r *Row) bool { return r.Twice > 0 }},
		{"A2", bugForgets, nil, lost},
		{"A3", bugAckFirst, nil, lost},
		{"A3", bugLies, nil, lost},
		{"A3", bugDeaf, nil, lost},
		{"A4", bugForgets, nil, unseen},
		{"A5", bugForgets, nil, unseen},
		{"A6", bugGoesOn, nil, unseen},
		{"A6", bugAcksFailed, nil, unseen},
		{"A7", bugNoGuard, nil, unseen},
		{"A8", bugBlocks, nil, unseen},
		{"A9", bugStale, nil, unseen},
		{"A10", bugAnyKind, nil, unseen},
		{"A12", bugUnlocks, nil, unseen},
		{"A13", bugForgets, nil, unseen},
	} {
		t.Run(b.id+" "+b.bug, func(t *testing.T) {
			if !*all && (b.id == "A2" || b.id == "A8") {
				t.Skip("it takes a while: go test ./sim/crash -args -all")
			}
			if testing.Short() && b.id != "A1" {
				t.Skip("one way is enough under the race detector; the plain run has them all")
			}
			if err := possible([]trial{trialOf(b.id)}); err != nil {
				if os.Getenv("GATEHOUSE_E2E") == "1" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			row := carryOut(t, b.id, b.bug, b.change)
			if b.bug != "" {
				t.Logf("found: %.600q", row.Failed)
			}
			if !b.found(row) || row.Passed() != (b.bug == "") {
				t.Errorf("not found: %+v", row)
			}
		})
	}
}
