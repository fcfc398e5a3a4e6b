package arch

import (
	"go/token"
	"slices"
	"strings"
)

// A direction says what the packages that fit dir may import of this module.
type direction struct {
	dir    string
	may    []string
	reason string
}

// pureDirs are the deciders: judgement without clock, I/O or chance.
var pureDirs = []string{"actors/device/**", "actors/policy/**", "actors/ca/**", "actors/refresh/**", "actors/config/**", "actors/core/**", "messages/registration/**"}

const (
	oneWay  = "imports point one way, messages ← everything, so that each part is understood and tested alone"
	decider = "deciders are leaves: what they need of each other arrives as facts"
	adapter = "an adapter must be usable in a broker that runs elsewhere: it knows the client and the protocol, not the system behind them"
	seams   = "they declare the small interfaces they need, so that the simulator can stand behind them and nothing is asked past the log"
)

// directions is the layout: a package is judged by the first entry that fits it. Test
// files and kits of tests may import what they like but cmd: nothing of the product
// imports them.
var directions = []direction{
	{"messages", nil, oneWay},
	{"messages/**", []string{"messages/**"}, oneWay},
	{"eventlog", []string{"messages"}, "the log keeps records; who writes and reads them is not its business"},
	{"eventlog/**", []string{"messages/**", "eventlog/**"}, "the suite of stores knows stores and records"},
	{"actors/policy/**", []string{"messages/**", "actors/policy/**"}, decider},
	{"actors/device/**", []string{"messages/**", "actors/device/**", "actors/policy"}, decider + "; only device and config may import policy, whose compiled form they use"},
	{"actors/config/**", []string{"messages/**", "actors/config/**", "actors/policy"}, decider + "; only device and config may import policy, whose compiled form they use"},
	{"actors/core/**", []string{"messages/**", "actors/core/**", "actors/policy", "actors/config"}, decider + "; core judges documents, which policy and config parse"},
	{"actors/ca/**", []string{"messages/**", "actors/ca/**"}, decider},
	{"actors/refresh/**", []string{"messages/**", "actors/refresh/**"}, decider},
	{"actors/keys/**", []string{"messages/**", "actors/keys/**"}, "keys stand behind a port, so that the simulator can bring its own"},
	{"actors/brokers", []string{"messages/**", "actors/brokers/**"}, seams},
	{"actors/brokers/client/**", []string{"messages/**", "actors/brokers/client/**"}, adapter},
	{"actors/brokers/mochi/**", []string{"messages/**", "actors/brokers/client/**", "actors/brokers/mochi/**"}, adapter},
	{"actors/brokers/natsmqtt/**", []string{"messages/**", "actors/brokers/client/**", "actors/brokers/natsmqtt/**"}, adapter},
	{"actors/brokers/httpauth/**", []string{"messages/**", "actors/brokers/client/**", "actors/brokers/httpauth/**"}, adapter},
	{"actors/brokers/**", []string{"messages/**", "actors/brokers/**"}, seams},
	{"actors/gate", []string{"messages/**", "actors", "actors/brokers", "actors/policy", "actors/ca", "projections"}, "the one place where brokers, entities, the authority and read models meet, the same for the daemon, the simulator and the benchmarks"},
	{"actors/actorstest/**", []string{"messages/**", "eventlog/**", "actors", "actors/actorstest/**"}, "the host's fakes know the host"},
	{"actors", append([]string{"messages/**", "eventlog", "actors/keys/**"}, pureDirs...), "the host runs deciders over the log; brokers, cloud and views reach it through cmd"},
	{"projections/**", []string{"messages/**", "eventlog", "actors/policy", "actors/config", "projections/**"}, "read models are folded from the log alone and can be deleted at any time; policy and config parse the documents in it"},
	{"cloudsync/iotpolicy", nil, "AWS's policy language stands by itself: the emulated cloud and the trace judge by it alike"},
	{"cloudsync", []string{"messages/**", "cloudsync/wire"}, seams + "; and what many tests build stays clear of the SDK, which is slow to build"},
	{"cloudsync/tokenexchange", []string{"messages/**", "cloudsync/wire"}, "it hands out secrets: small, and clear of the SDK, so that all of it can be read"},
	{"cloudsync/**", []string{"messages/**", "cloudsync/**"}, seams},
	{"sim/chart", nil, "reports of any kind are drawn by it: it knows numbers and texts, not what they mean"},
	{"sim/**", []string{"messages/**", "eventlog/**", "actors/**", "projections/**", "cloudsync/**", "sim/**"}, "the simulator sees everything but the program's shell"},
	{"cmd/**", []string{"messages/**", "eventlog/**", "actors/**", "projections/**", "cloudsync/**", "sim/**", "cmd/**"}, ""},
}

