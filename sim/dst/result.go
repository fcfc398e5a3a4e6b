package dst

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// Result is what came of a plan.
type Result struct {
	Plan      *Plan
	Trace     Trace         // over all that happened, in order: same plan, same trace
	Steps     uint64        // scheduled things
	Events    uint64        // records in the log
	Virtual   time.Duration // true time that passed
	Violation *Violation    // the first; nil: none
	Counts    Counts
	Series    []Sample
}

// Trace is the hash over what happened.
type Trace [32]byte

// String is the hash in hex.
func (t Trace) String() string { return hex.EncodeToString(t[:]) }

// MarshalText implements encoding.TextMarshaler.
func (t Trace) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Trace) UnmarshalText(text []byte) error {
	if len(text) != 2*len(t) {
		return fmt.Errorf("a trace of %d characters, want %d", len(text), 2*len(t))
	}
	_, err := hex.Decode(t[:], text)
	return err
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string        // its name: "S1"
	Step      uint64        // after which it was seen
	At        time.Duration // true time since the beginning
	What      string        // what happened, in plain words
	Last      []string      // the last lines of the trace, the oldest first
}

// String says it in a line.
func (v *Violation) String() string {
	return fmt.Sprintf("%s is broken at %v (step %d): %s", v.Invariant, v.At, v.Step, v.What)
}

// Counts is what happened how often.
type Counts struct {
	Allowed   map[string]uint64 // by what was asked: connect, publish, subscribe
	Denied    map[string]uint64
	Busy      map[string]uint64 // neither: try again
	Actions   map[string]uint64 // by kind
	Faults    map[string]uint64 // by kind, that took effect
	Checks    map[string]uint64 // how often each invariant was held against something
	Records   map[string]uint64 // of the log, by kind
	Sessions  uint64            // opened
	Pushes    uint64            // that reached brokers
	Questions uint64            // that reached the cloud
	Lives     uint64            // of the core's process
	Messages  uint64            // between brokers and core
}

// Sample is one moment of a run.
type Sample struct {
	At          time.Duration
	Connected   int    // devices that a broker has let in
	Refused     int    // devices whose last try was refused, or that wait
	Quarantined int    // devices
	Sessions    int    // live ones by the log
	Allowed     uint64 // decisions so far
	Denied      uint64
	Busy        uint64
	TrustP50    time.Duration // age of the trust in connected devices
	TrustMax    time.Duration
	Records     uint64
	Faults      Faults // under way
	Up          bool   // the core's process runs
}

// Options are how a run is played; its zero value is good. They change nothing of it.
type Options struct {
	Progress  func(Progress) // called now and then; nil: not
	KeepTrace int            // lines of the trace that a violation shows; default: 40; negative: none
	Samples   int            // points of Series; default: 240; negative: none
	// Far is where the log's records are kept (eventlog.Options); nil: in memory. A day of a
	// million devices is more than memory should hold.
	Far func() (eventlog.Far, error)
}

// Progress is how far a run has come.
type Progress struct {
	Virtual time.Duration // of Whole
	Whole   time.Duration
	Steps   uint64
	Counts  *Counts // read it before returning
}

// JSON is the result as a file has it.
func (r *Result) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
