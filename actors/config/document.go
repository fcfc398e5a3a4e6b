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

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Limits of a document. They bound what a hostile or broken file can cost before it
// is refused.
const (
	DocumentBytesMax = 1 << 20 // a file with the largest policy (512 KiB) and room beside it
	depthMax         = 32      // the deepest legal path has 8 levels
)

var utf8BOM = []byte("\xef\xbb\xbf")

// readDocument turns doc into a tree of values without anchors, aliases and explicit
// tags. The tree has the shape of yaml.Node whether doc was YAML or JSON, so that
// there is one reader. An empty document is an empty mapping.
func readDocument(doc []byte) (*yaml.Node, error) {
	if len(doc) > DocumentBytesMax {
		return nil, &Error{Kind: policy.KindLimit, Msg: fmt.Sprintf("the document has %d bytes, %d are allowed", len(doc), DocumentBytesMax),
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
			return &Error{Kind: policy.KindSyntax, Line: line, Column: column, Msg: fmt.Sprintf("byte 0x%02x is not UTF-8", doc[at]), Hint: "save the file as UTF-8 (UTF-16 is not read)"}
		case r == 0:
			line, column := position(doc, at)
			return &Error{Kind: policy.KindSyntax, Line: line, Column: column, Msg: "a NUL byte", Hint: "save the file as UTF-8 text"}
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
			node, err = nil, &Error{Kind: policy.KindSyntax, Msg: "the document cannot be read as YAML", Hint: "write it as JSON"}
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(doc))
	var root, second yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}, nil
	} else if err != nil {
		return nil, yamlError(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, &Error{Kind: policy.KindUnsupported, Line: second.Line, Column: second.Column, Msg: "a second YAML document begins here",
			Hint: `keep one, and remove "---"`}
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return root.Content[0], refuse(root.Content[0], 0)
}

func yamlError(err error) *Error {
	match := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, _ := strconv.Atoi(match[1]) // absent: 0, "somewhere"
	return &Error{Kind: policy.KindSyntax, Line: line, Msg: "not YAML: " + match[2], Hint: "check indentation (spaces, not tabs), colons and quotes here and on the line before"}
}

// refuse looks for what makes one text stand for another: anchors and aliases (a few
// lines can name billions of values), merge keys, explicit tags. Policies are read the
// same way, so that device groups can move between the files.
func refuse(n *yaml.Node, depth int) error {
	e := &Error{Kind: policy.KindUnsupported, Line: n.Line, Column: n.Column}
	switch {
	case depth > depthMax:
		e.Kind, e.Msg = policy.KindLimit, fmt.Sprintf("nested deeper than %d levels", depthMax)
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
// rules ("\ud83d\ude00" is one character, 1e3 a number) and still has positions.
type jsonReader struct {
	doc     []byte
	decoder *json.Decoder
	at      int // offset behind the last token
	line    int // the line of at, from 1
	start   int // offset of that line's first byte
}

func readJSON(doc []byte) (*yaml.Node, error) {
	r := &jsonReader{doc: doc, decoder: json.NewDecoder(bytes.NewReader(doc)), line: 1}
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
	if depth > depthMax {
		return nil, &Error{Kind: policy.KindLimit, Line: node.Line, Column: node.Column, Msg: fmt.Sprintf("nested deeper than %d levels", depthMax)}
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
	return &Error{Kind: policy.KindSyntax, Line: line, Column: column, Msg: "not JSON: " + syntax.Error(), Hint: "check quotes, commas and brackets just before this place"}
}
