package eventlog

import (
	"slices"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestStepsAreTold: the crash campaign relies on hearing of each of them.
func TestStepsAreTold(t *testing.T) {
	heard := make(chan Step, 10_000)
	o := Options{Step: func(s Step, recs []messages.Record) {
		if (s == StepWritten || s == StepSynced) != (len(recs) > 0) {
			t.Errorf("%s: %d records", s, len(recs))
		}
		heard <- s
	}}
	dir := t.TempDir()
	s := mustOpen(t, dir, o)
	for i := range uint64(900) {
		if err := appendOne(s, "device/a", i, Records, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutSnapshot("a", Snapshot{Version: 1, Seq: 1, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second open installs over what is there
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, o)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(heard)
	var all []Step
	for step := range heard {
		all = append(all, step)
	}
	for step := StepWritten; step <= StepClosing; step++ {
		if !slices.Contains(all, step) {
			t.Errorf("nobody heard of %s", step)
		}
	}
	if Step(0).String() == StepClosing.String() || Step(200).String() != "no step" {
		t.Error("steps are not told apart")
	}
}
