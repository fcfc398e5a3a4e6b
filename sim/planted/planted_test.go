package main

import (
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMutationsApply: each bug can still be planted, and is one: code that was changed
// meanwhile would be hunted in vain.
func TestMutationsApply(t *testing.T) {
	all, security, seen := mutations(), 0, map[string]bool{}
	for i := range all {
		m := &all[i]
		if seen[m.name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(m.name) || m.breaks == "" || m.old == m.new || m.tests == "" {
			t.Errorf("mutation %q is not whole", m.name)
		}
		seen[m.name] = true
		if m.security {
			security++
		}
		planted, err := m.plant("../..")
		if err != nil {
			t.Error(err)
		} else if _, err := format.Source(planted); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if len(all) < 40 || security < 15 {
		t.Errorf("%d bugs, %d of them marked security; want 40 and 15 (reliability spec 2.3 G)", len(all), security)
	}
}

// TestVerdict: what must be found, and what may be missed.
func TestVerdict(t *testing.T) {
	rows := func(n, missed int, security bool) (all []result) {
		for i := range n {
			r := result{Name: "x", Security: security && i < missed}
			if i >= missed {
				r.Tests = []string{"TestX"}
			}
			all = append(all, r)
		}
		return all
	}
	for _, c := range []struct {
		all  []result
		want int
	}{
		{rows(40, 0, false), 0}, {rows(40, 2, false), 0}, {rows(40, 3, false), 1}, {rows(40, 1, true), 1},
		{[]result{{Sim: finding{By: "seed"}, Compiler: "no"}}, 1},
	} {
		if got := verdict(c.all); got != c.want {
			t.Errorf("%d rows: %d, want %d", len(c.all), got, c.want)
		}
	}
}

// TestFailed reads what test programs say.
func TestFailed(t *testing.T) {
	out := []byte("=== RUN TestA\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\npanic: no\nFAIL\n")
	if got := failed(out); !slices.Equal(got, []string{"TestA", "TestA/x", "panic: no"}) {
		t.Errorf("%q", got)
	}
	if got := failed([]byte("PASS\n")); got != nil {
		t.Errorf("tests that pass: %q", got)
	}
}

// TestGraft: all bugs fit into the tree at once, each in a body of its own, and the compiler
// names the one that it refuses.
func TestGraft(t *testing.T) {
	dir := t.TempDir()
	if _, err := graft("../..", dir, mutations()); err != nil {
		t.Fatal(err)
	}
	texts := ""
	files, err := filepath.Glob(filepath.Join(dir, "graft*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := format.Source(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		texts += string(text)
	}
	for _, m := range mutations() {
		if n := strings.Count(texts, fmt.Sprintf("if gatehousePlanted == %q {", m.name)); n != 1 {
			t.Errorf("%s is %d times in the tree", m.name, n)
		}
	}
	if got := refusedBy([]byte("./planted-no-sync:3:2: undefined: x\n../planted-no-sync:4:2: y\n")); !slices.Equal(got, []string{"no-sync"}) {
		t.Errorf("the compiler refuses %q", got)
	}
}
