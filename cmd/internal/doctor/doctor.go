// Package doctor checks the host of a core: files, identity, network, clock, what AWS knows
// of it, log, disk and brokers. It changes nothing, prints no secret, and works beside a
// running daemon as well as without one. Every check is bounded, and says what was expected
// and what to do.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// Format names the form of a Report in JSON. Members are only added.
const Format = "gatehouse/doctor-1"

// Bounds of a run.
const (
	checkTimeout = 15 * time.Second // of a check
	traceTimeout = 45 * time.Second // of what AWS knows
	atOnce       = 8
	foundMax     = 600 // bytes of a text from outside
)

// State is what came of a check.
type State string

// The states. Unknown means that it could not be looked at, or does not apply, and why.
const (
	OK      State = "ok"
	Unknown State = "unknown"
	Warning State = "warning"
	Failed  State = "failed"
)

var severity = map[State]int{OK: 0, Unknown: 1, Warning: 2, Failed: 3}

// Result is what came of one check.
type Result struct {
	Check    string   `json:"check"` // such as files.keys; names stay
	State    State    `json:"state"`
	Fault    string   `json:"fault,omitempty"` // of what AWS knows, as a trace names it
	Found    string   `json:"found"`
	Expected string   `json:"expected,omitempty"`
	Do       []string `json:"do,omitempty"`
}

// Report is what came of all.
type Report struct {
	Format  string        `json:"format"`
	State   State         `json:"state"` // failed, warning or ok
	Counts  map[State]int `json:"counts"`
	Results []Result      `json:"results"`
}

// ErrStopped means that no daemon runs in the directory.
var ErrStopped = errors.New("no daemon is running")

// Host is what is checked. What is missing is not looked at.
type Host struct {
	Dir  string // the daemon's
	File string // gatehouse.yaml
	// Config is what File says, and Problems what is wrong with it.
	Config   config.File
	Problems []string
	Dev      bool // of `gatehouse dev`

	Local            trace.Local
	Certificate, Key string // files of the core
	CA               string // file of the endpoints' roots; empty: the system's
	ServerName       string // of the core's endpoints; empty: their hosts
	Endpoints        []Endpoint
	Mosquitto        string // its configuration file

	// Roots are those of a file, or, of none, those of CA.
	Roots func(file string) (*x509.CertPool, error)
	// Trace traces this core; an error says why that cannot be.
	Trace func(context.Context) (*trace.Report, error)
	// Credentials gets those of the control planes, and says until when they are good, zero
	// for ever. Nil: NoCredentials says why there are none to get.
	Credentials   func(context.Context) (time.Time, error)
	NoCredentials string
	// Live calls the data plane as the core, with what changes nothing. Nil: there is none.
	Live func(context.Context) []Result
	// Authority asks AWS IoT about a registered CA; nil: it is not asked.
	Authority func(ctx context.Context, id string) (trace.Authority, error)
	// Status asks the running daemon; ErrStopped if there is none.
	Status func(context.Context) (daemon.Status, error)
	// Synced says whether the machine's clock is synchronised.
	Synced func() bool
	// Now is the machine's clock.
	Now func() time.Time
}

// check is some checks that belong together.
type check struct {
	name    string
	timeout time.Duration
	run     func(*Host, context.Context) []Result
}

// checks are all, in the order in which they are shown.
var checks = []check{
	{"files", checkTimeout, (*Host).files},
	{"identity", checkTimeout, (*Host).identity},
	{"endpoint", checkTimeout, (*Host).endpoints},
	{"clock", checkTimeout, (*Host).clock},
	{"credentials", checkTimeout, (*Host).credentials},
	{"cloud", traceTimeout, (*Host).cloud},
	{"live", checkTimeout, (*Host).live},
	{"daemon", checkTimeout, (*Host).daemon},
	{"log", checkTimeout, (*Host).log},
	{"nats", checkTimeout, (*Host).nats},
	{"mqtt", checkTimeout, (*Host).mqtt},
	{"mosquitto", checkTimeout, (*Host).mosquitto},
	{"registration", checkTimeout, (*Host).registration},
}

// Run does all checks, several at once, and returns when each is done or out of time.
func Run(ctx context.Context, h *Host) *Report {
	return run(ctx, h, checks)
}

func run(ctx context.Context, h *Host, checks []check) *Report {
	results := make([][]Result, len(checks))
	var wg sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, c := range checks {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			results[i] = c.within(ctx, h)
		})
	}
	wg.Wait()
	r := &Report{Format: Format, State: OK, Counts: map[State]int{}, Results: []Result{}}
	for _, list := range results {
		for _, one := range list {
			one.Found = clip(one.Found)
			r.Results = append(r.Results, one)
			r.Counts[one.State]++
			if severity[one.State] > severity[r.State] && one.State != Unknown {
				r.State = one.State
			}
		}
	}
	return r
}

// within runs c and gives it up when its time is over: a file system that hangs heeds no
// context.
func (c check) within(ctx context.Context, h *Host) []Result {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	done := make(chan []Result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- []Result{unknown(c.name, "the check itself broke: %v; please report it", p)}
			}
		}()
		done <- c.run(h, ctx)
	}()
	select {
	case list := <-done:
		return list
	case <-ctx.Done():
	}
	select { // what heeds the context ends now, and has more to say
	case list := <-done:
		return list
	case <-time.After(time.Second):
		return []Result{unknown(c.name, "not done within %v", c.timeout)}
	}
}

func ok(name, format string, args ...any) Result {
	return Result{Check: name, State: OK, Found: fmt.Sprintf(format, args...)}
}

func unknown(name, format string, args ...any) Result {
	return Result{Check: name, State: Unknown, Found: fmt.Sprintf(format, args...)}
}

// bad is a result that wants something done.
func bad(state State, name, expected string, do []string, format string, args ...any) Result {
	return Result{Check: name, State: state, Found: fmt.Sprintf(format, args...), Expected: expected, Do: do}
}

func clip(s string) string {
	if len(s) > foundMax {
		s = strings.ToValidUTF8(s[:foundMax], "") + "…"
	}
	return s
}

// Summary is one line about all.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d ok, %d warnings, %d failed, %d not looked at", r.Counts[OK], r.Counts[Warning], r.Counts[Failed], r.Counts[Unknown])
}

// WriteText writes a line a check, with what to do where something is wrong.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, one := range r.Results {
		mark := string(one.State)
		switch one.State {
		case Failed:
			mark = "FAILED"
		case Unknown:
			mark = "-"
		}
		fmt.Fprintf(&b, "%-8s %-24s %s\n", mark, one.Check, line(one.Found))
		if one.Expected != "" {
			fmt.Fprintf(&b, "%34sexpected: %s\n", "", line(one.Expected))
		}
		for _, do := range one.Do {
			fmt.Fprintf(&b, "%34sdo: %s\n", "", line(do))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Summary())
	_, err := io.WriteString(w, b.String())
	return err
}

// line keeps a text from outside in its line.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
