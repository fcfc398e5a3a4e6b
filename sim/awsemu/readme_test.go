package awsemu

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

var update = flag.Bool("update", false, "write the operations and the seed into README.md")

// operationsTable lists what is served, for README.md.
func operationsTable() string {
	names := map[string][]string{}
	add := func(title string, op cloudsync.Operation) { names[title] = append(names[title], string(op)) }
	titles := map[*service]string{iot: "`iot`", iotData: "`iot-data`, also with a certificate", greengrass: "`greengrassv2`"}
	for _, r := range controlRoutes {
		title := titles[r.service]
		if title == "" {
			title = "`" + r.service.name + "`"
		}
		add(title, r.op)
	}
	for _, r := range queryRoutes {
		add("`"+r.service.name+"`", cloudsync.Operation(strings.TrimPrefix(string(r.op), r.service.name+":")))
	}
	for _, r := range newDataRoutes(cloudsync.DefaultRoutes()) {
		if r.service != iotData {
			add("Greengrass' data plane, with a certificate", r.op)
		}
	}
	for title, plane := range map[string]cloudsync.Operation{"MQTT": fault.MQTT, "the credentials provider, with a certificate": fault.Credentials} {
		for _, op := range fault.Operations(plane) {
			add(title, op)
		}
	}
	var b strings.Builder
	b.WriteString("| at | operations |\n|---|---|\n")
	for _, title := range sortedKeys(names) {
		list := slices.Compact(slices.Sorted(slices.Values(names[title])))
		fmt.Fprintf(&b, "| %s | %s |\n", title, strings.Join(list, ", "))
	}
	return b.String()
}

// TestTheReadmeIsCurrent: its table is that of the routes, and its seed the example.
func TestTheReadmeIsCurrent(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("seed.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for pattern, part := range map[string]string{
		`(?s)<!-- operations -->\n.*<!-- end -->`: "<!-- operations -->\n" + operationsTable() + "<!-- end -->",
		"(?s)<!-- seed -->\n```yaml\n.*?```":      "<!-- seed -->\n```yaml\n" + string(example) + "```",
	} {
		place := regexp.MustCompile(pattern)
		if len(place.FindAllString(want, -1)) != 1 {
			t.Fatalf("README.md has no single place for %s", pattern)
		}
		want = place.ReplaceAllLiteralString(want, part)
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatal("README.md is not current: go test ./sim/awsemu -run TestTheReadmeIsCurrent -update")
	}
	if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
