package permission

import "strings"

// none is the rule of a node at which no permission ends.
const none int32 = -1

// A node is a place in the trie of what patterns begin with, up to their first '*'. An
// edge is a literal text or the variable. Every node is reached by one sequence of
// edges, so for one request it stands at one offset: a search visits it at most once.
type node struct {
	label    string  // the literal edge into this node
	first    string  // first[i] is the first byte of children[i].label
	children []*node // literal edges out
	variable *node   // the edge that the variable's value takes, or nil
	exact    int32   // a permission that ends here, or none
	prefix   int32   // a permission that ends here with '*', or none
	tails    []tail  // permissions that go on after a '*', if they are few
	index    *index  // the same, if they are many, or nil
}

func newNode(label string) *node { return &node{label: label, exact: none, prefix: none} }

// find returns a permission that matches s, or none. s is what the edges down to n have
// left of the resource.
func (n *node) find(s, value string) int32 {
	for {
		if n.prefix != none {
			return n.prefix
		}
		if rule := firstMatch(n.tails, s, value); rule != none {
			return rule
		}
		if n.index != nil {
			if rule := n.index.find(s, value); rule != none {
				return rule
			}
		}
		if n.variable != nil {
			if rest, ok := strings.CutPrefix(s, value); ok {
				if rule := n.variable.find(rest, value); rule != none {
					return rule
				}
			}
		}
		if s == "" {
			return n.exact
		}
		if n = n.step(&s); n == nil {
			return none
		}
	}
}

// insert adds the resource made of segments. Of two equal ones the first stays.
func (n *node) insert(segments []segment, rule int32) {
	head := &segments[0]
	if head.pieces == nil {
		n = n.descend(head.text)
	} else {
		n = n.descend(head.pieces[0])
		for _, piece := range head.pieces[1:] {
			if n.variable == nil {
				n.variable = newNode("")
			}
			n = n.variable.descend(piece)
		}
	}
	rest := segments[1:]
	switch {
	case len(rest) == 0:
		if n.exact == none {
			n.exact = rule
		}
	case len(rest) == 1 && rest[0].isEmpty():
		if n.prefix == none {
			n.prefix = rule
		}
	default:
		n.tails = append(n.tails, tail{segments: rest, rule: rule})
	}
}

// descend returns the node that text leads to from n, making it if need be.
func (n *node) descend(text string) *node {
	for text != "" {
		i := strings.IndexByte(n.first, text[0])
		if i < 0 {
			leaf := newNode(text)
			n.first += text[:1]
			n.children = append(n.children, leaf)
			return leaf
		}
		child := n.children[i]
		common := commonPrefix(child.label, text)
		if common < len(child.label) {
			// The new text leaves the edge half way: put a node there.
			middle := newNode(child.label[:common])
			child.label = child.label[common:]
			middle.first = child.label[:1]
			middle.children = []*node{child}
			n.children[i] = middle
			child = middle
		}
		n, text = child, text[common:]
	}
	return n
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
