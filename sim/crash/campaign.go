package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Row is one line of the table: what one kind of fault did.
type Row struct {
	ID     string `json:"id"`
	Fault  string `json:"fault"`
	Runs   int    `json:"runs"`   // lives of a process, or openings of a directory
	Faults int    `json:"faults"` // kills, cuts, mutations, failed calls
	Acked  int    `json:"acked"`  // acknowledged events that were looked for
	Lost   int    `json:"lost"`   // of them, missing or changed
	Twice  int    `json:"twice"`  // requests with a second effect
	// Seen and Unseen are faults that had to be noticed: those that were, and those that were not.
	Seen    int           `json:"detected"`
	Unseen  int           `json:"undetected"`
	Ready   time.Duration `json:"worstReadyNs"` // longest start after a fault
	Took    time.Duration `json:"tookNs"`
	Notes   []string      `json:"notes,omitempty"`
	Failed  []string      `json:"failures,omitempty"` // in words, the first few
	failing int
}

// Passed reports whether the row holds.
func (r *Row) Passed() bool { return r.Lost == 0 && r.Twice == 0 && r.Unseen == 0 && r.failing == 0 }

// A campaign runs rows. Safe for concurrent use by the parts of one row.
type campaign struct {
	ctx   context.Context
	night bool
	seed  uint64
	self  string // this program, to be started again as a node
	dir   string // everything is below it
	say   func(format string, args ...any)
	wide  int // runs side by side

	mu   sync.Mutex
	row  *Row
	undo []func() error // of mounts and the like, last first
	dirs int

	whole, refused int // damaged directories that opened with everything, or did not

	daemon sync.Once
	binary string // the daemon's program
	built  error

	bug   string          // planted, to see that it is found: tests only
	kinds []messages.Kind // for tests: some; nil: all
}

const failuresShown = 12

// fail says that the row does not hold.
func (c *campaign) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row.failing++
	if len(c.row.Failed) < failuresShown {
		c.row.Failed = append(c.row.Failed, fmt.Sprintf(format, args...))
	}
}

// enough reports whether the row can end before its end: it is interrupted, or the bug that
// was planted has been found.
func (c *campaign) enough() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx.Err() != nil || c.bug != "" && c.row.Lost+c.row.Twice+c.row.Unseen > 0
}

// count changes the row under its lock.
func (c *campaign) count(f func(r *Row)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.row)
}

func (c *campaign) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.count(func(r *Row) {
		if !slices.Contains(r.Notes, text) {
			r.Notes = append(r.Notes, text)
		}
	})
}

func (c *campaign) ready(took time.Duration) {
	c.count(func(r *Row) { r.Runs++; r.Ready = max(r.Ready, took) })
}

// judge counts what was looked for and what was missing of it.
func (c *campaign) judge(acked, lost int) {
	c.count(func(r *Row) { r.Acked += acked; r.Lost += lost })
}

// pick is the number for CI or for the night.
func (c *campaign) pick(ci, night int) int {
	if c.night {
		return night
	}
	return ci
}

// chance is a source of its own for the i-th part of the row.
func (c *campaign) chance(i int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(i)+1)) }

// temp makes a directory that goes with the campaign; the name is for people.
func (c *campaign) temp(name string) (string, error) {
	c.mu.Lock()
	c.dirs++
	n := c.dirs
	c.mu.Unlock()
	dir := filepath.Join(c.dir, fmt.Sprintf("%s-%d", name, n))
	return dir, os.MkdirAll(dir, 0o700)
}

// onEnd has f run when the row has ended, however it ends. The result takes f back.
func (c *campaign) onEnd(f func() error) (now func() error) {
	done := sync.OnceValue(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undo = append(c.undo, done)
	return done
}

func (c *campaign) cleanUp() error {
	c.mu.Lock()
	undo := c.undo
	c.undo = nil
	c.mu.Unlock()
	var errs []error
	for _, f := range slices.Backward(undo) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// each runs f for 0 to n-1, a few side by side. An error of f is the row's failure.
func (c *campaign) each(n int, f func(i int) error) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(c.wide, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil && c.ctx.Err() == nil {
					c.fail("part %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		if c.enough() {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
}

// A trial is what makes a row.
type trial struct {
	id, fault string
	run       func(*campaign) error
}

// carryOut runs one trial and returns its row.
func (c *campaign) carryOut(t trial) *Row {
	row := &Row{ID: t.id, Fault: t.fault}
	c.mu.Lock()
	c.row, c.whole, c.refused = row, 0, 0
	c.mu.Unlock()
	began := time.Now()
	err := t.run(c)
	if err := errors.Join(err, c.cleanUp()); err != nil {
		c.fail("%v", err)
	}
	if err := c.ctx.Err(); err != nil {
		c.fail("interrupted")
	}
	row.Took = time.Since(began)
	if row.Faults == 0 {
		c.fail("no fault was made: the row shows nothing")
	}
	return row
}

// gatehouse is the daemon's program, built when it is first asked for.
func (c *campaign) gatehouse() (string, error) {
	c.daemon.Do(func() {
		c.binary = filepath.Join(c.dir, "gatehouse")
		cmd := exec.CommandContext(c.ctx, "go", "build", "-o", c.binary, "github.com/gatehouse-edge/gatehouse/cmd/gatehouse")
		if out, err := cmd.CombinedOutput(); err != nil {
			c.built = fmt.Errorf("build the daemon: %w\n%s", err, out)
		}
	})
	return c.binary, c.built
}
