package config

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v3"
)

// appendJSON appends n as JSON, keys in the order written. Dates and the numbers JSON
// cannot spell become text, the same text the writer used: formatVersion: 2021-03-05
// needs no quotes.
func appendJSON(b *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			appendText(b, n.Content[i].Value)
			b.WriteByte(':')
			appendJSON(b, n.Content[i+1])
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			appendJSON(b, item)
		}
		b.WriteByte(']')
	default:
		appendScalar(b, n)
	}
}

func appendScalar(b *bytes.Buffer, n *yaml.Node) {
	switch {
	case n.Tag == "!!null":
		b.WriteString("null")
	case n.Tag == "!!bool":
		if boolOf(n) {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case (n.Tag == "!!int" || n.Tag == "!!float") && json.Valid([]byte(n.Value)):
		b.WriteString(n.Value)
	default:
		appendText(b, n.Value)
	}
}

// appendText appends text as a JSON string, "<", ">" and "&" as they are.
func appendText(b *bytes.Buffer, text string) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // text is UTF-8 and the buffer takes it: no error is possible
	b.Truncate(b.Len() - 1)  // Encode ends with a newline
}
