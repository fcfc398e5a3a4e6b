package fault

import (
	"bytes"
	_ "embed" // the schema
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// Schema is the JSON Schema (2020-12) of a script, for editors and for documents that
// hold one. Parse is stricter where a schema cannot follow.
//
//go:embed fault.schema.json
var Schema []byte

// DocumentBytesMax bounds a script's document.
const DocumentBytesMax = 1 << 20

// problemsMax bounds what is told of one document.
const problemsMax = 20

// Parse reads a script, in JSON or YAML. Errors, policy.ErrorsOf, say where and what.
func Parse(doc []byte) (Script, error) {
	root, err := policy.ReadDocument(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")), DocumentBytesMax, "split it, or use mangle: oversized for a long body")
	if err != nil {
		return Script{}, err
	}
	r := &reader{}
	var s Script
	r.mapping(root, "", map[string]func(*yaml.Node, string){
		"seed":   func(n *yaml.Node, path string) { s.Seed = r.seed(n, path) },
		"faults": func(n *yaml.Node, path string) { s.Faults = r.faults(n, path) },
	})
	if root.Kind == yaml.MappingNode && s.Faults == nil && len(r.problems) == 0 {
		r.fail(policy.KindMissing, root, "faults", "there are none", "write faults: [] to end all")
	}
	if len(r.problems) > 0 {
		return Script{}, r.problems
	}
	return s, nil
}

// ParseFaults reads the value of a key "faults" inside another document, whose reader has
// refused what policy.ReadDocument refuses; path is the key's, for errors.
func ParseFaults(n *yaml.Node, path string) ([]Fault, policy.Errors) {
	r := &reader{}
	return r.faults(n, path), r.problems
}

type reader struct{ problems policy.Errors }

func (r *reader) fail(kind policy.Kind, n *yaml.Node, path, problem, hint string) {
	if len(r.problems) < problemsMax {
		r.problems = append(r.problems, &policy.Error{Kind: kind, Line: n.Line, Column: n.Column, Path: path, Msg: problem, Hint: hint})
	}
}

// mapping reads n, whose keys are those of read, each at most once. It returns where the
// values are.
func (r *reader) mapping(n *yaml.Node, path string, read map[string]func(*yaml.Node, string)) map[string]*yaml.Node {
	places := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, "a mapping is wanted here", "")
		return places
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		known, ok := read[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			var names []string
			for name := range read {
				names = append(names, name)
			}
			slices.Sort(names)
			r.fail("unknown-key", key, fmt.Sprintf("%.100s", at), "unknown key", "known here: "+strings.Join(names, ", "))
		case places[key.Value] != nil:
			r.fail(policy.KindDuplicate, key, at, "this key was given before", "remove one of the two")
		default:
			places[key.Value] = value
			known(value, at)
		}
	}
	return places
}

func (r *reader) faults(n *yaml.Node, path string) []Fault {
	switch {
	case n.Kind != yaml.SequenceNode:
		r.fail(policy.KindType, n, path, "a list of faults is wanted here", "")
		return nil
	case len(n.Content) > FaultsMax:
		r.fail(policy.KindLimit, n, path, fmt.Sprintf("%d faults, at most %d", len(n.Content), FaultsMax), "")
		return nil
	}
	all := make([]Fault, 0, len(n.Content))
	for i, item := range n.Content {
		all = append(all, r.fault(item, fmt.Sprintf("%s[%d]", path, i)))
	}
	return all
}

