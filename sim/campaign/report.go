package campaign

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/chart"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Report writes the outcome as a page of its own, with plots. took is by the wall clock;
// about is what it was made with: the program's version, the day, the machine.
func (o *Outcome) Report(w io.Writer, took time.Duration, about string) error {
	p := chart.Page{Title: "Gatehouse under simulation", Subtitle: capital(o.simulated(took)) + ".", Verdict: o.verdict(), Footer: about}
	p.Sections = append(p.Sections, chart.Section{Title: "In short", Blocks: []chart.Block{o.facts(took), o.decisions()}})
	for i := range o.Failures {
		if i == failuresTold {
			break
		}
		p.Sections = append(p.Sections, o.failurePage(&o.Failures[i]))
	}
	if s, ok := o.closerPage(); ok {
		p.Sections = append(p.Sections, s)
	}
	p.Sections = append(p.Sections,
		chart.Section{Title: "What went wrong in the world", Blocks: []chart.Block{
			chart.Text("Faults that took effect, as the plans had them happen. Gatehouse must hold its promises through all of them."), o.faults(),
		}},
		chart.Section{Title: "What was promised, and how often it was held against something", Blocks: []chart.Block{
			chart.Text("An observer outside of Gatehouse sees what devices, brokers and operators see, knows the true time and who may what, and holds each answer against these after every step."),
			o.invariants(),
		}},
	)
	if o.Seeds > 1 {
		p.Sections = append(p.Sections, o.seeds())
	}
	return p.Write(w)
}

func (o *Outcome) verdict() chart.Verdict {
	switch {
	case len(o.Failures) > 0 && o.Failures[0].Error != "":
		return chart.Verdict{Kind: chart.Failed, Text: fmt.Sprintf("The simulator itself failed, under seed %d.", o.Failures[0].Seed)}
	case len(o.Failures) > 0:
		v := o.Failures[0].Violation()
		return chart.Verdict{Kind: chart.Failed, Text: fmt.Sprintf("%s is broken under seed %d: %s", v.Invariant, o.Failures[0].Seed, clipped(v.What))}
	case o.Interrupted:
		return chart.Verdict{Kind: chart.Doubtful, Text: "Interrupted. Until then all invariants held."}
	}
	return chart.Verdict{Kind: chart.Passed, Text: "Nothing was allowed wrongly, nothing on record was lost: all invariants held, after every step."}
}

func (o *Outcome) facts(took time.Duration) chart.Facts {
	n := &o.Total.Counts
	return chart.Facts{
		{Name: "runs", Value: grouped(o.Done)},
		{Name: "devices", Value: grouped(o.Total.Devices)},
		{Name: "virtual time", Value: span(o.Total.Virtual)},
		{Name: "wall time", Value: wall(took)},
		{Name: "answers", Value: grouped(o.Total.Decisions())},
		{Name: "faults", Value: grouped(sum(n.Faults))},
		{Name: "lives of the core", Value: grouped(n.Lives)},
		{Name: "events on record", Value: grouped(o.Total.Events)},
		{Name: "steps", Value: grouped(o.Total.Steps)},
		{Name: "checks", Value: grouped(o.Total.Checked())},
	}
}

func (o *Outcome) decisions() chart.Block {
	n := &o.Total.Counts
	all := map[string]uint64{}
	for _, m := range []map[string]uint64{n.Allowed, n.Denied, n.Busy} {
		for op, v := range m {
			all[op] += v
		}
	}
	t := chart.Table{Caption: "Answers that devices had, by what they asked for", Head: []string{"asked for", "allowed", "denied", "come again"}, Left: 1}
	for _, op := range byCount(all) {
		t.Rows = append(t.Rows, []string{op, grouped(n.Allowed[op]), grouped(n.Denied[op]), grouped(n.Busy[op])})
	}
	return t
}

