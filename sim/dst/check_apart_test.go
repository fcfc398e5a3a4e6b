package dst

import (
	"testing"
	"time"
)

// TestHerdIsPlayed: a fleet whose actions are not listed is played through both phases, the
// same way twice, and its read models are compared in the end.
func TestHerdIsPlayed(t *testing.T) {
	p := PlanOf(Config{Seed: 4, Devices: herdAbove + 1, Brokers: 2, Duration: 20 * time.Minute, Faults: CloudDown | Crash, FaultsChosen: true})
	if p.Herd == nil {
		t.Fatal("it is listed")
	}
	p.Herd.Publishes, p.Herd.Churn, p.Herd.Revoked = 4, .2, .05
	var first *Result
	for range 2 {
		r, err := Play(t.Context(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Violation != nil {
			t.Fatal(r.Violation)
		}
		n := &r.Counts
		if n.Checks["D2"] == 0 || n.Checks["L2"] == 0 || n.Allowed["connect"] < uint64(p.Devices)*9/10 || n.Actions["deactivate"] == 0 || n.Denied["connect"] == 0 {
			t.Errorf("%+v", n)
		}
		if first == nil {
			first = r
		} else if r.Trace != first.Trace {
			t.Errorf("traces %s and %s", first.Trace, r.Trace)
		}
	}
}

// TestDigestTells: read models that differ have other digests.
func TestDigestTells(t *testing.T) {
	p := PlanOf(Config{Seed: 4, Devices: 5, Brokers: 1, Duration: time.Minute, FaultsChosen: true})
	o := newObserver(p)
	m := NewSim(p, o, 0)
	defer m.Close()
	o.stage = m
	for i := range p.Actions {
		for m.Step(p.Actions[i].At) {
		}
		m.Do(&p.Actions[i])
	}
	for m.Step(2 * time.Minute) {
	}
	o.core = m.Core()
	before := o.digested()
	if before == nil {
		t.Fatal("they are not at rest")
	}
	o.apart = before
	o.foldedApart(m.Log())
	if o.violation != nil {
		t.Fatal(o.violation)
	}
	o.apart = &[32]byte{1}
	if o.foldedApart(m.Log()); o.violation == nil || o.violation.Invariant != "D2" {
		t.Error("another digest is no violation")
	}
}
