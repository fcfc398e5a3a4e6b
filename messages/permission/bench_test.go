package permission

import (
	"fmt"
	"testing"
)

// 1,000 permissions, as many devices under one root would have them.
func benchmarkSet(b *testing.B, format string, requests map[string]string) {
	permissions := make([]Permission, 1000)
	for i := range permissions {
		permissions[i] = Permission{"mqtt:publish", fmt.Sprintf(format, i)}
	}
	set := mustCompile(b, permissions...)
	for _, name := range []string{"first", "last", "none"} {
		resource := []byte(requests[name])
		b.Run(name, func(b *testing.B) {
			op := []byte("mqtt:publish")
			b.ReportAllocs()
			for b.Loop() {
				if d := set.AllowsBytes(op, resource); d.Allowed != (name != "none") {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkExact(b *testing.B) {
	benchmarkSet(b, "mqtt:topic:plants/north/line-%d/temperature", map[string]string{
		"first": "mqtt:topic:plants/north/line-0/temperature",
		"last":  "mqtt:topic:plants/north/line-999/temperature",
		"none":  "mqtt:topic:plants/north/line-1000/temperature",
	})
}

func BenchmarkPrefix(b *testing.B) {
	benchmarkSet(b, "mqtt:topic:plants/north/line-%d/*", map[string]string{
		"first": "mqtt:topic:plants/north/line-0/temperature",
		"last":  "mqtt:topic:plants/north/line-999/temperature",
		"none":  "mqtt:topic:plants/north/line-1000/temperature",
	})
}

func BenchmarkInner(b *testing.B) {
	benchmarkSet(b, "mqtt:topic:plants/*/line-%d/*/value", map[string]string{
		"first": "mqtt:topic:plants/north/line-0/temperature/value",
		"last":  "mqtt:topic:plants/north/line-999/temperature/value",
		"none":  "mqtt:topic:plants/north/line-1000/temperature/value",
	})
}

func BenchmarkSuffix(b *testing.B) {
	benchmarkSet(b, "mqtt:topic:*/line-%d", map[string]string{
		"first": "mqtt:topic:plants/north/line-0",
		"last":  "mqtt:topic:plants/north/line-999",
		"none":  "mqtt:topic:plants/north/line-1000",
	})
}
