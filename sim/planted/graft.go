package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// wakes is the variable of the environment that names the bug which is awake in a process.
const wakes = "GATEHOUSE_PLANTED"

// graft writes what the go command needs to build with all bugs at once, the tree as it is: a
// file for its flag -overlay, in dir. Each bug sleeps: a function that has one begins with a
// look at which is awake, and goes on in a body of its own if it is its bug. So all is built
// once.
func graft(top, dir string, all []mutation) (string, error) {
	files := map[string][]*mutation{}
	for i := range all {
		files[all[i].file] = append(files[all[i].file], &all[i])
	}
	replace, number := map[string]string{}, 0
	put := func(at string, text []byte) error {
		number++
		file := filepath.Join(dir, fmt.Sprintf("graft%d.go", number))
		replace[filepath.Join(top, at)] = file
		return os.WriteFile(file, text, 0o600)
	}
	for file, bugs := range files {
		text, pkg, err := grafted(top, file, bugs)
		if err != nil {
			return "", err
		}
		eye := fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar gatehousePlanted = os.Getenv(%q)\n", pkg, wakes)
		if err := cmp.Or(put(file, text), put(filepath.Join(filepath.Dir(file), "gatehouse_planted.go"), []byte(eye))); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, "overlay.json")
	return at, os.WriteFile(at, list, 0o600)
}

// grafted is a file with the bugs that are for it.
func grafted(top, file string, bugs []*mutation) (text []byte, pkg string, err error) {
	source, err := os.ReadFile(filepath.Join(top, file))
	if err != nil {
		return nil, "", err
	}
	whole, err := parsed(source)
	if err != nil {
		return nil, "", err
	}
	type scion struct {
		at   int
		text string
	}
	var scions []scion
	for _, m := range bugs {
		planted, err := m.plant(top)
		if err != nil {
			return nil, "", err
		}
		with, err := parsed(planted)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", m.name, err)
		}
		was := whole.function(span(source, planted))
		now := with.function(span(planted, source))
		if was == nil || now == nil || was.Name.Name != now.Name.Name {
			return nil, "", fmt.Errorf("%s: it is not within the body of one function", m.name)
		}
		from, to := with.offset(now.Body.Lbrace)+1, with.offset(now.Body.Rbrace)
		end := ""
		if was.Type.Results == nil {
			end = "return\n"
		}
		scions = append(scions, scion{whole.offset(was.Body.Lbrace) + 1,
			fmt.Sprintf("\nif gatehousePlanted == %q {\n//line %s%s:1\n%s\n%s}\n", m.name, lineMark, m.name, planted[from:to], end)})
	}
	slices.SortStableFunc(scions, func(a, b scion) int { return cmp.Compare(b.at, a.at) }) // the last first
	for _, s := range scions {
		source = slices.Insert(source, s.at, []byte(s.text)...)
	}
	return source, whole.tree.Name.Name, nil
}

// lineMark is what the lines of a bug are said to be of, for the compiler to say so.
const lineMark = "planted-"

var refused = regexp.MustCompile(lineMark + `([a-z0-9-]+):\d+`)

// refusedBy are the bugs that the compiler does not take.
func refusedBy(out []byte) (names []string) {
	for _, m := range refused.FindAllSubmatch(out, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// syntax is a file as the parser sees it.
type syntax struct {
	set  *token.FileSet
	tree *ast.File
}

func parsed(source []byte) (syntax, error) {
	s := syntax{set: token.NewFileSet()}
	var err error
	s.tree, err = parser.ParseFile(s.set, "", source, parser.SkipObjectResolution)
	return s, err
}

func (s *syntax) offset(p token.Pos) int { return s.set.Position(p).Offset }

// function is the one that has all of the text from from to to in its body; nil: none.
func (s *syntax) function(from, to int) *ast.FuncDecl {
	for _, d := range s.tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && s.offset(f.Body.Lbrace) < from && to <= s.offset(f.Body.Rbrace) {
			return f
		}
	}
	return nil
}

// span is where a differs from b.
func span(a, b []byte) (from, to int) {
	n := min(len(a), len(b))
	for from < n && a[from] == b[from] {
		from++
	}
	tail := 0
	for tail < n-from && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return from, len(a) - tail
}

// without drops those of names.
func without(all []mutation, names []string) []mutation {
	return slices.DeleteFunc(slices.Clone(all), func(m mutation) bool { return slices.Contains(names, m.name) })
}

// pkgOf is the folder of a package, as the go command wants it, in words for a file.
func pkgOf(pkg string) string { return strings.NewReplacer("./", "", "/", "-").Replace(pkg) + ".test" }
