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
	"slices"
	"strings"
	"sync"
	"time"
)

// finding is the hunter's, as it prints it.
type finding struct {
	By        string          `json:"by"`
	Stale     bool            `json:"stale,omitempty"`
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

// hunting is how hard the bugs are hunted.
type hunting struct {
	top     string // of the module
	dir     string // for what is built
	overlay string
	seeds   int
	simFor  time.Duration
	testFor time.Duration
	jobs    int
	both    bool // run the tests also when the simulator has found it
	keep    bool

	mu    sync.Mutex        // guards what follows
	tests map[string]string // test programs by package; "": it has no tests
}

const regressions = "sim/dst/testdata/regressions"

// plan is the file of the plan that is kept of a bug.
func (m *mutation) plan() string { return "planted-" + m.name + ".json" }

// build makes the hunter with all bugs in it; those that the compiler refuses it returns.
func (h *hunting) build(ctx context.Context, all []mutation) (bad map[string]string, err error) {
	bad = map[string]string{}
	for {
		if h.overlay, err = graft(h.top, h.dir, all); err != nil {
			return nil, err
		}
		out, err := h.run(ctx, h.top, "", "go", "build", "-overlay", h.overlay, "-o", h.hunter(), "./sim/planted/hunter")
		if err == nil {
			return bad, nil
		}
		names := refusedBy(out)
		if len(names) == 0 {
			return nil, fmt.Errorf("build the hunter: %w: %s", err, out)
		}
		for _, name := range names {
			bad[name] = string(out)
		}
		all = without(all, names)
	}
}

func (h *hunting) hunter() string { return filepath.Join(h.dir, "hunter") }

// hunt wakes m and looks who finds it.
func (h *hunting) hunt(ctx context.Context, m *mutation) (r result, err error) {
	r = result{Name: m.name, Breaks: m.breaks, Security: m.security}
	if h.simFor > 0 {
		if r.Sim, err = h.simulate(ctx, m); err == nil {
			err = h.keepPlan(m, &r.Sim)
		}
		if err != nil {
			return r, err
		}
	}
	if h.testFor == 0 || r.Sim.By != "" && !h.both {
		return r, nil
	}
	began := time.Now()
	for pkg := range strings.FieldsSeq(m.tests) {
		if r.Tests, err = h.test(ctx, m, pkg); err != nil || len(r.Tests) > 0 {
			break
		}
	}
	r.Took = time.Since(began)
	return r, err
}

// simulate lets the hunter go. What it finds without the bug, too, is no finding.
func (h *hunting) simulate(ctx context.Context, m *mutation) (finding, error) {
	first := uint64(1)
	for {
		f, err := h.hunted(ctx, m.name, "-own", m.plan(), fmt.Sprintf("-anew=%t", h.keep), "-seeds", fmt.Sprint(h.seeds), "-for", h.simFor.String(),
			"-seed", fmt.Sprint(first), filepath.Join(h.top, regressions))
		if err != nil || f.By == "" || f.Invariant == "" {
			return f, err
		}
		control := []string{"-seeds", "0", "-own", f.Name, filepath.Join(h.top, regressions)}
		if f.By == "seed" {
			control = []string{"-seeds", "1", "-seed", fmt.Sprint(f.Seed), filepath.Join(h.dir, "none")}
		}
		c, err := h.hunted(ctx, "", control...)
		if err != nil || c.By == "" {
			return f, err
		}
		if f.By == "regression" {
			return f, fmt.Errorf("%s fails without a bug: %s", f.Name, c.What)
		}
		fmt.Fprintf(os.Stderr, "seed %d fails without a bug: %s: %s\n", f.Seed, c.Invariant, c.What)
		first = f.Seed + 1
	}
}

// hunted runs the hunter with a bug awake. One that dies has been brought down by it.
func (h *hunting) hunted(ctx context.Context, bug string, args ...string) (f finding, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*h.simFor+2*time.Minute)
	defer cancel()
	out, err := h.run(ctx, h.top, bug, h.hunter(), args...)
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
	return errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(filepath.Join(at, m.plan()), append(doc, '\n'), 0o644))
}

// test runs a package's tests and returns those that fail with the bug, and pass without.
func (h *hunting) test(ctx context.Context, m *mutation, pkg string) ([]string, error) {
	program, err := h.testOf(ctx, pkg)
	if err != nil || program == "" {
		return nil, err
	}
	run := func(bug, only string) ([]byte, error) {
		return h.run(ctx, filepath.Join(h.top, pkg), bug, program, "-test.failfast", "-test.timeout", h.testFor.String(), "-test.run", only)
	}
	out, err := run(m.name, "")
	if err == nil || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	names := failed(out)
	for _, name := range names {
		top, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(top, "Test") && !strings.HasPrefix(top, "Fuzz") && !strings.HasPrefix(top, "Example") {
			continue
		}
		if out, err := run("", "^"+top+"$"); err != nil {
			fmt.Fprintf(os.Stderr, "%s of %s fails without a bug:\n%s\n", top, pkg, out[:min(len(out), 2000)])
			return nil, ctx.Err()
		}
	}
	if len(names) == 0 {
		names = []string{"the program dies"}
	}
	return names, nil
}

// testOf builds the tests of a package, with all bugs.
func (h *hunting) testOf(ctx context.Context, pkg string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if program, ok := h.tests[pkg]; ok {
		return program, nil
	}
	program := filepath.Join(h.dir, pkgOf(pkg))
	if out, err := h.run(ctx, h.top, "", "go", "test", "-c", "-overlay", h.overlay, "-o", program, pkg); err != nil {
		return "", fmt.Errorf("build the tests of %s: %w: %s", pkg, err, out)
	}
	if _, err := os.Stat(program); err != nil {
		program = "" // there are none
	}
	h.tests[pkg] = program
	return program, nil
}

func (h *hunting) run(ctx context.Context, dir, bug, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GATEHOUSE_E2E=", wakes+"="+bug) // the short lives; what needs tools is no test of these bugs
	return c.CombinedOutput()
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: .*)|^(fatal error: .*)`)

// failed names the tests that failed, the innermost last.
func failed(out []byte) (names []string) {
	for _, m := range failure.FindAllSubmatch(out, -1) {
		for _, name := range m[1:] {
			if len(name) > 0 && len(names) < 3 {
				names = append(names, string(name))
			}
		}
	}
	return slices.Clip(names)
}
