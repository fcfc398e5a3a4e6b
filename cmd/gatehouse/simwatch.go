package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/gatehouse-edge/gatehouse/sim/campaign"
)

// How often a line of progress is shown: on a terminal in its place, elsewhere below the
// former one.
const (
	watchTerminal = 200 * time.Millisecond
	watchPlain    = 10 * time.Second
)

// watch shows how far something has come, until the function that it returns is called.
func (a *app) watch(text func(took time.Duration) string) (stop func()) {
	f, ok := a.err.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	every := watchPlain
	if terminal {
		every = watchTerminal
	}
	began := time.Now()
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				if terminal {
					fmt.Fprint(a.err, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			line := text(time.Since(began))
			if line == "" {
				continue
			}
			if !terminal {
				fmt.Fprintln(a.err, line)
				continue
			}
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && len(line) >= width {
				line = line[:width-1]
			}
			fmt.Fprint(a.err, "\r\x1b[K", line)
		}
	})
	return func() { close(done); wait.Wait() }
}

// runLine is how far a campaign has come, in ASCII.
func runLine(s campaign.Status, took time.Duration) string {
	part := 0.0
	line := ""
	switch {
	case s.Run != nil && s.Run.Whole > 0:
		part = float64(s.Run.Virtual) / float64(s.Run.Whole)
		line = fmt.Sprintf("%3.0f %%  %s of %s", 100*part, s.Run.Virtual.Truncate(time.Second), s.Run.Whole.Truncate(time.Second))
	case s.Seeds > 1:
		part = float64(s.Done) / float64(s.Seeds)
		line = fmt.Sprintf("%d of %d seeds  %.3g/s  %.1f days", s.Done, s.Seeds, float64(s.Done)/took.Seconds(), s.Virtual)
	default:
		return ""
	}
	line += fmt.Sprintf("  %d answers  %d faults", s.Decisions, s.Faults)
	if s.Failures > 0 {
		line += fmt.Sprintf("  %d BROKEN, last by seed %d", s.Failures, s.Broke)
	}
	if part > 0 && part < 1 {
		left := time.Duration(float64(took) * (1 - part) / part)
		line += fmt.Sprintf("  %s left", left.Round(time.Second))
	}
	return line
}

// line is a text that one goroutine sets and another shows.
type line struct {
	mu   sync.Mutex
	text string // guarded by mu
}

func (l *line) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
}

func (l *line) get() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}
