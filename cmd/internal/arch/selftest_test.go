package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A selfCase is a synthetic file with what a rule must say about it: a part of one
// finding, or nothing.
type selfCase struct {
	rule string
	path string
	text string
	want string // "" is no finding
}

const goodDoc = "// Package x is an example.\npackage x\n"

// use is a file of package x that imports p, and body behind it.
func use(p, body string) string { return fmt.Sprintf("%simport %q\n%s", goodDoc, p, body) }

func ours(p string) string { return use(module+"/"+p, "") }

var selfCases = []selfCase{
	// direction
	{"direction", "messages/x.go", ours("eventlog"), "messages imports eventlog: " + oneWay},
	{"direction", "messages/x.go", ours("messages/authapi"), "messages imports messages/authapi"},
	{"direction", "messages/authapi/x.go", ours("messages"), ""},
	{"direction", "messages/authapi/x.go", ours("actors"), "messages/authapi imports actors"},
	{"direction", "eventlog/x.go", ours("messages"), ""},
	{"direction", "eventlog/x.go", ours("messages/authapi"), "eventlog imports messages/authapi"},
	{"direction", "eventlog/x.go", ours("eventlog/eventlogtest"), "a kit of tests must not reach the product"},
	{"direction", "eventlog/x_test.go", ours("eventlog/eventlogtest"), ""},
	{"direction", "eventlog/eventlogtest/x.go", ours("eventlog"), ""},
	{"direction", "actors/device/x.go", ours("actors/policy"), ""},
	{"direction", "actors/config/x.go", ours("actors/policy"), ""},
	{"direction", "actors/policy/x.go", ours("actors/device"), decider},
	{"direction", "actors/ca/x.go", ours("actors/policy"), decider},
	{"direction", "actors/refresh/x.go", ours("eventlog"), decider},
	{"direction", "actors/device/x.go", ours("actors"), decider},
	{"direction", "actors/core/x.go", ours("actors/device"), decider},
	{"direction", "actors/x.go", ours("actors/device"), ""},
	{"direction", "actors/x.go", ours("actors/brokers"), "actors imports actors/brokers"},
	{"direction", "actors/x.go", ours("projections"), "actors imports projections"},
	{"direction", "actors/x.go", ours("cloudsync"), "actors imports cloudsync"},
	{"direction", "actors/brokers/x.go", ours("actors"), seams},
	{"direction", "actors/brokers/x.go", ours("eventlog"), seams},
	{"direction", "actors/brokers/x.go", ours("projections"), seams},
	{"direction", "actors/brokers/other/x.go", ours("actors"), seams},
	{"direction", "actors/brokers/client/x.go", ours("messages/authapi"), ""},
	{"direction", "actors/brokers/client/x.go", ours("actors/brokers"), adapter},
	{"direction", "actors/brokers/mochi/x.go", ours("actors/brokers/client"), ""},
	{"direction", "actors/brokers/mochi/x.go", ours("actors/brokers"), adapter},
	{"direction", "actors/brokers/natsmqtt/x.go", ours("actors"), adapter},
	{"direction", "actors/brokers/httpauth/x.go", ours("actors/policy"), adapter},
	{"direction", "actors/brokers/mochi/x_test.go", ours("actors/brokers"), ""},
	{"direction", "actors/brokers/mochi/x_test.go", ours("cmd/gatehouse"), "imports cmd/gatehouse"},
	{"direction", "projections/x.go", ours("eventlog"), ""},
	{"direction", "projections/dashboard/x.go", ours("projections"), ""},
	{"direction", "projections/x.go", ours("actors"), "projections imports actors"},
	{"direction", "projections/dashboard/x.go", ours("actors/device"), "projections/dashboard imports actors/device"},
	{"direction", "cloudsync/x.go", ours("actors"), seams},
	{"direction", "cloudsync/connectivity/x.go", ours("eventlog"), seams},
	{"direction", "sim/x.go", ours("actors"), ""},
	{"direction", "sim/x.go", ours("cmd/gatehouse"), "sim imports cmd/gatehouse"},
	{"direction", "cmd/gatehouse/x.go", ours("actors/brokers/mochi"), ""},
	{"direction", "helpers/x.go", goodDoc, "package helpers has no place in the layout"},
	{"direction", "actors/util/x.go", goodDoc, "package actors/util has no place in the layout"},
	{"direction", "x.go", goodDoc, "has no place in the layout"},
	{"direction", "sim/bench/x.go", ours("cmd/gatehouse"), ""},

	// homes
	{"homes", "messages/x.go", use("google.golang.org/protobuf/proto", ""), ""},
	{"homes", "messages/x.go", use("github.com/planetscale/vtprotobuf/protohelpers", ""), ""},
	{"homes", "messages/x.go", use("crypto/sha256", ""), ""},
	{"homes", "messages/x.go", use("go.yaml.in/yaml/v3", ""), "messages imports go.yaml.in/yaml/v3"},
	{"homes", "actors/policy/x.go", use("go.yaml.in/yaml/v3", ""), ""},
	{"homes", "messages/permission/x.go", use("google.golang.org/protobuf/proto", ""), "messages/permission imports google.golang.org/protobuf/proto"},
	{"homes", "messages/permission/x.go", use("go.yaml.in/yaml/v3/x", ""), "messages/permission imports"},
	{"homes", "actors/device/x.go", use("google.golang.org/protobuf/proto", ""), "actors/device imports google.golang.org/protobuf/proto"},
	{"homes", "eventlog/x.go", use("github.com/dgraph-io/badger/v4", ""), ""},
	{"homes", "projections/x.go", use("github.com/dgraph-io/badger/v4/options", ""), "only package that knows badger"},
	{"homes", "eventlog/eventlogtest/x.go", use("github.com/dgraph-io/badger/v4", ""), "only package that knows badger"},
	{"homes", "sim/x_test.go", use("github.com/dgraph-io/badger/v4", ""), "only package that knows badger"},
	{"homes", "actors/x.go", use("github.com/asynkron/protoactor-go/actor", ""), ""},
	{"homes", "actors/device/x.go", use("github.com/asynkron/protoactor-go/actor", ""), "only package that knows Proto.Actor"},
	{"homes", "sim/x.go", use("github.com/asynkron/protoactor-go/actor", ""), "only package that knows Proto.Actor"},
	{"homes", "actors/brokers/x.go", use("github.com/nats-io/nats-server/v2/server", ""), ""},
	{"homes", "actors/brokers/client/x.go", use("github.com/nats-io/nats.go", ""), ""},
	{"homes", "actors/brokers/client/x.go", use("github.com/nats-io/nkeys", ""), ""},
	{"homes", "actors/x.go", use("github.com/nats-io/nats.go", ""), "NATS is where brokers meet the actors"},
	{"homes", "actors/x.go", use("github.com/nats-io/jwt/v2", ""), "NATS is where brokers meet the actors"},
	{"homes", "cmd/gatehouse/x.go", use("github.com/nats-io/nkeys", ""), "NATS is where brokers meet the actors"},
	{"homes", "cmd/gatehouse/x_test.go", use("github.com/nats-io/nats.go", ""), ""},
	{"homes", "actors/brokers/mochi/x.go", use("github.com/mochi-mqtt/server/v2", ""), ""},
	{"homes", "sim/awsemu/x.go", use("github.com/mochi-mqtt/server/v2/packets", ""), ""},
	{"homes", "actors/brokers/x.go", use("github.com/mochi-mqtt/server/v2", ""), "one adapter of several"},
	{"homes", "cloudsync/iotverifier/x.go", use("github.com/aws/aws-sdk-go-v2/service/iot", ""), ""},
	{"homes", "cloudsync/x.go", use("github.com/aws/aws-sdk-go-v2/service/iot/types", ""), slow},
	{"homes", "cloudsync/control/x.go", use("github.com/aws/aws-sdk-go-v2/service/greengrassv2", ""), slow},
	{"homes", "cloudsync/control/x.go", use("github.com/aws/aws-sdk-go-v2/service/iotdataplane", ""), ""},
	{"direction", "cloudsync/x.go", ours("cloudsync/iotverifier"), "cloudsync imports cloudsync/iotverifier"},
	{"homes", "sim/awsemu/x.go", use("github.com/aws/aws-sdk-go-v2/aws", ""), "AWS is spoken by cloudsync alone"},
	{"homes", "sim/awsemu/x_test.go", use("github.com/aws/aws-sdk-go-v2/aws", ""), ""},
	{"homes", "cmd/gatehouse/x.go", use("github.com/spf13/cobra", ""), ""},
	{"homes", "sim/x.go", use("github.com/spf13/cobra", ""), shell},
	{"homes", "actors/policy/x.go", use("go.yaml.in/yaml/v3", ""), ""},
	{"homes", "actors/device/x.go", use("go.yaml.in/yaml/v3", ""), "documents are parsed where"},
	{"homes", "messages/x.go", use("pgregory.net/rapid", ""), testOnly},
	{"homes", "messages/x_test.go", use("pgregory.net/rapid", ""), ""},
	{"homes", "eventlog/x.go", use("github.com/gorilla/websocket", ""), "needs an entry in homes"},
	{"homes", "eventlog/x_test.go", use("github.com/gorilla/websocket", ""), "needs an entry in homes"},
	{"homes", "sim/bench/x.go", use("github.com/cedar-policy/cedar-go", ""), ""},

	// pure
	{"pure", "actors/device/x.go", use("os", ""), "a decider knows only its arguments"},
	{"pure", "actors/policy/x.go", use("net/http", ""), "what the network says comes back as a command"},
	{"pure", "actors/policy/x.go", use("net/netip", ""), ""},
	{"pure", "actors/policy/x.go", use("network", ""), ""},
	{"pure", "actors/ca/x.go", use("crypto/rand", ""), "chance"},
	{"pure", "actors/refresh/x.go", use("math/rand/v2", ""), "chance"},
	{"pure", "actors/config/x.go", use("sync/atomic", ""), "state belongs to one actor"},
	{"pure", "actors/core/x.go", use("log/slog", ""), "actors/core imports log/slog"},
	{"pure", "actors/device/x.go", use("context", ""), "pure code has nothing to cancel"},
	{"pure", "actors/config/x.go", use("path/filepath", "var X = filepath.Join"), ""},
	{"pure", "actors/config/x.go", use("path/filepath", "var X = filepath.Abs"), "uses filepath.Abs"},
	{"pure", "actors/device/x.go", use("time", "var X = time.Now"), "uses time.Now: no clock"},
	{"pure", "actors/device/clock.go", use("time", "var X = time.Now"), "uses time.Now: no clock"},
	{"pure", "actors/device/x.go", use("time", "var X = time.UnixMilli(0).In(time.Local)"), "uses time.Local"},
	{"pure", "actors/device/x.go", use("time", "const X = time.Second"), ""},
	{"pure", "actors/device/x.go", use("fmt", "func f() { fmt.Println() }"), "uses fmt.Println"},
	{"pure", "actors/device/x.go", use("fmt", "var X = fmt.Sprint"), ""},
	{"pure", "actors/device/x.go", goodDoc + "func f() { go f() }", "starts a goroutine"},
	{"pure", "actors/device/x.go", goodDoc + "func f() { select {} }", "selects"},
	{"pure", "actors/device/x.go", goodDoc + "func f(c chan int) {}", "uses a channel"},
	{"pure", "actors/device/x_test.go", use("os", "func f() { go f() }"), ""},
	{"pure", "actors/x.go", use("os", "func f() { go f() }"), ""},

	// signing
	{"signing", "actors/x.go", use("crypto/x509", "var X = x509.CreateCertificate"), "actors uses x509.CreateCertificate"},
	{"signing", "cmd/gatehouse/x.go", use("crypto/x509", "var X = x509.CreateRevocationList"), "uses x509.CreateRevocationList"},
	{"signing", "actors/ca/x.go", use("crypto/x509", "var X = x509.CreateCertificate"), ""},
	{"signing", "actors/x_test.go", use("crypto/x509", "var X = x509.CreateCertificate"), ""},
	{"signing", "sim/awsemu/x.go", use("crypto/x509", "var X = x509.CreateCertificate"), ""},
	// clock
	{"clock", "eventlog/x.go", use("time", "var X = time.Now()"), "eventlog uses time.Now: take a Clock"},
	{"clock", "eventlog/x.go", use("time", "var X = time.Now"), "eventlog uses time.Now"},
	{"clock", "eventlog/x.go", goodDoc + "import t \"time\"\nvar X = t.Since", "uses time.Since"},
	{"clock", "eventlog/x.go", goodDoc + "import . \"time\"\nvar X = Now()", "uses time.everything"},
	{"clock", "actors/x.go", use("time", "var X = time.Until"), "uses time.Until"},
	{"clock", "actors/x.go", use("time", "var X = time.After(1)"), "uses time.After"},
	{"clock", "actors/x.go", use("time", "var X = time.Tick(1)"), "uses time.Tick"},
	{"clock", "cloudsync/x.go", use("time", "var X = time.NewTimer(1)"), "uses time.NewTimer"},
	{"clock", "cloudsync/x.go", use("time", "var X = time.NewTicker(1)"), "uses time.NewTicker"},
	{"clock", "projections/x.go", use("time", "var X = time.AfterFunc(1, nil)"), "uses time.AfterFunc"},
	{"clock", "sim/x.go", use("time", "func f() { time.Sleep(1) }"), "uses time.Sleep"},
	{"clock", "sim/x.go", use("time", "func f(time struct{ Now int }) int { return time.Now }"), ""},
	{"clock", "sim/x.go", use("time", "func f(t time.Time) bool { return t.After(t) }"), ""},
	{"clock", "actors/clock.go", use("time", "var X = time.Now()"), ""},
	{"clock", "actors/clock_linux.go", use("time", "var X = time.Now()"), ""},
	{"clock", "actors/x_test.go", use("time", "var X = time.Now()"), ""},
	{"clock", "eventlog/eventlogtest/x.go", use("time", "var X = time.Now()"), ""},
	{"clock", "cmd/gatehouse/x.go", use("time", "var X = time.Now()"), ""},
	{"clock", "sim/load/x.go", use("time", "var X = time.Now()"), ""},
	{"clock", "sim/bench/x.go", use("time", "var X = time.Now()"), ""},

	// shell
	{"shell", "actors/x.go", use("flag", ""), "actors imports flag"},
	{"shell", "actors/x.go", use("os", "var X = os.Args"), "uses os.Args"},
	{"shell", "cloudsync/x.go", use("os", "var X = os.Getenv"), "uses os.Getenv"},
	{"shell", "cloudsync/x.go", use("os", "var X, _ = os.LookupEnv(\"HOME\")"), "uses os.LookupEnv"},
	{"shell", "sim/x.go", use("syscall", "var X = syscall.Environ"), "uses syscall.Environ"},
	{"shell", "sim/x.go", use("os", "var X = os.ReadFile"), ""},
	{"shell", "actors/x_test.go", use("flag", ""), ""},
	{"shell", "cmd/gatehouse/x.go", use("os", "var X = os.Args"), ""},
	{"shell", "sim/bench/x.go", use("flag", ""), ""},

	// docs
	{"docs", "actors/x.go", goodDoc + "func F() {}", "F has no comment"},
	{"docs", "actors/x.go", goodDoc + "type t int\n\nfunc f() {}\n\nfunc (t) F() {}", ""},
	{"docs", "actors/x.go", goodDoc + "// T is.\ntype T[K any] struct{}\n\nfunc (*T[K]) F() {}", "T.F has no comment"},
	{"docs", "actors/x.go", goodDoc + "type T int", "T has no comment"},
	{"docs", "actors/x.go", goodDoc + "// Group.\ntype (\n\tT int\n)", "T has no comment"},
	{"docs", "actors/x.go", goodDoc + "//go:noinline\nfunc F() {}", "F has no comment"},
	{"docs", "actors/x.go", goodDoc + "var a, B = 1, 2", "B has no comment"},
	{"docs", "actors/x.go", goodDoc + "const (\n\tA = 1\n)", "A has no comment"},
	{"docs", "actors/x.go", goodDoc + "// All.\nconst (\n\tA = 1\n)\n\nvar (\n\tB = 1 // is one\n)", ""},
	{"docs", "actors/x_test.go", goodDoc + "func F() {}", ""},
	{"docs", "actors/x.go", "// Code generated by hand. DO NOT EDIT.\n\npackage x\n\nfunc F() {}", ""},

	// package comments
	{"package comments", "actors/x.go", "package x", "package x has no comment"},
	{"package comments", "actors/x.go", "// Something else.\npackage x", "package x has no comment"},
	{"package comments", "actors/x_test.go", goodDoc, "package x has no comment"},
	{"package comments", "cmd/x/main.go", "// Package main is.\npackage main", "package main has no comment"},
	{"package comments", "cmd/x/main.go", "// Command x does.\npackage main", ""},
	{"package comments", "actors/x.go", goodDoc, ""},

	// size
	{"size", "actors/x.go", goodDoc + strings.Repeat("\n", fileLinesMax), fmt.Sprintf("%d lines", fileLinesMax+2)},
	{"size", "actors/x_test.go", goodDoc + strings.Repeat("\n", fileLinesMax), "lines"},
	{"size", "actors/x.go", "package x" + strings.Repeat("\n", fileLinesMax-1), ""},
	{"size", "actors/x.go", goodDoc + "func f() {" + strings.Repeat("\n", functionLinesMax) + "}", "func f has 81 lines"},
	{"size", "actors/x.go", goodDoc + "func f() {" + strings.Repeat("\n", functionLinesMax-1) + "}", ""},
	{"size", "actors/x_test.go", goodDoc + "func f() {" + strings.Repeat("\n", functionLinesMax) + "}", ""},
	{"size", "actors/x.go", "// Code generated by hand. DO NOT EDIT.\n\npackage x" + strings.Repeat("\n", 9999), ""},
}

