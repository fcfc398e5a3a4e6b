package arch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rule is one check over the whole tree.
type rule struct {
	name  string
	check func(sources []*source, report reporter)
}

// perFile makes a check of one file a check of all.
func perFile(check func(*source, reporter)) func([]*source, reporter) {
	return func(sources []*source, report reporter) {
		for _, s := range sources {
			check(s, report)
		}
	}
}

// rules are all that look at sources; TestTopLevel looks at the root's entries.
var rules = []rule{
	{"direction", perFile(checkDirection)},
	{"homes", perFile(checkHomes)},
	{"pure", perFile(checkPure)},
	{"clock", perFile(checkClock)},
	{"signing", perFile(checkSigning)},
	{"shell", perFile(checkShell)},
	{"docs", perFile(checkDocs)},
	{"package comments", checkPackageComments},
	{"size", perFile(checkSize)},
}

// findings runs a rule and returns what it has to say, sorted.
func findings(r rule, sources []*source) []string {
	var list []string
	r.check(sources, func(at, what, reason string) { list = append(list, at+": "+what+": "+reason) })
	slices.Sort(list)
	return list
}

const root = "../../.."

// TestArchitecture holds the project against the rules.
func TestArchitecture(t *testing.T) {
	sources := load(t, root)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range findings(r, sources) {
				t.Error(f)
			}
		})
	}
}

// TestTopLevel holds the root's entries against the layout.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	ignore, err := os.ReadFile(root + "/.gitignore")
	if err != nil {
		t.Fatal(err)
	}
	checkTopLevel(names, strings.Fields(string(ignore)), func(at, what, reason string) { t.Errorf("%s %s: %s", at, what, reason) })
}

// TestNoCgo: the daemon builds without a C compiler, and what it does with memory is Go's
// to check. The standard library has its own replacements.
func TestNoCgo(t *testing.T) {
	list := func(pkg string) string {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{if and .CgoFiles (not .Standard)}}cgo{{end}}", pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		return string(out)
	}
	deps := list(root + "/cmd/gatehouse")
	if !strings.Contains(deps, "dgraph-io/badger") {
		t.Fatalf("not the program's packages:\n%s", deps)
	}
	for line := range strings.Lines(deps) {
		if pkg, cgo := strings.CutSuffix(strings.TrimSpace(line), " cgo"); cgo {
			t.Errorf("%s needs cgo: put it behind a program of its own, as cmd/gatehouse-pkcs11 is", pkg)
		}
	}
}
