package campaign

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Invariant is a rule that is held against each run.
type Invariant struct {
	Name string `json:"name"` // "S1"
	Says string `json:"says"` // one sentence
}

// Tell says in plain words what came of the campaign, which took so long by the wall clock.
func (o *Outcome) Tell(w io.Writer, took time.Duration) error {
	t := teller{w: w}
	n := &o.Total.Counts
	t.line("simulated", "%s", o.simulated(took))
	t.line("decided", "%s", decided(n))
	t.line("on record", "%s by %s of the core's process; %s to the cloud", count(o.Total.Events, "event", "events"), count(n.Lives, "life", "lives"), count(n.Questions, "question", "questions"))
	t.wrong(&o.Total, o.Done)
	t.checked(o)
	t.space()
	switch {
	case len(o.Failures) > 0:
		for i := range o.Failures {
			if i == failuresTold {
				t.text("… and %s.", count(o.Total.Failures-i, "further failure", "further failures"))
				break
			}
			t.failure(o, &o.Failures[i])
		}
	case o.Done == 0:
		t.text("Nothing was simulated to its end.")
	case o.Interrupted:
		t.text("Until then nothing was allowed wrongly, and nothing on record was lost.")
	default:
		t.text("Nothing was allowed wrongly, nothing on record was lost: all invariants held, after every step.")
	}
	return t.err
}

// failuresTold is how many failures are told at length.
const failuresTold = 5

func (o *Outcome) simulated(took time.Duration) string {
	what := fmt.Sprintf("seed %d", o.First)
	switch {
	case o.FromPlan:
		what = fmt.Sprintf("a plan of seed %d", o.First)
	case o.Seeds > 1:
		what = fmt.Sprintf("%s of %s seeds (from %d on)", grouped(o.Done), grouped(o.Seeds), o.First)
		if o.Done == o.Seeds {
			what = fmt.Sprintf("%s seeds (%d to %d)", grouped(o.Done), o.First, o.First+uint64(o.Seeds)-1)
		}
	}
	what += fmt.Sprintf(": %s at %s, %s in %s", count(o.Total.Devices, "device", "devices"), count(o.Total.Brokers, "broker", "brokers"), span(o.Total.Virtual), wall(took))
	if o.Interrupted {
		what += "; interrupted"
	}
	return what
}

func decided(n *Counts) string {
	allowed, denied, busy := sum(n.Allowed), sum(n.Denied), sum(n.Busy)
	text := fmt.Sprintf("%s: %s allowed, %s denied", count(allowed+denied+busy, "answer", "answers"), grouped(allowed), grouped(denied))
	if busy > 0 {
		text += fmt.Sprintf(", %s told to come again", grouped(busy))
	}
	return text
}

// wall writes a duration of the wall clock.
func wall(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// teller writes lines with a column of names, and keeps the first error.
type teller struct {
	w   io.Writer
	err error
}

func (t *teller) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *teller) line(name, format string, args ...any) {
	t.print("%-11s %s\n", name, fmt.Sprintf(format, args...))
}

func (t *teller) text(format string, args ...any) { t.print(format+"\n", args...) }
func (t *teller) space()                          { t.print("\n") }

// wrong says what went wrong in the simulated world.
func (t *teller) wrong(total *Totals, runs int) {
	faults := total.Counts.Faults
	if sum(faults) == 0 {
		t.line("went wrong", "nothing: no faults")
		return
	}
	t.line("went wrong", "%s", count(sum(faults), "fault", "faults"))
	for _, d := range domains {
		var words []string
		for _, kind := range d.kinds {
			if n := faults[kind[0]]; n > 0 {
				words = append(words, kind[1]+" "+grouped(n))
			}
		}
		if len(words) > 0 {
			t.print("  %-9s %s\n", d.name, strings.Join(words, ", "))
		}
	}
}

