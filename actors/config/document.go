package config

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

// Limits of a document. They bound what a hostile or broken file can cost before it
// is refused.
const (
	DocumentBytesMax = 1 << 20 // a file of the largest policy (512 KiB) and room beside it
	nodesMax         = 1 << 17 // values after aliases are expanded: a YAML bomb stops here
	depthMax         = 32      // the deepest legal path has 8 levels
)

var utf8BOM = []byte("\xef\xbb\xbf")

// readDocument turns doc into a tree of values without aliases. The tree has the
// shape of yaml.Node whether doc was YAML or JSON, so that there is one reader. An
// empty document is an empty mapping.
func readDocument(doc []byte) (*yaml.Node, error) {
	if len(doc) > DocumentBytesMax {
		return nil, &Error{Problem: fmt.Sprintf("the document has %d bytes, %d are allowed", len(doc), DocumentBytesMax),
			Hint: "move the device groups to a file of their own (policyFile)"}
	}
	doc = bytes.TrimPrefix(doc, utf8BOM) // editors on Windows write one; it means nothing in UTF-8
	if err := checkText(doc); err != nil {
		return nil, err
	}
	if json.Valid(doc) {
		return readJSON(doc)
	}
	node, err := readYAML(doc)
	if err != nil && bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("{")) {
		return nil, jsonError(doc, err)
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
			return &Error{Line: line, Column: column, Problem: fmt.Sprintf("byte 0x%02x is not UTF-8", doc[at]), Hint: "save the file as UTF-8 (UTF-16 is not read)"}
		case r == 0:
			line, column := position(doc, at)
			return &Error{Line: line, Column: column, Problem: "a NUL byte", Hint: "save the file as UTF-8 text"}
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

func readYAML(doc []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	var root yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		return nil, &Error{Line: second.Line, Column: second.Column, Problem: "a second YAML document",
			Expected: "one document", Hint: "remove the line \"---\" and what follows it"}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	left := nodesMax
	return expand(root.Content[0], 0, &left)
}

func yamlError(err error) *Error {
	match := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, _ := strconv.Atoi(match[1]) // absent: 0, "somewhere"
	return &Error{Line: line, Problem: "not YAML: " + match[2], Hint: "check indentation (spaces, not tabs), colons and quotes near this line"}
}

// expand copies n with every alias replaced by what it names. left counts the nodes
// that may still be made: a few lines of nested aliases can name billions.
func expand(n *yaml.Node, depth int, left *int) (*yaml.Node, error) {
	if *left--; *left < 0 {
		return nil, &Error{Line: n.Line, Column: n.Column, Problem: fmt.Sprintf("more than %d values once aliases are expanded", nodesMax)}
	}
	if depth > depthMax { // also ends an alias inside its own anchor
		return nil, &Error{Line: n.Line, Column: n.Column, Problem: fmt.Sprintf("nested deeper than %d levels", depthMax)}
	}
	if n.Kind == yaml.AliasNode {
		return expand(n.Alias, depth+1, left)
	}
	out := &yaml.Node{Kind: n.Kind, Tag: n.ShortTag(), Value: n.Value, Line: n.Line, Column: n.Column}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.ShortTag() == "!!merge" {
			return nil, &Error{Line: child.Line, Column: child.Column, Problem: "a merge key (<<)", Hint: "write the keys out, or use an alias for the whole value"}
		}
		c, err := expand(child, depth+1, left)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, c)
	}
	return out, nil
}

// jsonReader reads JSON into yaml nodes, so that pasted JSON is judged by JSON's
// rules ("\ud83d\ude00" is one character, 1e3 a number) and still has positions.
type jsonReader struct {
	doc     []byte
	decoder *json.Decoder
	at      int // offset behind the last token
	line    int // the line of at, from 1
	start   int // offset of that line's first byte
	left    int
}

func readJSON(doc []byte) (*yaml.Node, error) {
	r := &jsonReader{doc: doc, decoder: json.NewDecoder(bytes.NewReader(doc)), line: 1, left: nodesMax}
	r.decoder.UseNumber()
	return r.value(0)
}

// next returns the next token and a node at its place.
func (r *jsonReader) next() (json.Token, *yaml.Node, error) {
	for ; r.at < len(r.doc) && strings.IndexByte(" \t\r\n,:", r.doc[r.at]) >= 0; r.at++ {
		if r.doc[r.at] == '\n' {
			r.line, r.start = r.line+1, r.at+1
		}
	}
	node := &yaml.Node{Line: r.line, Column: 1 + utf8.RuneCount(r.doc[r.start:r.at])}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, nil, fmt.Errorf("read JSON: %w", err)
	}
	r.at = int(r.decoder.InputOffset())
	return token, node, nil
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, node, err := r.next()
	if err != nil {
		return nil, err
	}
	if r.left--; r.left < 0 || depth > depthMax {
		return nil, &Error{Line: node.Line, Column: node.Column, Problem: fmt.Sprintf("more than %d values, or nested deeper than %d levels", nodesMax, depthMax)}
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
	return &Error{Line: line, Column: column, Problem: "not JSON: " + syntax.Error(), Hint: "check quotes, commas and brackets just before this place"}
}