func (r *reader) fault(n *yaml.Node, path string) Fault {
	var f Fault
	before := len(r.problems)
	places := r.mapping(n, path, map[string]func(*yaml.Node, string){
		"operation":   func(n *yaml.Node, path string) { f.Operation = cloudsync.Operation(r.text(n, path)) },
		"skip":        func(n *yaml.Node, path string) { f.Skip = r.integer(n, path) },
		"every":       func(n *yaml.Node, path string) { f.Every = r.integer(n, path) },
		"count":       func(n *yaml.Node, path string) { f.Count = r.integer(n, path) },
		"probability": func(n *yaml.Node, path string) { f.Probability = r.number(n, path) },
		"latency":     func(n *yaml.Node, path string) { f.Latency = r.duration(n, path) },
		"dateSkew":    func(n *yaml.Node, path string) { f.DateSkew = r.duration(n, path) },
		"header":      func(n *yaml.Node, path string) { f.Header = r.header(n, path) },
		"status":      func(n *yaml.Node, path string) { f.Status = r.integer(n, path) },
		"errorType":   func(n *yaml.Node, path string) { f.ErrorType = r.text(n, path) },
		"retryAfter":  func(n *yaml.Node, path string) { f.RetryAfter = r.duration(n, path) },
		"body":        func(n *yaml.Node, path string) { f.Body = r.text(n, path) },
		"contentType": func(n *yaml.Node, path string) { f.ContentType = r.text(n, path) },
		"drop":        func(n *yaml.Node, path string) { f.Drop = r.boolean(n, path) },
		"blackhole":   func(n *yaml.Node, path string) { f.Blackhole = r.boolean(n, path) },
		"truncate":    func(n *yaml.Node, path string) { f.Truncate = r.boolean(n, path) },
		"mangle":      func(n *yaml.Node, path string) { f.Mangle = Mangle(r.text(n, path)) },
		"page":        func(n *yaml.Node, path string) { f.Page = Page(r.text(n, path)) },
		"tls":         func(n *yaml.Node, path string) { f.TLS = TLS(r.text(n, path)) },
	})
	if len(r.problems) > before {
		return f
	}
	if p := f.problem(); p != nil {
		at := n
		if places[p.field] != nil {
			at = places[p.field]
		}
		r.fail("value", at, path+"."+p.field, p.text, "")
	} else if !f.acts() {
		r.fail(policy.KindMissing, n, path, "this fault does nothing", "give it an effect, or remove it")
	}
	return f
}

// scalar returns the text of a value of one of the tags; what words the error.
func (r *reader) scalar(n *yaml.Node, path, what string, tags ...string) (string, bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.ShortTag()) {
		r.fail(policy.KindType, n, path, what+" is wanted here", "")
		return "", false
	}
	return n.Value, true
}

func (r *reader) text(n *yaml.Node, path string) string {
	s, ok := r.scalar(n, path, "text", "!!str")
	if ok && s == "" {
		r.fail("value", n, path, "empty", "leave the key out")
	}
	return s
}

func (r *reader) boolean(n *yaml.Node, path string) bool {
	s, ok := r.scalar(n, path, "true", "!!bool")
	if ok && !strings.EqualFold(s, "true") {
		r.fail("value", n, path, fmt.Sprintf("%q", s), "write true, or leave the key out")
	}
	return ok
}

func (r *reader) integer(n *yaml.Node, path string) int {
	s, ok := r.scalar(n, path, "a whole number", "!!int")
	value, err := strconv.Atoi(s)
	if ok && (err != nil || value == 0) {
		r.fail("value", n, path, fmt.Sprintf("%.40q, want a decimal number that is not 0", s), "")
	}
	return value
}

func (r *reader) seed(n *yaml.Node, path string) uint64 {
	s, ok := r.scalar(n, path, "a whole number", "!!int")
	value, err := strconv.ParseUint(s, 10, 64)
	if ok && err != nil {
		r.fail("value", n, path, fmt.Sprintf("%.40q, want a decimal number, 0 to 2^64-1", s), "")
	}
	return value
}

func (r *reader) number(n *yaml.Node, path string) float64 {
	s, ok := r.scalar(n, path, "a number", "!!int", "!!float")
	value, err := strconv.ParseFloat(s, 64)
	if ok && (err != nil || value <= 0) {
		r.fail("value", n, path, fmt.Sprintf("%.40q, want a number above 0", s), "")
	}
	return value
}

func (r *reader) duration(n *yaml.Node, path string) time.Duration {
	s, ok := r.scalar(n, path, `a duration such as "1.5s"`, "!!str")
	value, err := time.ParseDuration(s)
	if ok && (err != nil || value == 0) {
		r.fail("value", n, path, fmt.Sprintf("%.40q is no duration above 0", s), "write it with its unit: 200ms, 3s, 5m")
	}
	return value
}

func (r *reader) header(n *yaml.Node, path string) map[string]string {
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, "a mapping of names to values is wanted here", "")
		return nil
	}
	header := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if _, twice := header[key.Value]; twice || key.Kind != yaml.ScalarNode {
			r.fail(policy.KindDuplicate, key, path, "each header once, by its name", "")
		}
		header[key.Value], _ = r.scalar(n.Content[i+1], path+"."+fmt.Sprintf("%.60s", key.Value), "text", "!!str")
	}
	return header
}