// checkDirection finds imports against the layout.
func checkDirection(s *source, report reporter) {
	if s.nested {
		return
	}
	i := slices.IndexFunc(directions, func(d direction) bool { return within(s.dir, d.dir) })
	if i < 0 {
		report(s.at(s.file.Package), "package "+s.dir+" has no place in the layout", "a new package gets its entry in directions and its line in ARCHITECTURE.md, so that its imports are decided, not happened upon")
		return
	}
	for p, pos := range s.imports {
		to, ours := strings.CutPrefix(p, module+"/")
		switch {
		case !ours && p != module:
			continue
		case s.forTests() && !within(to, "cmd/**") || s.isTest && to == s.dir:
			continue
		case isTestKit(to):
			report(s.at(pos), s.dir+" imports "+to, "a kit of tests must not reach the product")
			continue
		}
		if !within(to, directions[i].may...) {
			report(s.at(pos), s.dir+" imports "+to, directions[i].reason)
		}
	}
}

// A home says which packages may import a third-party module.
type home struct {
	module string // import path, with everything below
	dirs   []string
	tests  []string // folders whose test files may, too
	reason string
}

var everywhere = []string{"messages/**", "eventlog/**", "actors/**", "projections/**", "cloudsync/**", "sim/**", "cmd/**"}

const (
	oneHome  = "each third-party module has one home, so that it can be understood, bounded and replaced there"
	testOnly = "this module serves tests and must not reach the product"
	slow     = "it is slow to build: one package has it, away from those whose tests run often"
	shell    = "the command line, the terminal and configuration files are the shell's alone"
)