// checked says which invariants were held against how much, and which not at all.
func (t *teller) checked(o *Outcome) {
	t.line("checked", "%s, %s", count(len(o.Invariants), "invariant", "invariants"), count(o.Total.Checked(), "time", "times"))
	var idle []string
	for _, i := range o.Invariants {
		n := o.Total.Counts.Checks[i.Name]
		if n == 0 {
			idle = append(idle, i.Name)
			continue
		}
		t.print("  %-5s %13s  %s\n", i.Name, grouped(n), i.Says)
	}
	if len(idle) > 0 {
		t.print("  no occasion here for %s\n", strings.Join(idle, ", "))
	}
}

// actionsTold is how many actions of a plan are told: more say nothing to a reader.
const actionsTold = 40

func (t *teller) failure(o *Outcome, f *Failure) {
	if f.Error != "" {
		t.text("THE SIMULATOR FAILED under seed %d: %s", f.Seed, f.Error)
		t.replay(o, f)
		return
	}
	v := f.Violation()
	t.text("VIOLATION of %s under seed %d, at %s (step %s):", v.Invariant, f.Seed, moment(v.At), grouped(v.Step))
	if i := slices.IndexFunc(o.Invariants, func(i Invariant) bool { return i.Name == v.Invariant }); i >= 0 {
		t.print("  promised  %s\n", o.Invariants[i].Says)
	}
	t.print("  happened  %s\n", clipped(v.What))
	p := f.Result.Plan
	if s := f.Small; s != nil {
		p = s.Plan
		t.print("  %s\n", s.String())
	}
	if len(p.Actions) <= actionsTold {
		t.text("\n  what is done to %s at %s%s", count(p.Devices, "device", "devices"), count(p.Brokers, "broker", "brokers"),
			map[bool]string{true: ": nothing, it happens by itself", false: ":"}[len(p.Actions) == 0])
		for i := range p.Actions {
			t.print("  %12s  %s\n", moment(p.Actions[i].At), Describe(p, &p.Actions[i]))
		}
	}
	if len(v.Last) > 0 {
		t.text("\n  the last steps:")
		for _, line := range shortened(v.Last) {
			t.print("    %s\n", line)
		}
	}
	t.space()
	t.replay(o, f)
}

// replay says how to see it again.
func (t *teller) replay(o *Outcome, f *Failure) {
	if f.File != "" {
		t.print("  replay it    gatehouse sim run --plan %s\n", f.File)
	}
	if !o.FromPlan {
		c := o.Config
		c.Seed = f.Seed
		t.print("  all of it    %s\n", Command(c))
	}
	t.space()
}

// String says how small it has become.
func (s *Shrunk) String() string {
	tries := count(s.Tries, "try", "tries")
	rest := "nothing more can be taken away"
	if !s.Complete {
		rest = "the time was over, there may be less (--shrink-for)"
	}
	if s.To == s.From {
		return fmt.Sprintf("not made smaller than its %s in %s; %s", count(s.From, "action", "actions"), tries, rest)
	}
	return fmt.Sprintf("made small from %s to %d in %s; %s", count(s.From, "action", "actions"), s.To, tries, rest)
}

// whatMax is how much of what happened is told: two states that differ can be very long.
const whatMax = 1000

func clipped(s string) string {
	if r := []rune(s); len(r) > whatMax {
		return string(r[:whatMax]) + fmt.Sprintf("… and %s more characters (--json)", grouped(len(r)-whatMax))
	}
	return s
}

// shortened leaves out lines that differ from the one before in numbers alone, if they are
// many in a row, and says how many.
func shortened(lines []string) []string {
	var short []string
	like := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, s)
	}
	for i := 0; i < len(lines); {
		n := 1
		for i+n < len(lines) && like(lines[i+n]) == like(lines[i]) {
			n++
		}
		if n <= 3 {
			short = append(short, lines[i:i+n]...)
		} else {
			short = append(short, lines[i], fmt.Sprintf("    … %d such lines …", n-2), lines[i+n-1])
		}
		i += n
	}
	return short
}
