package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-edge/gatehouse"

// nestedModules have their own go.mod, so that what they import never enters the
// product's; only the rules of shape hold there.
var nestedModules = []string{"sim/bench/**"}

// source is one parsed Go file.
type source struct {
	path      string // slash-separated, from the module's root
	dir       string // its folder, "" for the root
	file      *ast.File
	fset      *token.FileSet
	isTest    bool
	generated bool
	nested    bool // in a nested module
}

// forTests reports whether the file never gets into the product: a test, or a part of a
// kit of tests such as eventlogtest.
func (s *source) forTests() bool { return s.isTest || isTestKit(s.dir) }

// isTestKit reports whether the folder dir holds a kit of tests by its name: "xtest"
// beside or below x.
func isTestKit(dir string) bool {
	base := path.Base(dir)
	return strings.HasSuffix(base, "test") && base != "test"
}

// at names a place in the source for people.
func (s *source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(pos).Line)
}

// imports yields every import path with its place.
func (s *source) imports(yield func(string, token.Pos) bool) {
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil || p == "C" {
			continue
		}
		if !yield(p, spec.Pos()) {
			return
		}
	}
}

// selectors calls found for each use of one of names of the imported package pkg, under
// whatever name the file imports it. A local variable of that name is no use of it.
func (s *source) selectors(pkg string, names []string, found func(name string, pos token.Pos)) {
	local := ""
	for _, spec := range s.file.Imports {
		if spec.Path.Value != strconv.Quote(pkg) {
			continue
		}
		local = path.Base(pkg)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		if local == "." {
			found("everything, by a dot import", spec.Pos())
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		// Obj is set for what the file itself declares: a variable, not the package.
		if id, ok := sel.X.(*ast.Ident); ok && id.Name == local && id.Obj == nil && slices.Contains(names, sel.Sel.Name) {
			found(sel.Sel.Name, sel.Pos())
		}
		return true
	})
}

// parse reads one file. Parsing happens in this process, so that the test cache sees
// every edit.
func parse(name string, text []byte) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	dir := path.Dir(name)
	if dir == "." {
		dir = ""
	}
	return &source{
		path: name, dir: dir, file: file, fset: fset,
		isTest:    strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(file),
		nested:    within(dir, nestedModules...),
	}, nil
}

// load parses every Go file under root.
func load(t *testing.T, root string) []*source {
	t.Helper()
	var sources []*source
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody's editor or test took it away meanwhile
		}
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir // the go command does not look there either
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), text)
		if err != nil {
			t.Errorf("does not parse: %v", err)
			return nil
		}
		sources = append(sources, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

// within reports whether the folder dir fits one of the patterns: "a/b" is that folder
// alone, "a/b/**" it and everything below.
func within(dir string, patterns ...string) bool {
	for _, p := range patterns {
		if base, deep := strings.CutSuffix(p, "/**"); dir == base || deep && strings.HasPrefix(dir, base+"/") {
			return true
		}
	}
	return false
}

// hasPathPrefix reports whether the import path p is prefix or below it.
func hasPathPrefix(p, prefix string) bool {
	return p == prefix || strings.HasPrefix(p, prefix+"/")
}