// TestRulesCanFail feeds each rule sources that it must find fault with, and sources
// beside them that it must let pass.
func TestRulesCanFail(t *testing.T) {
	failed, passed := map[string]bool{}, map[string]bool{}
	for _, c := range selfCases {
		s, err := parse(c.path, []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return r.name == c.rule })
		if i < 0 {
			t.Fatalf("no rule %q", c.rule)
		}
		got := findings(rules[i], []*source{s})
		switch {
		case c.want == "":
			passed[c.rule] = true
			if len(got) != 0 {
				t.Errorf("%s: %s must pass:\n%s\nfound %q", c.rule, c.path, c.text, got)
			}
		default:
			failed[c.rule] = true
			if len(got) != 1 || !strings.Contains(got[0], c.want) {
				t.Errorf("%s: %s:\n%.500s\nfound %q, want one finding with %q", c.rule, c.path, c.text, got, c.want)
			}
		}
	}
	for _, r := range rules {
		if !failed[r.name] || !passed[r.name] {
			t.Errorf("rule %s has no case that fails or none that passes", r.name)
		}
	}
}

// TestTopLevelCanFail does the same for the root's entries.
func TestTopLevelCanFail(t *testing.T) {
	var got []string
	report := func(at, _, _ string) { got = append(got, at) }
	checkTopLevel([]string{"actors", "go.mod", ".ci", "gatehouse", "x.test", "pkg", "internal", "Makefile", ".github"}, []string{"/gatehouse", "*.test"}, report)
	if want := []string{"pkg", "internal", "Makefile", ".github"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestTablesAreAlive finds entries that say nothing: a pattern that can never be
// reached, or an entry without a reason.
func TestTablesAreAlive(t *testing.T) {
	for i, d := range directions {
		base := strings.TrimSuffix(d.dir, "/**")
		for _, before := range directions[:i] {
			if within(base, before.dir) && (before.dir == d.dir || strings.HasSuffix(before.dir, "/**")) {
				t.Errorf("direction %s is hidden by %s before it", d.dir, before.dir)
			}
		}
		if d.reason == "" && d.dir != "cmd/**" {
			t.Errorf("direction %s has no reason", d.dir)
		}
	}
	for i, h := range homes {
		if h.reason == "" {
			t.Errorf("home of %s has no reason", h.module)
		}
		for _, before := range homes[:i] {
			if hasPathPrefix(h.module, before.module) {
				t.Errorf("home of %s is hidden by %s before it", h.module, before.module)
			}
		}
	}
}
