package policy

import (
	"fmt"
	"strings"
	"testing"
)

// A thousand statements in one policy, as design section 13 counts them.
func thousandStatements(format string) string {
	var b strings.Builder
	b.WriteString("definitions: {g: {selectionRule: 'thingName: *', policyName: p}}\npolicies:\n  p:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "    s%04d: {operations: [mqtt:publish], resources: ['%s']}\n", i, fmt.Sprintf(format, i))
	}
	return b.String()
}

func BenchmarkEvaluate(b *testing.B) {
	for _, shape := range []struct{ name, statement, request string }{
		{"exact", "mqtt:topic:plants/north/line-%d/temperature", "mqtt:topic:plants/north/line-%d/temperature"},
		{"prefix", "mqtt:topic:plants/north/line-%d/*", "mqtt:topic:plants/north/line-%d/temperature"},
		{"inner", "mqtt:topic:plants/*/line-%d/*/value", "mqtt:topic:plants/north/line-%d/temperature/value"},
		{"suffix", "mqtt:topic:*/line-%d", "mqtt:topic:plants/north/line-%d"},
		{"variable", "mqtt:topic:plants/${iot:Connection.Thing.ThingName}/line-%d/*", "mqtt:topic:plants/pump-7/line-%d/temperature"},
	} {
		thing := compileText(b, thousandStatements(shape.statement)).For("pump-7")
		for _, hit := range []struct {
			name string
			line int
		}{{"first", 0}, {"last", 999}, {"none", 1000}} {
			operation, resource := []byte("mqtt:publish"), fmt.Appendf(nil, shape.request, hit.line)
			b.Run(shape.name+"/"+hit.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d := thing.EvaluateBytes(operation, resource); d.Allowed != (hit.line < 1000) {
						b.Fatal(d)
					}
				}
			})
		}
	}
}

func BenchmarkFor(b *testing.B) {
	c := compileText(b, plantText)
	b.ReportAllocs()
	for b.Loop() {
		if c.For("sensor-1").Thing() == "" {
			b.Fatal("no thing")
		}
	}
}

// A group per device: finding a thing's group must not look at all of them.
func BenchmarkForAmongManyGroups(b *testing.B) {
	var text strings.Builder
	text.WriteString("policies: {p: {s: {operations: ['*'], resources: ['*']}}}\ndefinitions:\n")
	for i := range 5000 {
		fmt.Fprintf(&text, "  g%d: {selectionRule: 'thingName: t%d', policyName: p}\n", i, i)
	}
	c := compileText(b, text.String())
	b.ReportAllocs()
	for b.Loop() {
		if len(c.For("t4999").groups) != 1 {
			b.Fatal("no group")
		}
	}
}

func BenchmarkParseAndCompile(b *testing.B) {
	text := []byte(thousandStatements("mqtt:topic:plants/north/line-%d/*"))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		doc, err := Parse(text, Options{})
		if err != nil {
			b.Fatal(err)
		}
		Compile(doc)
	}
}
