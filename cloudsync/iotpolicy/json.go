package iotpolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// depthMax is more than a document's five levels.
const depthMax = 8

// node is a JSON value with its place.
type node struct {
	at      int // offset behind its first token
	kind    kind
	text    string // of a string, number or boolean
	items   []*node
	members []member // in the order they were written, each name once
}

type kind string

const (
	isObject kind = "an object"
	isArray  kind = "a list"
	isString kind = "a string"
	isNumber kind = "a number"
	isBool   kind = "a boolean"
	isNull   kind = "null"
)

type member struct {
	name  string
	value *node
}

// readJSON reads exactly one value. Names that occur twice are refused: readers differ in
// which one counts.
func readJSON(text string) (*node, error) {
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		at := 0
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = int(syntax.Offset)
		}
		return nil, errorAt(text, at, err)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	n, err := readNode(decoder, 0)
	if err != nil {
		return nil, errorAt(text, int(decoder.InputOffset()), err)
	}
	return n, nil
}

func errorAt(text string, offset int, err error) error {
	line, column := place(text, offset)
	return &Error{Line: line, Column: column, Problem: err.Error()}
}

func readNode(decoder *json.Decoder, depth int) (*node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	n := &node{at: int(decoder.InputOffset())}
	switch v := token.(type) {
	case json.Delim:
		if depth == depthMax {
			return nil, fmt.Errorf("nested deeper than %d", depthMax)
		}
		if v == '[' {
			return n, n.readItems(decoder, depth)
		}
		return n, n.readMembers(decoder, depth)
	case string:
		n.kind, n.text = isString, v
	case json.Number:
		n.kind, n.text = isNumber, v.String()
	case bool:
		n.kind, n.text = isBool, fmt.Sprint(v)
	default:
		n.kind = isNull
	}
	return n, nil
}

func (n *node) readItems(decoder *json.Decoder, depth int) error {
	n.kind = isArray
	for decoder.More() {
		item, err := readNode(decoder, depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := decoder.Token()
	return err
}

func (n *node) readMembers(decoder *json.Decoder, depth int) error {
	n.kind = isObject
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder takes nothing else here
		if seen[name] {
			return fmt.Errorf("%.60q occurs twice", name)
		}
		seen[name] = true
		value, err := readNode(decoder, depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name, value})
	}
	_, err := decoder.Token()
	return err
}

// place is the line and column, from 1, of the character before offset.
func place(text string, offset int) (line, column int) {
	before := text[:max(0, min(offset, len(text))-1)]
	line = 1 + strings.Count(before, "\n")
	return line, 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}
