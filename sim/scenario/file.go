package scenario

import (
	"fmt"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Limits of a file.
const (
	FileBytesMax = 4 << 20
	scenariosMax = 1000
	eventsMax    = 10_000 // of one scenario
	listMax      = 1000   // names in an expectation
	textBytesMax = 4096
	problemsMax  = 20 // told of one file
)

// File is what a file of scenarios says.
type File struct {
	About     string     `key:"about" doc:"for people"`
	Scenarios []Scenario `key:"scenarios" need:"yes" doc:"each begins with an empty log, its own cloud, and the link up"`
}

// Scenario is a sequence of events and what is to come of them.
type Scenario struct {
	Name         text    `key:"name" need:"yes" doc:"names it in results; each name once in a file"`
	TrustMinutes minutes `key:"trustMinutes" doc:"security.clientDeviceTrustDurationMinutes at the beginning (default 1)"`
	OffTime      offTime `key:"unknownOffTime" doc:"trust.unknownOffTime: what is stored counts not at all (strict, the default), or for a shorter time (budget), while nobody knows how long the machine was off"`
	Battery      bool    `key:"battery" doc:"the machine has a hardware clock, which counts on while it is off (default false)"`
	Derived      bool    `key:"derived" doc:"for people: follows from the reference's code, not from one of its tests"`
	Note         text    `key:"note" doc:"for people"`
	Events       []Event `key:"events" need:"yes" doc:"in their order"`
}

// Event is one thing that happens, or one look at what has come of it.
type Event struct {
	Do   string
	At   *seconds // when; nil: at once
	Line int
	act  action
}

// action is what an event of one kind does. It returns what came out otherwise than it
// should; an error says that the scenario cannot go on.
type action interface {
	run(p *play) ([]string, error)
}

// Errors are all that is wrong with a file: where, what, what to do.
type Errors = policy.Errors

// seconds since the beginning of a scenario, or of something else, as a file spells it.
type seconds float64

// The range of seconds: as far as a scenario's certificates are valid.
const (
	secondsMin = -3e9
	secondsMax = 3e9
)

func (s seconds) duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// lapse is seconds that pass.
type lapse float64

const lapseMin = 0.001 // times on record are milliseconds

func (l lapse) duration() time.Duration { return seconds(l).duration() }

func (l lapse) check() error {
	if l < lapseMin {
		return fmt.Errorf("%v, want at least %v", seconds(l), seconds(lapseMin))
	}
	return nil
}

// slack is how far apart two equal times may be: the questions of a refresh take their
// turns, a millisecond each.
const slack = 0.05

// snap is s, or want if that is as good as equal.
func (s seconds) snap(want seconds) seconds {
	if math.Abs(float64(s-want)) < slack {
		return want
	}
	return s
}

// inSeconds is d as a file spells it.
func inSeconds(d time.Duration) seconds { return seconds(d.Seconds()) }

// String prints s as a file spells it.
func (s seconds) String() string { return fmt.Sprintf("%g s", float64(s)) }

// minutes of a trust duration, in the range of the configuration.
type minutes int64

func (m minutes) check() error {
	if m < 1 || m > math.MaxInt32 {
		return fmt.Errorf("%d minutes, want 1 to %d", m, math.MaxInt32)
	}
	return nil
}

// offTime is trust.unknownOffTime of the configuration.
type offTime string

func (offTime) choices() []string { return []string{"strict", "budget"} }

// text is words of any kind.
type text string
