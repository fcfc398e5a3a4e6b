package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// finding is the hunter's, as it prints it.
type finding struct {
	By        string          `json:"by"`
	Name      string          `json:"name"`
	Seed      uint64          `json:"seed"`
	Played    int             `json:"played"`
	Invariant string          `json:"invariant"`
	What      string          `json:"what"`
	After     time.Duration   `json:"afterNs"`
	Plan      json.RawMessage `json:"plan,omitempty"`
}

// result is what became of a planted bug.
type result struct {
	Name     string        `json:"name"`
	Breaks   string        `json:"breaks"`
	Security bool          `json:"security"`
	Sim      finding       `json:"simulator"`
	Tests    []string      `json:"tests,omitempty"` // that failed
	Took     time.Duration `json:"testsTookNs,omitempty"`
	Compiler string        `json:"compiler,omitempty"` // it refuses the bug: the mutation is no good
}

func (r *result) found() bool { return r.Compiler == "" && (r.Sim.By != "" || len(r.Tests) > 0) }

// hunting is how hard it is hunted.
type hunting struct {
	top     string // of the module
	seeds   int
	simFor  time.Duration
	testFor time.Duration
	both    bool // run the tests also when the simulator has found it
	keep    bool
}

const regressions = "sim/dst/testdata/regressions"

// hunt plants m and looks who finds it.
func (h *hunting) hunt(ctx context.Context, m *mutation) (result, error) {
	r := result{Name: m.name, Breaks: m.breaks, Security: m.security}
	dir, err := os.MkdirTemp("", "gatehouse-planted-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(h.top, dir)
	if err != nil {
		return r, err
	}
	if h.simFor > 0 {
		hunter := filepath.Join(dir, "hunter")
		if out, err := h.run(ctx, "go", "build", "-overlay", overlay, "-o", hunter, "./sim/planted/hunter"); err != nil {
			r.Compiler = string(out)
			return r, ctx.Err()
		}
		if r.Sim, err = h.simulate(ctx, hunter); err != nil {
			return r, err
		}
		if err := h.keepPlan(m, &r.Sim); err != nil {
			return r, err
		}
	}
	if m.tests == "" || r.Sim.By != "" && !h.both {
		return r, nil
	}
	began := time.Now()
	args := append([]string{"test", "-overlay", overlay, "-timeout", h.testFor.String(), "-failfast"}, strings.Fields(m.tests)...)
	if out, err := h.run(ctx, "go", args...); err != nil {
		if r.Tests = failed(out); len(r.Tests) == 0 {
			r.Compiler = string(out)
		}
	}
	r.Took = time.Since(began)
	return r, ctx.Err()
}

// simulate lets the hunter go. One that dies has been brought down by the bug.
func (h *hunting) simulate(ctx context.Context, hunter string) (f finding, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*h.simFor+time.Minute)
	defer cancel()
	out, err := h.run(ctx, hunter, "-seeds", fmt.Sprint(h.seeds), "-for", h.simFor.String(), filepath.Join(h.top, regressions))
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return finding{By: "seed", What: "the simulation hangs", After: time.Since(began)}, nil
	case ctx.Err() != nil:
		return f, ctx.Err()
	case err != nil:
		line, _, _ := strings.Cut(string(out), "\n")
		return finding{By: "seed", What: line, After: time.Since(began)}, nil
	}
	return f, json.Unmarshal(out[bytes.LastIndexByte(bytes.TrimSpace(out), '\n')+1:], &f)
}

// planBytesMax is how large a plan may be that is kept.
const planBytesMax = 64 << 10

// keepPlan makes what found the bug a regression seed, if it is small.
func (h *hunting) keepPlan(m *mutation, f *finding) error {
	if !h.keep || f.By != "seed" || len(f.Plan) == 0 || len(f.Plan) > planBytesMax {
		return nil
	}
	doc, err := json.MarshalIndent(map[string]any{
		"name": "planted-" + m.name, "bug": "planted: " + m.breaks, "invariant": f.Invariant, "plan": f.Plan,
	}, "", " ")
	if err != nil {
		return err
	}
	at := filepath.Join(h.top, regressions)
	return errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, "planted-"+m.name+".json"), append(doc, '\n'), 0o644))
}

func (h *hunting) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = h.top
	c.Env = append(os.Environ(), "GATEHOUSE_E2E=") // the short lives; what needs tools is no test of these bugs
	return c.CombinedOutput()
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: .*)|^FAIL\s+(\S+)`)

// failed names the tests that failed, the innermost only.
func failed(out []byte) (names []string) {
	if bytes.Contains(out, []byte("[build failed]")) {
		return nil
	}
	for _, m := range failure.FindAllSubmatch(out, -1) {
		for _, name := range m[1:] {
			if len(name) > 0 && len(names) < 3 {
				names = append(names, string(name))
			}
		}
	}
	return names
}
