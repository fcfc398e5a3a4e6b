package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/chart"
)

// Verdict says in a sentence or two whether answers were right and figures count.
func (r *Result) Verdict() string {
	var b strings.Builder
	switch {
	case r.WrongAllows > 0 && r.WrongDenies > 0:
		fmt.Fprintf(&b, "%d answers allowed what must be denied, %d denied what must be allowed.", r.WrongAllows, r.WrongDenies)
	case r.WrongAllows > 0:
		fmt.Fprintf(&b, "%d answers allowed what must be denied.", r.WrongAllows)
	case r.WrongDenies > 0:
		fmt.Fprintf(&b, "%d answers denied what must be allowed.", r.WrongDenies)
	case r.Decided == 0:
		b.WriteString("Nothing was answered.")
	default:
		fmt.Fprintf(&b, "No answer was wrong: %s decisions, 0 wrong allows, 0 wrong denies.", grouped(r.Decided))
	}
	if !r.Valid {
		b.WriteString("\nThe figures are invalid: " + strings.Join(r.Invalid, "; ") + ".")
	}
	if r.Partial {
		b.WriteString("\nIt was interrupted: this is what there was until then.")
	}
	return b.String()
}

// WriteText writes the result for people.
func (r *Result) WriteText(w io.Writer) error {
	about := ""
	if r.Mix.About != "" {
		about = ": " + r.Mix.About
	}
	fmt.Fprintf(w, "%s%s\n%s\n\n", r.Mix.Name, about, r.setting())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "operation\tdue\ta second\tallowed\tdenied\tp50\tp90\tp99\tp99.9\tmax\t  other answers")
	for _, o := range r.Operations {
		l := o.Latency
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", o.Name, grouped(o.Offered), rate(o.OfferedPer),
			grouped(o.Outcomes[Allowed.String()]), grouped(o.Outcomes[Denied.String()]+o.Outcomes[Closed.String()]),
			l.text(l.P50Ms), l.text(l.P90Ms), l.text(l.P99Ms), l.text(l.P999Ms), l.text(l.MaxMs), others(o.Outcomes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s requests a second were due, %s were decided. Times count from when a request was due.\n", rate(r.OfferedPer), rate(r.DecidedPer))
	fmt.Fprintf(w, "99 %% were sent within %s of that; at most %s waited for an answer at once.\n", r.Lag.text(r.Lag.P99Ms), grouped(int64(r.InFlightMost)))
	for _, s := range r.Storms {
		fmt.Fprintln(w, s.text())
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Ended)) {
		fmt.Fprintf(w, "%d sessions were ended by the other side: %s\n", r.Ended[reason], reason)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, "note: "+warning)
	}
	for _, e := range r.Examples {
		fmt.Fprintf(w, "%s at %.3f s: %s as %s: %s\n", e.Kind, e.At, e.Op, e.Device, e.What)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Verdict())
	return err
}

// setting says in a line who asked whom for how long.
func (r *Result) setting() string {
	brokers := ""
	if !strings.HasPrefix(r.Target, "MQTT") {
		brokers = fmt.Sprintf(" at %s", counted(int64(r.Mix.Brokers), "broker"))
	}
	return fmt.Sprintf("%s%s, %s; %s, %s arrivals, seed %d", counted(int64(r.Mix.Devices), "device"), brokers, r.Target,
		chart.Format(chart.Elapsed, r.Seconds), r.Mix.Arrivals, r.Mix.Seed)
}

func (s Storm) text() string {
	begun := chart.Format(chart.Elapsed, s.At)
	whether := fmt.Sprintf("%s of them were in at the end", grouped(int64(s.In)))
	if s.AllIn != nil {
		whether = fmt.Sprintf("all were in %s after it began", chart.Format(chart.Seconds, *s.AllIn))
	}
	return fmt.Sprintf("storm at %s: %s; %s, in %s tries (%s busy, %s without a decision)", begun, counted(int64(s.Devices), "device"), whether, grouped(s.Tries), grouped(s.Busy), grouped(s.Lost))
}

func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// others lists what was neither yes nor no.
func others(outcomes map[string]int64) string {
	var list []string
	for o := Busy; o < outcomeCount; o++ {
		if n := outcomes[o.String()]; n > 0 {
			list = append(list, grouped(n)+" "+o.String())
		}
	}
	return strings.Join(list, ", ")
}

// text writes a time of l.
func (l Latency) text(ms float64) string {
	if l.Count == 0 {
		return "–"
	}
	return chart.Format(chart.Seconds, ms/1000)
}

func rate(perSecond float64) string {
	if perSecond >= 100 {
		return grouped(int64(perSecond + 0.5))
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Text says how far the run is, in a line.
func (p Progress) Text() string {
	switch p.Stage {
	case "connect":
		return fmt.Sprintf("connecting: %s in", counted(int64(p.Devices), "device"))
	case "finish":
		return fmt.Sprintf("finishing: %s waiting for an answer", counted(int64(p.InFlight), "request"))
	}
	return fmt.Sprintf("%v of %v: %s, %s connected, %s waiting, %d wrong", p.Done.Round(time.Second), p.Of, counted(p.Offered, "request"),
		grouped(int64(p.Devices)), grouped(int64(p.InFlight)), p.WrongAnswered)
}
