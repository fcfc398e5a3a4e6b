package policy

import "go.yaml.in/yaml/v3"

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

// fromYAML converts a tree that ReadDocument has read; anything else in it is refused.
func fromYAML(y *yaml.Node) (*node, *Error) {
	n := &node{line: y.Line, column: y.Column}
	switch y.Kind {
	case yaml.DocumentNode: // an empty one
		return n, nil
	case yaml.ScalarNode:
		if y.ShortTag() != "!!null" {
			n.kind, n.text = nodeScalar, y.Value
		}
		return n, nil
	case yaml.MappingNode:
		n.kind = nodeMapping
	case yaml.SequenceNode:
		n.kind = nodeSequence
	default:
		return nil, &Error{Kind: KindUnsupported, Line: y.Line, Column: y.Column, Msg: "a value stands for another", Hint: "write the value out"}
	}
	return n, n.addYAML(y.Content)
}

func (n *node) addYAML(content []*yaml.Node) *Error {
	var key *node
	for i, c := range content {
		child, err := fromYAML(c)
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