func (o *Outcome) faults() chart.Block {
	t := chart.Table{Head: []string{"fault", "in the plan", "times"}, Left: 2}
	if o.Seeds > 1 {
		t.Head = append(t.Head, "runs")
	}
	counts := o.Total.Counts.Faults
	for _, d := range domains {
		for _, kind := range d.kinds {
			row := []string{d.name + ": " + kind[1], kind[0], grouped(counts[kind[0]])}
			if o.Seeds > 1 {
				row = append(row, grouped(o.Total.RunsWith[kind[0]]))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

func (o *Outcome) invariants() chart.Block {
	t := chart.Table{Head: []string{"invariant", "says", "checked"}, Left: 2}
	broken := map[string]bool{}
	for i := range o.Failures {
		if v := o.Failures[i].Violation(); v != nil {
			broken[v.Invariant] = true
		}
	}
	for i, inv := range o.Invariants {
		times := grouped(o.Total.Counts.Checks[inv.Name])
		if times == "0" {
			times = "no occasion"
		}
		if broken[inv.Name] {
			t.Bad = append(t.Bad, i)
		}
		t.Rows = append(t.Rows, []string{inv.Name, inv.Says, times})
	}
	return t
}

func (o *Outcome) seeds() chart.Section {
	t := chart.Table{Head: []string{"seed", "broken", "devices", "brokers", "virtual time", "steps", "allowed", "denied", "come again", "faults", "lives", "events"}, Left: 2}
	for i, r := range o.Rows {
		if r.Violation != "" {
			t.Bad = append(t.Bad, i)
		}
		t.Rows = append(t.Rows, []string{
			strconv.FormatUint(r.Seed, 10), r.Violation, grouped(r.Devices), grouped(r.Brokers), span(r.Virtual), grouped(r.Steps),
			grouped(r.Allowed), grouped(r.Denied), grouped(r.Busy), grouped(r.Faults), grouped(r.Lives), grouped(r.Events),
		})
	}
	s := chart.Section{Title: "Seeds", Blocks: []chart.Block{
		chart.Text("Each seed is a world of its own, with its fleet, its faults and its luck; `gatehouse sim run --seed N` plays one again."), t}}
	if o.RowsLeftOut > 0 {
		s.Blocks = append(s.Blocks, chart.Text(grouped(o.RowsLeftOut)+" further runs, whose invariants held, are in the sums above alone."))
	}
	return s
}

func (o *Outcome) failurePage(f *Failure) chart.Section {
	var t strings.Builder
	tell := teller{w: &t}
	s := chart.Section{Title: fmt.Sprintf("What was broken under seed %d", f.Seed)}
	if f.Error != "" {
		tell.replay(o, f)
		s.Blocks = []chart.Block{chart.Text("The simulator itself failed."), chart.Code(f.Error), chart.Code(strings.TrimSpace(t.String()))}
		return s
	}
	v, p := f.Violation(), f.Result.Plan
	for _, i := range o.Invariants {
		if i.Name == v.Invariant {
			s.Blocks = append(s.Blocks, chart.Text(i.Name+" promises: "+i.Says))
		}
	}
	s.Blocks = append(s.Blocks, chart.Text(fmt.Sprintf("At %s, step %s: %s", moment(v.At), grouped(v.Step), clipped(v.What))))
	if f.Small != nil {
		p = f.Small.Plan
		s.Blocks = append(s.Blocks, chart.Text("The plan was "+f.Small.String()+"."))
	}
	if len(p.Actions) == 0 {
		s.Blocks = append(s.Blocks, chart.Text("Nothing needs to be done to the world for it: it happens by itself."))
	} else if len(p.Actions) <= actionsTold {
		table := chart.Table{Caption: "What is done to the world", Head: []string{"at", "what"}, Left: 2}
		for i := range p.Actions {
			table.Rows = append(table.Rows, []string{moment(p.Actions[i].At), Describe(p, &p.Actions[i])})
		}
		s.Blocks = append(s.Blocks, table)
	}
	if len(v.Last) > 0 {
		s.Blocks = append(s.Blocks, chart.Text("The last steps:"), chart.Code(strings.Join(shortened(v.Last), "\n")))
	}
	tell.replay(o, f)
	s.Blocks = append(s.Blocks, chart.Text("Replay it:"), chart.Code(strings.TrimSpace(t.String())))
	return s
}

// closerPage shows one run over its virtual time.
func (o *Outcome) closerPage() (chart.Section, bool) {
	r := o.Closer
	if r == nil || r.Plan == nil || len(r.Series) < 2 {
		return chart.Section{}, false
	}
	s := chart.Section{Title: "The run over its virtual time"}
	if o.Seeds > 1 {
		s.Title = fmt.Sprintf("A closer look at seed %d", r.Plan.Seed)
		why := "It is the one with the most answers."
		if r.Violation != nil {
			why = "It is the one that failed first."
		}
		s.Blocks = append(s.Blocks, chart.Text(fmt.Sprintf("%s %s at %s, %s.", why, count(r.Plan.Devices, "device", "devices"), count(r.Plan.Brokers, "broker", "brokers"), span(r.Virtual))))
	}
	bands := bandsOf(r)
	s.Blocks = append(s.Blocks, devicesPlot(r, bands), answersPlot(r, bands), trustPlot(r, bands), faultsTimeline(r))
	return s, true
}

func elapsed(r *dst.Result) chart.Axis {
	return chart.Axis{Label: "true time since the beginning", Unit: chart.Elapsed, To: r.Series[len(r.Series)-1].At.Seconds()}
}

// series makes points of what each sample shows.
func series(r *dst.Result, name string, kind chart.Kind, color chart.Color, y func(i int) float64) chart.Series {
	s := chart.Series{Name: name, Kind: kind, Color: color}
	for i := range r.Series {
		s.Points = append(s.Points, chart.Point{X: r.Series[i].At.Seconds(), Y: y(i)})
	}
	return s
}

func devicesPlot(r *dst.Result, bands []chart.Band) chart.Plot {
	of := func(name string, color chart.Color, y func(*dst.Sample) int) chart.Series {
		return series(r, name, chart.Stack, color, func(i int) float64 { return float64(y(&r.Series[i])) })
	}
	return chart.Plot{
		Title: "Devices by state", Note: "What brokers and devices know of themselves.", X: elapsed(r), Y: chart.Axis{Label: "devices"}, Bands: bands,
		Series: []chart.Series{
			of("connected", chart.Good, func(s *dst.Sample) int { return s.Connected }),
			of("refused, or waiting", chart.Warn, func(s *dst.Sample) int { return s.Refused }),
			of("quarantined", chart.Bad, func(s *dst.Sample) int { return s.Quarantined }),
		},
	}
}

func answersPlot(r *dst.Result, bands []chart.Band) chart.Plot {
	rate := func(name string, color chart.Color, y func(*dst.Sample) uint64) chart.Series {
		return series(r, name, chart.Step, color, func(i int) float64 {
			if i == len(r.Series)-1 {
				i--
			}
			return float64(y(&r.Series[i+1]) - y(&r.Series[i]))
		})
	}
	return chart.Plot{
		Title: "Answers", Note: "Connects, publishes and subscribes, in each of " + grouped(len(r.Series)-1) + " equal spans.",
		X: elapsed(r), Y: chart.Axis{Label: "answers"}, Bands: bands,
		Series: []chart.Series{
			rate("allowed", chart.Good, func(s *dst.Sample) uint64 { return s.Allowed }),
			rate("denied", chart.Bad, func(s *dst.Sample) uint64 { return s.Denied }),
			rate("come again", chart.Warn, func(s *dst.Sample) uint64 { return s.Busy }),
		},
	}
}

func trustPlot(r *dst.Result, bands []chart.Band) chart.Plot {
	return chart.Plot{
		Title: "Age of trust", Note: "How long ago the cloud confirmed the devices that are connected.", X: elapsed(r), Y: chart.Axis{Label: "age", Unit: chart.Elapsed}, Bands: bands,
		Series: []chart.Series{
			series(r, "the oldest", chart.Area, chart.Orange, func(i int) float64 { return r.Series[i].TrustMax.Seconds() }),
			series(r, "median", chart.Line, chart.Blue, func(i int) float64 { return r.Series[i].TrustP50.Seconds() }),
		},
	}
}

// spans are the stretches between samples at whose end is said yes.
func spans(r *dst.Result, is func(*dst.Sample) bool) []chart.Span {
	var all []chart.Span
	for i := 1; i < len(r.Series); i++ {
		if !is(&r.Series[i]) {
			continue
		}
		from, to := r.Series[i-1].At.Seconds(), r.Series[i].At.Seconds()
		if n := len(all); n > 0 && all[n-1].To == from {
			all[n-1].To = to
		} else {
			all = append(all, chart.Span{From: from, To: to})
		}
	}
	return all
}

// bandsOf are what explains most of what plots show: the cloud away, the core down.
func bandsOf(r *dst.Result) []chart.Band {
	var bands []chart.Band
	for _, s := range spans(r, func(s *dst.Sample) bool { return s.Faults.Has(dst.CloudDown) }) {
		bands = append(bands, chart.Band{Name: "cloud away", Color: chart.Muted, From: s.From, To: s.To})
	}
	for _, s := range spans(r, func(s *dst.Sample) bool { return !s.Up }) {
		bands = append(bands, chart.Band{Name: "core down", Color: chart.Bad, From: s.From, To: s.To})
	}
	return bands
}

func faultsTimeline(r *dst.Result) chart.Timeline {
	t := chart.Timeline{Title: "Faults", Note: "A span is marked if the fault was there at any time in it.", X: elapsed(r)}
	for _, name := range dst.FaultNames() {
		f, err := dst.ParseFaults(name)
		if err != nil {
			continue
		}
		if all := spans(r, func(s *dst.Sample) bool { return s.Faults.Has(f) }); len(all) > 0 {
			t.Lanes = append(t.Lanes, chart.Lane{Name: faultWords(name), Spans: all})
		}
	}
	if down := spans(r, func(s *dst.Sample) bool { return !s.Up }); len(down) > 0 {
		t.Lanes = append(t.Lanes, chart.Lane{Name: "core not running", Color: chart.Bad, Spans: down})
	}
	if len(t.Lanes) == 0 {
		t.Note = "None."
	}
	return t
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
