package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// depthMax bounds how deep a document nests; a policy needs seven levels.
const depthMax = 32

// A node is a value of a JSON or YAML document with its place.
type node struct {
	kind         nodeKind
	text         string  // of a scalar, as written, without quotes and escapes
	entries      []entry // of a mapping, in order, duplicates included
	items        []*node // of a sequence
	line, column int
	index        int // in the list that holds it
}

type entry struct {
	key   *node
	value *node
}

type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeScalar
	nodeMapping
	nodeSequence
)

func (k nodeKind) String() string {
	switch k {
	case nodeScalar:
		return "a text"
	case nodeMapping:
		return "an object"
	case nodeSequence:
		return "a list"
	default:
		return "nothing"
	}
}

// readDocument turns the bytes of a JSON or YAML document into a node. JSON is read by a
// JSON parser: YAML is nearly a superset of it, and the rest (tabs, surrogate escapes)
// would be refused or, worse, understood in another way.
func readDocument(doc []byte) (*node, *Error) {
	if err := checkText(doc); err != nil {
		return nil, err
	}
	if json.Valid(doc) {
		r := jsonReader{dec: json.NewDecoder(bytes.NewReader(doc)), doc: doc, line: 1, column: 1}
		r.dec.UseNumber()
		return r.value(0)
	}
	n, err := readYAML(doc)
	if err != nil && err.Kind == KindSyntax && bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
		return nil, jsonSyntaxError(doc)
	}
	return n, err
}

func checkText(doc []byte) *Error {
	switch {
	case len(doc) > MaxDocumentBytes:
		return &Error{Kind: KindLimit, Msg: fmt.Sprintf("the document has %d bytes, want at most %d", len(doc), MaxDocumentBytes),
			Hint: "join statements, or replace lists of resources by patterns with '*'"}
	case bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")), bytes.HasPrefix(doc, []byte("\xff\xfe")), bytes.HasPrefix(doc, []byte("\xfe\xff")):
		return &Error{Kind: KindSyntax, Line: 1, Column: 1, Msg: "the document begins with a byte order mark", Hint: "save it as UTF-8 without one"}
	case !utf8.Valid(doc):
		at := 0
		for r, size := utf8.DecodeRune(doc); r != utf8.RuneError || size > 1; r, size = utf8.DecodeRune(doc[at:]) {
			at += size
		}
		line, column := position(doc, at)
		return &Error{Kind: KindSyntax, Line: line, Column: column, Msg: "the document is not UTF-8 text", Hint: "save it as UTF-8"}
	}
	return nil
}

// position turns an offset into line and column, both from 1.
func position(doc []byte, offset int) (line, column int) {
	before := doc[:min(max(offset, 0), len(doc))]
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}

func jsonSyntaxError(doc []byte) *Error {
	err := json.Unmarshal(doc, new(any))
	e := &Error{Kind: KindSyntax, Msg: "the document is not valid JSON", Hint: "mend the JSON here, or just before"}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		e.Line, e.Column = position(doc, int(syntax.Offset)-1)
		e.Msg += ": " + syntax.Error()
	}
	return e
}

// A jsonReader builds nodes from a document that json.Valid has accepted, so that only
// its limits are left to check. It walks along the document to know each token's place.
type jsonReader struct {
	dec          *json.Decoder
	doc          []byte
	offset       int // line and column are of this byte
	line, column int
}

// place returns the line and column of the token that begins at or after from.
func (r *jsonReader) place(from int) (line, column int) {
	for r.offset < len(r.doc) {
		c := r.doc[r.offset]
		if r.offset >= from && strings.IndexByte(" \t\r\n,:", c) < 0 {
			break
		}
		r.offset++
		if c == '\n' {
			r.line, r.column = r.line+1, 1
		} else if utf8.RuneStart(c) {
			r.column++
		}
	}
	return r.line, r.column
}

func (r *jsonReader) value(depth int) (*node, *Error) {
	n := &node{}
	n.line, n.column = r.place(int(r.dec.InputOffset()))
	if depth > depthMax {
		return nil, tooDeep(n)
	}
	token, err := r.dec.Token()
	if err != nil {
		return nil, &Error{Kind: KindSyntax, Line: n.line, Column: n.column, Msg: "the document is not valid JSON: " + err.Error()}
	}
	switch v := token.(type) {
	case nil:
	case json.Delim:
		return n, r.container(n, v, depth)
	default:
		n.kind, n.text = nodeScalar, fmt.Sprint(v)
	}
	return n, nil
}

