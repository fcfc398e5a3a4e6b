package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/chart"
)

// WriteHTML writes the result as a page with plots.
func (r *Result) WriteHTML(w io.Writer) error {
	kind := chart.Passed
	switch {
	case r.Wrong() > 0 || r.Decided == 0:
		kind = chart.Failed
	case !r.Valid || r.Partial:
		kind = chart.Doubtful
	}
	page := chart.Page{
		Title:    "Load: " + r.Mix.Name,
		Subtitle: r.setting() + "; " + r.Began.Format(time.RFC1123),
		Verdict:  chart.Verdict{Text: r.Verdict(), Kind: kind},
		Sections: []chart.Section{r.glance(), r.overTime(), r.distribution(), r.remarks()},
		Footer:   "Times count from the moment at which a request was due, not from when it was sent: what a server makes others wait is in them (coordinated omission is corrected). Busy and unavailable decide nothing and come at once; their times are left out. Made by gatehouse sim load.",
	}
	if r.Mix.About != "" {
		page.Sections[0].Blocks = slices.Insert(page.Sections[0].Blocks, 0, chart.Block(chart.Text(r.Mix.About)))
	}
	return page.Write(w)
}

func (r *Result) glance() chart.Section {
	facts := chart.Facts{
		{Name: "due a second", Value: rate(r.OfferedPer)}, {Name: "decided a second", Value: rate(r.DecidedPer)},
		{Name: "wrong allows", Value: grouped(r.WrongAllows)}, {Name: "wrong denies", Value: grouped(r.WrongDenies)},
		{Name: "sent late by, p99", Value: r.Lag.text(r.Lag.P99Ms)},
	}
	for _, s := range r.Storms {
		value := fmt.Sprintf("%s of %s", grouped(int64(s.In)), grouped(int64(s.Devices)))
		if s.AllIn != nil {
			value = chart.Format(chart.Seconds, *s.AllIn)
		}
		facts = append(facts, chart.Fact{Name: "storm: all in after", Value: value})
	}
	table := chart.Table{Left: 1, Head: []string{"operation", "due", "a second", "allowed", "denied", "other", "p50", "p90", "p99", "p99.9", "max"}}
	for _, o := range r.Operations {
		l := o.Latency
		other := others(o.Outcomes)
		if other == "" {
			other = "–"
		}
		table.Rows = append(table.Rows, []string{o.Name, grouped(o.Offered), rate(o.OfferedPer), grouped(o.Outcomes["allowed"]),
			grouped(o.Outcomes["denied"] + o.Outcomes["closed"]), other, l.text(l.P50Ms), l.text(l.P90Ms), l.text(l.P99Ms), l.text(l.P999Ms), l.text(l.MaxMs)})
	}
	blocks := []chart.Block{facts, table}
	if len(r.Examples) > 0 {
		wrong := chart.Table{Left: 5, Caption: "What was wrong (the first of them)", Head: []string{"", "at", "operation", "as", "what"}}
		for i, e := range r.Examples {
			wrong.Rows = append(wrong.Rows, []string{e.Kind, fmt.Sprintf("%.3f s", e.At), e.Op, e.Device, e.What})
			wrong.Bad = append(wrong.Bad, i)
		}
		blocks = append(blocks, wrong)
	}
	return chart.Section{Title: "At a glance", Blocks: blocks}
}

// elapsed is the axis of the run's time.
func (r *Result) elapsed() chart.Axis {
	return chart.Axis{Label: "time since measuring began", Unit: chart.Elapsed, To: r.Seconds}
}

// phases shows what the mix wanted, behind a plot: every other phase, so that two beside
// each other differ, and storms until all were in.
func (r *Result) phases() []chart.Band {
	var bands []chart.Band
	begin := 0.0
	for i, p := range r.Mix.Load {
		end := begin + time.Duration(p.For).Seconds()
		if p.Name != "" && i%2 == 1 && p.Storm == 0 {
			bands = append(bands, chart.Band{Name: p.Name, Color: chart.Muted, From: begin, To: min(end, r.Seconds)})
		}
		begin = end
	}
	for _, s := range r.Storms {
		band := chart.Band{Name: "storm, until all were in", Color: chart.Warn, From: s.At, To: r.Seconds}
		if s.AllIn != nil {
			band.To = s.At + *s.AllIn
		}
		bands = append(bands, band)
	}
	return bands
}

