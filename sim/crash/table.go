package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

var columns = []string{"", "fault", "runs", "faults", "acked", "lost", "twice", "detected", "ready", "took", ""}

func cells(r *Row) []string {
	detected := "-"
	if n := r.Seen + r.Unseen; n > 0 {
		detected = fmt.Sprintf("%d/%d", r.Seen, n)
	}
	ready := "-"
	if r.Ready > 0 {
		ready = r.Ready.Round(time.Millisecond).String()
	}
	verdict := "ok"
	if !r.Passed() {
		verdict = "FAILED"
	}
	return []string{
		r.ID, r.Fault, fmt.Sprint(r.Runs), fmt.Sprint(r.Faults), fmt.Sprint(r.Acked), fmt.Sprint(r.Lost), fmt.Sprint(r.Twice),
		detected, ready, r.Took.Round(100 * time.Millisecond).String(), verdict,
	}
}

// progress is one line about a row that has ended.
func progress(r *Row) string {
	c := cells(r)
	return fmt.Sprintf("%-4s %-8s %s: %s faults, %s acked, %s lost, %s twice, detected %s", c[0], c[10], c[9], c[3], c[4], c[5], c[6], c[7])
}

// report prints the rows.
func report(w io.Writer, c *campaign, rows []*Row, asJSON, markdown bool) error {
	if asJSON {
		size := "ci"
		if c.night {
			size = "night"
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"size": size, "seed": c.seed, "rows": rows})
	}
	if markdown {
		fmt.Fprintf(w, "|%s|\n|%s\n", strings.Join(columns, "|"), strings.Repeat("---|", len(columns)))
		for _, r := range rows {
			fmt.Fprintf(w, "|%s|\n", strings.Join(cells(r), "|"))
		}
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, strings.Join(columns, "\t"))
		for _, r := range rows {
			fmt.Fprintln(t, strings.Join(cells(r), "\t"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, r := range rows {
		for _, n := range r.Notes {
			fmt.Fprintf(w, "%s: %s\n", r.ID, n)
		}
		for _, f := range r.Failed {
			fmt.Fprintf(w, "%s FAILED: %s\n", r.ID, f)
		}
		if hidden := r.failing - len(r.Failed); hidden > 0 {
			fmt.Fprintf(w, "%s FAILED: and %d more\n", r.ID, hidden)
		}
	}
	return nil
}