func (r *jsonReader) container(n *node, open json.Delim, depth int) *Error {
	n.kind = nodeSequence
	if open == '{' {
		n.kind = nodeMapping
	}
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if n.kind == nodeSequence {
			n.items = append(n.items, v)
			continue
		}
		e := entry{key: v}
		if e.value, err = r.value(depth + 1); err != nil {
			return err
		}
		n.entries = append(n.entries, e)
	}
	if _, err := r.dec.Token(); err != nil {
		return &Error{Kind: KindSyntax, Line: n.line, Column: n.column, Msg: "the document is not valid JSON: " + err.Error()}
	}
	return nil
}

func tooDeep(n *node) *Error {
	return &Error{Kind: KindLimit, Line: n.line, Column: n.column, Msg: fmt.Sprintf("values nest deeper than %d levels", depthMax),
		Hint: "a policy needs no more than seven"}
}

// readYAML reads exactly one document.
func readYAML(doc []byte) (n *node, failure *Error) {
	// The library reports some malformed input by panicking beyond its own recovery
	// (CVE-2022-28948 was one such); a document must not be able to stop the process.
	defer func() {
		if p := recover(); p != nil {
			n, failure = nil, &Error{Kind: KindSyntax, Msg: "the document cannot be read as YAML", Hint: "write it as JSON"}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	var root, second yaml.Node
	if err := dec.Decode(&root); errors.Is(err, io.EOF) {
		return &node{line: 1, column: 1}, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &Error{Kind: KindUnsupported, Line: second.Line, Column: second.Column, Msg: "a second YAML document begins here", Hint: `keep one, and remove "---"`}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return fromYAML(&root, 0)
}

var yamlErrorForm = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func yamlError(err error) *Error {
	e := &Error{Kind: KindSyntax, Msg: "the document is not valid YAML: " + err.Error(), Hint: "look at indentation, quotes and brackets here and on the line before"}
	if m := yamlErrorForm.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Msg = "the document is not valid YAML: " + m[2]
	}
	return e
}

// fromYAML converts a node and refuses what makes one text stand for another: anchors,
// aliases and merge keys (a small document can expand without end), and explicit tags.
func fromYAML(y *yaml.Node, depth int) (*node, *Error) {
	if y.Kind == yaml.DocumentNode {
		if len(y.Content) != 1 {
			return &node{line: 1, column: 1}, nil
		}
		y = y.Content[0]
	}
	n := &node{line: y.Line, column: y.Column}
	switch unsupported := (&Error{Kind: KindUnsupported, Line: y.Line, Column: y.Column}); {
	case depth > depthMax:
		return nil, tooDeep(n)
	case y.Kind == yaml.AliasNode || y.Anchor != "" || y.Kind == yaml.ScalarNode && y.ShortTag() == "!!merge":
		unsupported.Msg, unsupported.Hint = "YAML anchors, aliases and merge keys are not supported in a policy", "write the value out"
		return nil, unsupported
	case y.Style&yaml.TaggedStyle != 0:
		unsupported.Msg, unsupported.Hint = fmt.Sprintf("the YAML tag %.40q is not supported in a policy", y.Tag), "remove it"
		return nil, unsupported
	}
	switch y.Kind {
	case yaml.ScalarNode:
		if y.ShortTag() != "!!null" {
			n.kind, n.text = nodeScalar, y.Value
		}
		return n, nil
	case yaml.MappingNode:
		n.kind = nodeMapping
	case yaml.SequenceNode:
		n.kind = nodeSequence
	}
	return n, n.addYAML(y.Content, depth)
}

func (n *node) addYAML(content []*yaml.Node, depth int) *Error {
	var key *node
	for i, c := range content {
		child, err := fromYAML(c, depth+1)
		switch {
		case err != nil:
			return err
		case n.kind == nodeSequence:
			n.items = append(n.items, child)
		case i%2 == 1:
			n.entries = append(n.entries, entry{key, child})
		case child.kind != nodeScalar:
			return &Error{Kind: KindType, Line: child.line, Column: child.column, Msg: "a name is expected before the ':', found " + child.kind.String(), Hint: "put the name in quotes"}
		default:
			key = child
		}
	}
	return nil
}
