package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/sim/scenario"
)

// TestScenarios holds the fixed contract of `sim scenario` (design section 11): a line per
// failure, the last line counts, exit 1 if any failed.
func TestScenarios(t *testing.T) {
	vectors := "../../sim/scenario/testdata/offline-trust.json"
	if out, code := runProgram(t, "sim", "scenario", vectors); code != 0 || out != "45 passed, 0 failed\n" {
		t.Errorf("the reference's vectors: exit %d\n%s", code, out)
	}
	file := filepath.Join(t.TempDir(), "s.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("scenarios:\n- {name: good, events: []}\n- name: bad\n  events:\n  - {do: log, expect: {Started: 7}}\n")
	out, code := runProgram(t, "sim", "scenario", file, vectors)
	if want := file + ":5: bad: event 1 (log at 0 s): Started events: 1, want 7\n46 passed, 1 failed\n"; code != 1 || out != want {
		t.Errorf("one fails: exit %d\n%s\nwant\n%s", code, out, want)
	}
	out, code = runProgram(t, "sim", "scenario", file, "--json")
	var r scenario.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Passed != 1 || r.Failed != 1 || len(r.Failures) != 1 || r.Failures[0].Scenario != "bad" {
		t.Errorf("as JSON: exit %d, %+v, %v\n%s", code, r, err, out)
	}
	write("scenarios:\n- name: bad\n  events:\n  - {do: conect}\n")
	if out, code := runProgram(t, "sim", "scenario", file); code != 1 || !strings.Contains(out, file+":4:10: scenarios[0] (bad).events[0] (conect).do: no event \"conect\"; kinds: cloudCert") {
		t.Errorf("a bad file: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "sim", "scenario"); code != 2 || !strings.Contains(out, "see `gatehouse sim scenario --help`") {
		t.Errorf("no file: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "sim", "scenario", "--schema"); code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("schema: exit %d\n%s", code, out)
	}
}
