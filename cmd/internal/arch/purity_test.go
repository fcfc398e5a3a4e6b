package arch

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// impure are the packages of the standard library that a decider must not import, with
// everything below them, each with what it would bring in.
var impure = map[string]string{
	"os":           "files and environment: a decider knows only its arguments",
	"io/ioutil":    "files: a decider knows only its arguments",
	"net":          "I/O: what the network says comes back as a command (net/netip and net/url are free)",
	"syscall":      "the system below",
	"plugin":       "code that no replay can give again",
	"runtime":      "the machine's state, which differs at each replay",
	"log":          "I/O: what a decider has to say is an event or a refusal (log/slog too)",
	"math/rand":    "chance: a replay would decide otherwise; randomness is stamped on the input as its nonce",
	"crypto/rand":  "chance: a replay would decide otherwise; randomness is stamped on the input as its nonce",
	"sync":         "other goroutines: state belongs to one actor, a decider gets and returns values",
	"context":      "waiting: pure code has nothing to cancel",
	"database/sql": "I/O",
	"testing":      "the tests' own tools in the product",
	"time/tzdata":  "this machine's time zones; times in the log are UTC",
}

// pureParts are free although what they are below is not.
var pureParts = []string{"net/netip", "net/url", "net/textproto"}

// clockFuncs read or wait for the machine's clock.
var clockFuncs = []string{"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc", "Sleep"}

// otherPureDirs are as pure as deciders, and none.
var otherPureDirs = []string{"cloudsync/iotpolicy", "sim/chart"}

// checkPure finds what makes a decider depend on more than its arguments.
func checkPure(s *source, report reporter) {
	if s.forTests() || !within(s.dir, pureDirs...) && !within(s.dir, otherPureDirs...) {
		return
	}
	for p, pos := range s.imports {
		for forbidden, reason := range impure {
			if hasPathPrefix(p, forbidden) && !slices.Contains(pureParts, p) {
				report(s.at(pos), s.dir+" imports "+p, reason)
			}
		}
	}
	s.selectors("time", append([]string{"Local", "LoadLocation"}, clockFuncs...), func(name string, pos place) {
		report(s.at(pos), s.dir+" uses time."+name, "no clock: the host stamps the time on the input (in.At), so that a replay decides the same")
	})
	s.selectors("fmt", []string{"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"}, func(name string, pos place) {
		report(s.at(pos), s.dir+" uses fmt."+name, "I/O: a decider prints nothing")
	})
	s.selectors("path/filepath", []string{"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"}, func(name string, pos place) {
		report(s.at(pos), s.dir+" uses filepath."+name, "files: a decider knows only its arguments (what works on the text of a path is free)")
	})
	ast.Inspect(s.file, func(n ast.Node) bool {
		what := ""
		switch n.(type) {
		case *ast.GoStmt:
			what = "starts a goroutine"
		case *ast.SelectStmt:
			what = "selects"
		case *ast.ChanType, *ast.SendStmt:
			what = "uses a channel"
		}
		if what != "" {
			report(s.at(n.Pos()), s.dir+" "+what, "no concurrency: a decider is a function of values, run by one actor")
		}
		return true
	})
}

// clockDirs may read the machine's clock.
var clockDirs = []string{"cmd/**", "sim/load/**", "sim/bench/**", "sim/crash/**", "sim/planted/**"}

// checkClock finds readings of the machine's clock where a Clock is due.
func checkClock(s *source, report reporter) {
	if s.forTests() || within(s.dir, clockDirs...) || strings.HasPrefix(path.Base(s.path), "clock") {
		return
	}
	s.selectors("time", clockFuncs, func(name string, pos place) {
		report(s.at(pos), s.dir+" uses time."+name, "take a Clock or a Now func: the simulator runs everything under its own time, and trust is judged by a clock that never runs backwards; only cmd, load tools, the crash campaign and a file clock*.go know the machine's")
	})
}

// signingDirs may sign certificates: the product in one place, which judges what it is
// about to sign; and who plays a cloud, a device or a broker.
var signingDirs = []string{"actors/ca", "sim/**"}

// checkSigning finds signatures of certificates that nothing judges.
func checkSigning(s *source, report reporter) {
	if s.forTests() || within(s.dir, signingDirs...) {
		return
	}
	s.selectors("crypto/x509", []string{"CreateCertificate", "CreateRevocationList"}, func(name string, pos place) {
		report(s.at(pos), s.dir+" uses x509."+name, "the product signs what ca.Prepare has judged, and nothing else: ca.Issue is how")
	})
}

// checkShell finds readings of flags, arguments and environment outside of cmd.
func checkShell(s *source, report reporter) {
	const reason = "nothing but cmd reads flags, arguments and environment: a package gets a Config, and a test or the simulator can give it another"
	if s.forTests() || s.nested || within(s.dir, "cmd/**", "sim/crash", "sim/planted/**") { // commands beside cmd: they hurt the product, and are none of it
		return
	}
	for p, pos := range s.imports {
		if p == "flag" {
			report(s.at(pos), s.dir+" imports flag", reason)
		}
	}
	for _, pkg := range []string{"os", "syscall"} {
		s.selectors(pkg, []string{"Args", "Getenv", "LookupEnv", "Environ", "ExpandEnv"}, func(name string, pos place) {
			report(s.at(pos), s.dir+" uses "+pkg+"."+name, reason)
		})
	}
}