// homes is the closed list of modules. The standard library is free but for the rules
// below.
var homes = []home{
	{"google.golang.org/protobuf", []string{"messages", "eventlog", "projections/**", "sim/**", "cmd/**"}, everywhere, "events are made and read by messages; others see Go types, or print them at the edges; eventlog checks Badger's own tables, whose index is protobuf"},
	{"github.com/planetscale/vtprotobuf", []string{"messages"}, nil, "the generated code's helpers belong to the generated code"},
	{"github.com/bufbuild/protocompile", []string{"cmd/internal/protogen"}, nil, "the generator's parser must not reach the product"},
	{"github.com/dgraph-io/badger/v4", []string{"eventlog"}, nil, "eventlog is the only package that knows badger: another store can stand behind its interface"},
	{"github.com/dgraph-io/ristretto", nil, nil, "the cache inside badger is badger's"},
	{"golang.org/x/mod", []string{"eventlog/**", "sim/**", "cmd/**"}, nil, "the Merkle tree and its notes are the log's; outside of it they are checked, not made"},
	{"golang.org/x/sys", []string{"eventlog", "actors", "sim/**", "cmd/**"}, []string{"eventlog/**"}, "the system below is called by the log (fdatasync, space) and the clock (time since boot)"},
	{"github.com/asynkron/protoactor-go", []string{"actors"}, nil, "actors is the only package that knows Proto.Actor: deciders and simulator run without it"},
	{"github.com/orcaman/concurrent-map", []string{"actors"}, nil, "it is Proto.Actor's registry, whose size is set there"},
	{"github.com/nats-io", []string{"actors/brokers/**", "sim/load"}, []string{"sim/**", "cmd/**"}, "NATS is where brokers meet the actors, and nowhere else; the load generator and tests elsewhere play brokers"},
	{"github.com/mochi-mqtt/server/v2", []string{"actors/brokers/mochi/**", "sim/awsemu/**"}, nil, "the embedded broker is one adapter of several; the emulator has its own for AWS IoT's MQTT"},
	{"github.com/aws/aws-sdk-go-v2/service/iot", []string{"cloudsync/iotverifier", "cloudsync/iotregistry", "cloudsync/trace/awsreader"}, []string{"sim/**", "cmd/**"}, slow},
	{"github.com/aws/aws-sdk-go-v2/service/greengrassv2", []string{"cloudsync/associations", "cloudsync/connectivity", "cloudsync/iotregistry", "cloudsync/trace/awsreader"}, []string{"sim/**", "cmd/**"}, slow},
	{"github.com/aws/aws-sdk-go-v2/service/iam", []string{"cloudsync/trace/awsreader"}, []string{"sim/**", "cmd/**"}, slow},
	{"github.com/aws/aws-sdk-go-v2/config", []string{"cloudsync/credentials"}, []string{"sim/**", "cmd/**"}, "the SDK reads environment and files there alone, when cmd says so"},
	{"github.com/aws/aws-sdk-go-v2", []string{"cloudsync/**"}, []string{"sim/**", "cmd/**"}, "AWS is spoken by cloudsync alone; tests of the emulator may use the stock clients"},
	{"github.com/aws/smithy-go", []string{"cloudsync/**"}, []string{"sim/**", "cmd/**"}, "AWS is spoken by cloudsync alone; tests of the emulator may use the stock clients"},
	{"go.step.sm/crypto", []string{"cmd/gatehouse-pkcs11"}, nil, "it brings cgo and ten modules: in a program of its own they stay out of the daemon"},
	{"github.com/miekg/pkcs11", []string{"cmd/gatehouse-pkcs11"}, nil, "what go.step.sm/crypto calls tokens by: its error codes tell a refused PIN"},
	{"go.yaml.in/yaml/v3", []string{"actors/policy", "actors/config", "sim/**", "cmd/**"}, nil, "documents are parsed where their positions are turned into errors for people"},
	{"github.com/spf13/cobra", []string{"cmd/**"}, nil, shell},
	{"github.com/spf13/pflag", []string{"cmd/**"}, nil, shell},
	{"github.com/schollz/progressbar/v3", []string{"cmd/**"}, nil, shell},
	{"golang.org/x/term", []string{"cmd/**"}, nil, shell},
	{"github.com/fsnotify/fsnotify", []string{"cmd/**"}, nil, shell},
	{"github.com/prometheus/client_golang", []string{"cmd/internal/metrics"}, nil, "read models and desk count without it; what joins their numbers for Prometheus is the shell's"},
	{"github.com/eclipse/paho.golang", []string{"cloudsync/**", "sim/**"}, everywhere, "MQTT clients are for AWS IoT and for simulated devices; devices of the product bring their own"},
	{"github.com/eclipse/paho.mqtt.golang", []string{"cloudsync/**", "sim/**"}, everywhere, "MQTT clients are for AWS IoT and for simulated devices; devices of the product bring their own"},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"sim/load"}, nil, "times of requests are counted by the load generator alone"},
	{"github.com/santhosh-tekuri/jsonschema", nil, everywhere, testOnly},
	{"go.uber.org/goleak", nil, everywhere, testOnly},
	{"github.com/anishathalye/porcupine", nil, everywhere, testOnly},
	{"pgregory.net/rapid", nil, everywhere, testOnly},
}

// checkHomes finds third-party imports away from home.
func checkHomes(s *source, report reporter) {
	if s.nested {
		return
	}
	for p, pos := range s.imports {
		if hasPathPrefix(p, module) || isStandard(p) {
			continue
		}
		i := slices.IndexFunc(homes, func(h home) bool { return hasPathPrefix(p, h.module) })
		switch {
		case i < 0:
			report(s.at(pos), s.dir+" imports "+p, "a third-party module needs an entry in homes with its one home and its reason; the standard library may do as well")
		case !within(s.dir, homes[i].dirs...) && !(s.forTests() && within(s.dir, homes[i].tests...)):
			report(s.at(pos), s.dir+" imports "+p, homes[i].reason)
		}
	}
}

// isStandard reports whether p is of the standard library: its first element has no dot.
func isStandard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

// reporter takes one finding: where, what, and why it is one.
type reporter func(at, what, reason string)

// place keeps go/token in the signature of callbacks readable.
type place = token.Pos
