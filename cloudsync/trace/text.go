package trace

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// words are the kinds, for people.
var words = map[Kind]string{
	KindThing: "thing", KindGroup: "thing group", KindCertificate: "certificate", KindAuthority: "CA", KindPolicies: "policies",
	KindPolicy: "policy", KindAction: "action", KindRoleAlias: "role alias", KindRole: "IAM role", KindTrust: "trusts",
	KindDuration: "duration", KindPermission: "may", KindProbe: "credentials endpoint", KindEndpoint: "endpoint",
	KindServiceRole: "service role of", KindAssociations: "client devices", KindClock: "clock",
}

// marks are the states, of one width.
var marks = map[State]string{OK: "ok     ", Note: "-      ", Unknown: "unknown", Warning: "warning", Broken: "BROKEN "}

// Title is a node's name for people: of an id the digits that tell it apart.
func (n *Node) Title() string {
	name := n.Name
	if (n.Kind == KindCertificate || n.Kind == KindAuthority) && len(name) == 64 {
		name = name[:12] + "…"
	}
	return words[n.Kind] + " " + oneLine(name)
}

// WriteText writes the tree, what is not as it should be, what to do, and a line about the
// whole.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.Root.writeText(&b, "", "")
	said := map[string]bool{}
	for _, f := range r.Findings {
		if f.State == Unknown && said[f.Detail] {
			continue // one cause, such as credentials that are refused; the tree has all
		}
		said[f.Detail] = true
		fmt.Fprintf(&b, "\n%s", strings.TrimSpace(marks[f.State]))
		if f.Fault != "" {
			fmt.Fprintf(&b, " %s", f.Fault)
		}
		fmt.Fprintf(&b, ": %s\n   at  %s\n", oneLine(f.Detail), oneLine(strings.Join(f.Path, " > ")))
		for _, fix := range f.Fix {
			fmt.Fprintf(&b, "   do  %s\n", oneLine(fix))
		}
	}
	if r.AskedAs != "" {
		fmt.Fprintf(&b, "\nAWS was asked as %s\n", oneLine(r.AskedAs))
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	_, err := io.WriteString(w, b.String())
	return err
}

func (n *Node) writeText(b *strings.Builder, first, rest string) {
	fmt.Fprintf(b, "%s  %s%s", marks[n.State], first, n.Title())
	if n.Detail != "" {
		fmt.Fprintf(b, ": %s", oneLine(n.Detail))
	}
	if n.State == Broken {
		b.WriteString("   <== broken here")
	}
	b.WriteByte('\n')
	for i, c := range n.Children {
		if i == len(n.Children)-1 {
			c.writeText(b, rest+"└─ ", rest+"   ")
		} else {
			c.writeText(b, rest+"├─ ", rest+"│  ")
		}
	}
}

// oneLine keeps what the cloud or a file said from breaking the layout, or steering a
// terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// colours of the picture.
var colours = map[State]string{OK: "#2e7d32", Note: "#757575", Unknown: "#6a1b9a", Warning: "#ef6c00", Broken: "#c62828"}

// WriteDOT writes the tree in Graphviz' language.
func (r *Report) WriteDOT(w io.Writer) error {
	var b strings.Builder
	b.WriteString("digraph trace {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=10];\n  edge [color=\"#9e9e9e\"];\n")
	count := 0
	var write func(n *Node) int
	write = func(n *Node) int {
		id := count
		count++
		width := 1
		if n.State == Broken {
			width = 3
		}
		label := n.Title() + "\n" + strings.TrimSpace(marks[n.State])
		if n.Fault != "" {
			label += ": " + string(n.Fault)
		}
		if n.Detail != "" {
			label += "\n" + short(oneLine(n.Detail))
		}
		fmt.Fprintf(&b, "  n%d [label=%s, color=%q, penwidth=%d];\n", id, dotString(label), colours[n.State], width)
		for _, c := range n.Children {
			fmt.Fprintf(&b, "  n%d -> n%d;\n", id, write(c))
		}
		return id
	}
	write(r.Root)
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// dotString quotes a text for Graphviz: in its strings a backslash begins an escape, also
// one that stands for the node's name, so that it is doubled.
func dotString(s string) string {
	return `"` + strings.NewReplacer("&", "&amp;", `\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// short is a text for a small box.
func short(s string) string {
	const runes = 80
	if r := []rune(s); len(r) > runes {
		return string(r[:runes-1]) + "…"
	}
	return s
}
