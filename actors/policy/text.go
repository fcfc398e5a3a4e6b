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

// depthMax bounds how deep a document nests; a policy needs seven levels, the deepest
// configuration eight.
const depthMax = 32

// ReadDocument turns doc, at most maxBytes of YAML or JSON in UTF-8, into a tree of values
// without anchors, aliases and explicit tags. The tree has the shape of yaml.Node whether
// doc was YAML or JSON, so that there is one reader: of policies, of the configuration,
// and of a policy inside it. JSON is read by a JSON parser: YAML is nearly a superset of
// it, and the rest (tabs, surrogate escapes) would be refused or, worse, understood in
// another way. An empty document is a yaml.DocumentNode without content. The error is an
// *Error; tooLong is its hint for a document that is too long.
func ReadDocument(doc []byte, maxBytes int, tooLong string) (*yaml.Node, error) {
	if len(doc) > maxBytes {
		return nil, &Error{Kind: KindLimit, Msg: fmt.Sprintf("the document has %d bytes, %d are allowed", len(doc), maxBytes), Hint: tooLong}
	}
	if err := checkText(doc); err != nil {
		return nil, err
	}
	if json.Valid(doc) {
		return readJSON(doc)
	}
	node, err := readYAML(doc)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == KindSyntax && bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("{")) {
		return nil, jsonError(doc, e)
	}
	return node, err
}

// checkText refuses what no text file holds, before a parser guesses at it.
func checkText(doc []byte) error {
	for at := 0; at < len(doc); {
		r, size := utf8.DecodeRune(doc[at:])
		switch {
		case r == utf8.RuneError && size <= 1:
			line, column := position(doc, at)
			return &Error{Kind: KindSyntax, Line: line, Column: column, Msg: fmt.Sprintf("byte 0x%02x is not UTF-8", doc[at]), Hint: "save the file as UTF-8 (UTF-16 is not read)"}
		case r == 0:
			line, column := position(doc, at)
			return &Error{Kind: KindSyntax, Line: line, Column: column, Msg: "a NUL byte", Hint: "save the file as UTF-8 text"}
		}
		at += size
	}
	return nil
}

// position gives the line and column (in characters, from 1) of doc[at].
func position(doc []byte, at int) (line, column int) {
	before := doc[:min(at, len(doc))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// readYAML reads exactly one document.
func readYAML(doc []byte) (node *yaml.Node, err error) {
	// The library has reported malformed input by panics beyond its own recovery
	// (CVE-2022-28948); a document must not be able to stop the process.
	defer func() {
		if p := recover(); p != nil {
			node, err = nil, &Error{Kind: KindSyntax, Msg: "the document cannot be read as YAML", Hint: "write it as JSON"}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.DocumentNode, Line: 1, Column: 1}, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, &Error{Kind: KindUnsupported, Line: second.Line, Column: second.Column, Msg: "a second YAML document begins here",
			Hint: `keep one, and remove "---"`}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return root.Content[0], refuse(root.Content[0], 0)
}

func yamlError(err error) *Error {
	match := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, _ := strconv.Atoi(match[1]) // absent: 0, "somewhere"
	return &Error{Kind: KindSyntax, Line: line, Msg: "not YAML: " + match[2], Hint: "check indentation (spaces, not tabs), colons and quotes here and on the line before"}
}

// refuse looks for what makes one text stand for another: anchors and aliases (a few
// lines can name billions of values), merge keys, explicit tags.
func refuse(n *yaml.Node, depth int) error {
	e := &Error{Kind: KindUnsupported, Line: n.Line, Column: n.Column}
	switch {
	case depth > depthMax:
		e.Kind, e.Msg = KindLimit, fmt.Sprintf("nested deeper than %d levels", depthMax)
		return e
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge":
		e.Msg, e.Hint = "YAML anchors, aliases and merge keys are not supported", "write the value out"
		return e
	case n.Style&yaml.TaggedStyle != 0:
		e.Msg, e.Hint = fmt.Sprintf("the YAML tag %.40q is not supported", n.Tag), "remove it"
		return e
	}
	for _, child := range n.Content {
		if err := refuse(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// jsonReader reads JSON into yaml nodes, so that pasted JSON is judged by JSON's
// rules ("\ud83d\ude00" is one character, 1e3 a number) and still has positions. It walks
// along the document once: a megabyte on one line must not be counted anew for each token.
type jsonReader struct {
	doc          []byte
	decoder      *json.Decoder
	at           int // line and column are of this byte
	line, column int
}

func readJSON(doc []byte) (*yaml.Node, error) {
	r := &jsonReader{doc: doc, decoder: json.NewDecoder(bytes.NewReader(doc)), line: 1, column: 1}
	r.decoder.UseNumber()
	return r.value(0)
}

// walk goes on by one byte.
func (r *jsonReader) walk() {
	switch c := r.doc[r.at]; {
	case c == '\n':
		r.line, r.column = r.line+1, 1
	case utf8.RuneStart(c):
		r.column++
	}
	r.at++
}

// next returns the next token and a node at its place.
func (r *jsonReader) next() (json.Token, *yaml.Node, error) {
	for r.at < len(r.doc) && strings.IndexByte(" \t\r\n,:", r.doc[r.at]) >= 0 {
		r.walk()
	}
	node := &yaml.Node{Line: r.line, Column: r.column}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, nil, fmt.Errorf("read JSON: %w", err)
	}
	for end := int(r.decoder.InputOffset()); r.at < end; {
		r.walk()
	}
	return token, node, nil
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, node, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > depthMax {
		return nil, &Error{Kind: KindLimit, Line: node.Line, Column: node.Column, Msg: fmt.Sprintf("nested deeper than %d levels", depthMax)}
	}
	node.Kind = yaml.ScalarNode
	switch t := token.(type) {
	case json.Delim:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
		}
		for r.decoder.More() { // a key is a value too
			child, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, child)
		}
		_, _, err = r.next() // the closing bracket
	case json.Number:
		node.Tag, node.Value = "!!int", t.String()
		if strings.ContainsAny(node.Value, ".eE") {
			node.Tag = "!!float"
		}
	case string:
		node.Tag, node.Value = "!!str", t
	case bool:
		node.Tag, node.Value = "!!bool", strconv.FormatBool(t)
	case nil:
		node.Tag, node.Value = "!!null", "null"
	}
	return node, err
}

// jsonError explains a document that looks like JSON and is neither JSON nor YAML in
// JSON's words.
func jsonError(doc []byte, otherwise error) error {
	var any json.RawMessage
	syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(doc, &any))
	if !ok {
		return otherwise
	}
	line, column := position(doc, int(syntax.Offset)-1)
	return &Error{Kind: KindSyntax, Line: line, Column: column, Msg: "not JSON: " + syntax.Error(), Hint: "check quotes, commas and brackets just before this place"}
}