func (r *Result) overTime() chart.Section {
	perSecond := 1000 / float64(max(1, r.IntervalMs))
	half := float64(r.IntervalMs) / 2000
	line := func(name string, color chart.Color, kind chart.Kind, value func(Sample) (float64, bool)) chart.Series {
		s := chart.Series{Name: name, Color: color, Kind: kind}
		for _, one := range r.Series {
			if v, ok := value(one); ok { // what an interval saw stands in its middle
				s.Points = append(s.Points, chart.Point{X: one.At + half, Y: v})
			}
		}
		return s
	}
	answers := chart.Plot{
		Title: "Requests by what became of them", Note: "Where they were due, not where they were answered.",
		X: r.elapsed(), Y: chart.Axis{Label: "requests", Unit: chart.PerSecond}, Bands: r.phases(),
	}
	colors := [outcomeCount]chart.Color{chart.Good, chart.Blue, chart.Teal, chart.Warn, chart.Orange, chart.Bad, chart.Brown, chart.Purple}
	for o := range outcomeCount {
		if !slices.ContainsFunc(r.Series, func(s Sample) bool { return s.Outcomes[o.String()] > 0 }) {
			continue
		}
		answers.Series = append(answers.Series, line(o.String(), colors[o], chart.Stack, func(s Sample) (float64, bool) { return float64(s.Outcomes[o.String()]) * perSecond, true }))
	}
	latency := chart.Plot{
		Title: "How long they took: 99th percentile, by operation", Note: "Of each interval; one slow answer in a hundred shows.",
		X: r.elapsed(), Y: chart.Axis{Label: "p99", Unit: chart.Seconds, Log: true}, Bands: r.phases(),
	}
	for _, o := range r.Operations {
		if s := line(o.Name, chart.Auto, chart.Line, func(s Sample) (float64, bool) { v, ok := s.P99Ms[o.Name]; return v / 1000, ok }); len(s.Points) > 1 {
			latency.Series = append(latency.Series, s)
		}
	}
	gauges := chart.Plot{
		Title: "Devices connected", X: r.elapsed(), Y: chart.Axis{Label: "devices"}, Bands: r.phases(),
		Series: []chart.Series{line("connected", chart.Teal, chart.Area, func(s Sample) (float64, bool) { return float64(s.Connected), true })},
	}
	strain := chart.Plot{
		Title: "Requests that waited for an answer", X: r.elapsed(), Y: chart.Axis{Label: "requests"}, Bands: r.phases(),
		Series: []chart.Series{line("waiting", chart.Orange, chart.Area, func(s Sample) (float64, bool) { return float64(s.InFlight), true })},
	}
	lag := chart.Plot{
		Title: "How late the generator sent", Note: "The latest request of each interval. If this is large, the generator or its machine is what was measured.",
		X: r.elapsed(), Y: chart.Axis{Label: "behind the schedule", Unit: chart.Seconds},
		Series: []chart.Series{line("at most", chart.Muted, chart.Area, func(s Sample) (float64, bool) { return s.LagMs / 1000, true })},
	}
	return chart.Section{Title: "Over time", Blocks: []chart.Block{answers, latency, gauges, strain, lag}}
}

func (r *Result) distribution() chart.Section {
	plot := chart.Plot{
		Title: "Latency by percentile", Note: "How long so many per cent of the requests took at most. The axis stretches toward the slowest.",
		X: chart.Axis{Label: "percentile", Unit: chart.Percentile}, Y: chart.Axis{Label: "latency", Unit: chart.Seconds, Log: true},
	}
	for _, o := range r.Operations {
		s := chart.Series{Name: o.Name}
		for _, q := range o.Latency.Curve {
			s.Points = append(s.Points, chart.Point{X: q.Percentile, Y: q.Ms / 1000})
		}
		plot.Series = append(plot.Series, s)
	}
	return chart.Section{Title: "Distribution", Blocks: []chart.Block{plot}}
}

func (r *Result) remarks() chart.Section {
	s := chart.Section{Title: "Remarks"}
	for _, storm := range r.Storms {
		s.Blocks = append(s.Blocks, chart.Text(storm.text()))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Ended)) {
		s.Blocks = append(s.Blocks, chart.Text(fmt.Sprintf("%d sessions were ended by the other side: %s", r.Ended[reason], reason)))
	}
	for _, warning := range r.Warnings {
		s.Blocks = append(s.Blocks, chart.Text(warning))
	}
	s.Blocks = append(s.Blocks, chart.Text(fmt.Sprintf("The generator used %.1f s of processor time in %s, on a machine with %s; for %s no device was free.",
		r.Generator.CPUSeconds, chart.Format(chart.Elapsed, r.Seconds), counted(int64(r.Generator.Cores), "core"), counted(int64(r.Skipped), "request"))))
	table := chart.Table{Left: 2, Caption: "What the operations are", Head: []string{"operation", "what it is"}}
	for _, o := range r.Operations {
		table.Rows = append(table.Rows, []string{o.Name, o.About})
	}
	s.Blocks = append(s.Blocks, table)
	return s
}
