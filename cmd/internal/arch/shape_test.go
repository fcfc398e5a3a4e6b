package arch

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// The bounds of shape, in lines. style.md asks for less; these are where it ends.
const (
	fileLinesMax     = 600
	functionLinesMax = 80
)

// checkSize finds files and functions that have grown too long to be read at once.
func checkSize(s *source, report reporter) {
	if s.generated {
		return
	}
	if n := s.fset.File(s.file.Package).LineCount(); n > fileLinesMax {
		report(s.path, fmt.Sprintf("%d lines", n), fmt.Sprintf("a file holds one noun and has at most %d lines", fileLinesMax))
	}
	if s.isTest {
		return
	}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > functionLinesMax {
			report(s.at(f.Pos()), fmt.Sprintf("func %s has %d lines", f.Name.Name, n), fmt.Sprintf("a function fits on a screen: at most %d lines", functionLinesMax))
		}
	}
}

// checkDocs finds exported names without a comment.
func checkDocs(s *source, report reporter) {
	if s.generated || s.isTest {
		return
	}
	missing := func(n ast.Node, name string) {
		report(s.at(n.Pos()), name+" has no comment", "exported names say what the caller gets and what the caller owes")
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if name, exported := funcName(d); exported && blank(d.Doc) {
				missing(d, name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				// A group's comment speaks for its constants and variables, not for types.
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() && blank(spec.Doc) && (d.Lparen.IsValid() || blank(d.Doc)) {
						missing(spec, spec.Name.Name)
					}
				case *ast.ValueSpec:
					i := slices.IndexFunc(spec.Names, (*ast.Ident).IsExported)
					if i >= 0 && blank(spec.Doc) && blank(spec.Comment) && blank(d.Doc) {
						missing(spec, spec.Names[i].Name)
					}
				}
			}
		}
	}
}

// funcName names a function or method, and reports whether others can call it.
func funcName(d *ast.FuncDecl) (string, bool) {
	if d.Recv == nil {
		return d.Name.Name, d.Name.IsExported()
	}
	typ := d.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t.Name + "." + d.Name.Name, t.IsExported() && d.Name.IsExported()
		default:
			return d.Name.Name, d.Name.IsExported()
		}
	}
}

func blank(doc *ast.CommentGroup) bool { return doc == nil || strings.TrimSpace(doc.Text()) == "" }

// checkPackageComments finds packages that nobody introduces.
func checkPackageComments(sources []*source, report reporter) {
	type pkg struct{ dir, name string }
	documented := map[pkg]bool{}
	for _, s := range sources {
		if s.isTest && strings.HasSuffix(s.file.Name.Name, "_test") {
			continue // an external test belongs to the package beside it
		}
		word := "Package "
		if s.file.Name.Name == "main" {
			word = "Command "
		}
		p := pkg{s.dir, s.file.Name.Name}
		documented[p] = documented[p] || !s.isTest && s.file.Doc != nil && strings.HasPrefix(s.file.Doc.Text(), word)
	}
	for p, ok := range documented {
		if !ok {
			report(p.dir, "package "+p.name+" has no comment that begins with Package or Command", "the sentence that explains a package is written first")
		}
	}
}

// topLevel is all that may stand at the root (design.md, section 2).
var topLevel = []string{
	"actors", "messages", "eventlog", "projections", "cloudsync", "cmd", "sim",
	"go.mod", "go.sum", "ARCHITECTURE.md", "README.md", "CHANGELOG.md", "LICENSE",
	".ci", ".golangci.yml", ".gitignore", ".git",
}

// checkTopLevel finds entries at the root that are not of the layout. What .gitignore
// names is a build's product or an editor's, not the project's.
func checkTopLevel(names []string, ignored []string, report reporter) {
	for _, name := range names {
		if slices.Contains(topLevel, name) || slices.ContainsFunc(ignored, func(pattern string) bool {
			ok, err := path.Match(strings.TrimPrefix(pattern, "/"), name)
			return ok && err == nil
		}) {
			continue
		}
		report(name, "is not of the layout", "the top level is fixed: a new part is a package inside one of its folders")
	}
}
