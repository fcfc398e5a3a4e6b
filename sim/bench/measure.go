package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

// bench is what every comparison is given.
type bench struct {
	plan
	scratch string // a directory on a disk
	profile string // where a CPU profile of our side goes; empty: none
	folders int
}

// A plan bounds a comparison's time.
type plan struct {
	rounds  int           // turns, each with a round of every side
	round   time.Duration // of each side
	warmup  time.Duration // of each side, not counted
	records int           // in the log that is replayed

	fleets []fleet       // on record when the daemon starts
	crowds []fleet       // the same, whose memory is measured
	days   []fleet       // that are simulated for a day, and in how many minutes it must be over
	storms []fleet       // that come back at once, and in how many seconds they must be in
	rest   time.Duration // for which a daemon must have kept its size

	devices     int // whose trust is refreshed
	refreshRate int // questions a second
}

// makeScratch makes the directory that all logs go to.
func makeScratch(parent string) (string, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if err := onDisk(parent); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, "gatehouse-bench-*")
}

// folder makes a fresh directory in scratch.
func (b *bench) folder(name string) (string, error) {
	b.folders++
	dir := fmt.Sprintf("%s/%s-%d", b.scratch, name, b.folders)
	return dir, os.Mkdir(dir, 0o700)
}

// sample is what one round of one side gave.
type sample struct {
	ops       int
	took      time.Duration
	latencies []time.Duration // sorted; nil where none were taken
	allocs    float64         // allocations per operation; where they were counted
	cpu       time.Duration   // of the whole process, both ends of the wire included
}

func (s sample) rate() float64        { return float64(s.ops) / s.took.Seconds() }
func (s sample) each() float64        { return float64(s.took.Nanoseconds()) / float64(s.ops) }
func (s sample) p99() float64         { return micros(s.at(0.99)) }
func (s sample) p50() float64         { return micros(s.at(0.50)) }
func (s sample) work() float64        { return micros(s.cpu) / float64(s.ops) }
func (s sample) allocations() float64 { return s.allocs }

func (s sample) at(q float64) time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	return s.latencies[int(q*float64(len(s.latencies)-1))]
}

// A side is one of those that are compared: it works for about d and says what it did.
type side struct {
	name string
	run  func(ctx context.Context, d time.Duration) (sample, error)
	// settle, if set, tidies up after a round, outside the clock.
	settle func(ctx context.Context) error
}

// turns measures the sides, ours first in the list, in turns. The result is by side,
// then by turn.
func (b *bench) turns(ctx context.Context, sides ...side) ([][]sample, error) {
	if b.profile != "" {
		return nil, b.profiled(ctx, sides[0])
	}
	for _, s := range sides {
		if _, err := b.once(ctx, s, b.warmup); err != nil {
			return nil, err
		}
	}
	all := make([][]sample, len(sides))
	for turn := range b.rounds {
		for i := range sides {
			if turn%2 == 1 { // the other way round: a drift must not favour who comes last
				i = len(sides) - 1 - i
			}
			got, err := b.once(ctx, sides[i], b.round)
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], got)
		}
	}
	return all, nil
}

func (b *bench) once(ctx context.Context, s side, d time.Duration) (sample, error) {
	if err := ctx.Err(); err != nil {
		return sample{}, err
	}
	runtime.GC()
	before := processorTime()
	got, err := s.run(ctx, d)
	got.cpu = processorTime() - before
	if err == nil && (got.ops == 0 || got.took <= 0) {
		err = fmt.Errorf("%d operations in %s", got.ops, got.took)
	}
	if err == nil && s.settle != nil {
		err = s.settle(ctx)
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", s.name, err)
	}
	slices.Sort(got.latencies)
	return got, nil
}

// profiled runs ours alone under the profiler: one file a round, so that what settles a
// round is in none (pprof merges the files it is given).
func (b *bench) profiled(ctx context.Context, s side) error {
	if _, err := b.once(ctx, s, b.warmup); err != nil {
		return err
	}
	run := s.run
	var last sample
	for turn := range b.rounds {
		s.run = func(ctx context.Context, d time.Duration) (got sample, err error) {
			f, err := os.Create(fmt.Sprintf("%s.%d", b.profile, turn))
			if err != nil {
				return got, err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			if err := pprof.StartCPUProfile(f); err != nil {
				return got, err
			}
			defer pprof.StopCPUProfile()
			return run(ctx, d)
		}
		var err error
		if last, err = b.once(ctx, s, b.round); err != nil {
			return err
		}
	}
	s.run = func(ctx context.Context, d time.Duration) (sample, error) { return b.watched(ctx, run, d) }
	if _, err := b.once(ctx, s, b.round); err != nil {
		return err
	}
	return fmt.Errorf("profiles of %s are in %s.*; nothing was compared (last round: %.0f/s, processor time %.1f us, p50 %.0f us, p99 %.0f us)",
		s.name, b.profile, last.rate(), last.work(), last.p50(), last.p99())
}

// watched runs one more round, which is in no CPU profile, for who waits for what and what
// is allocated: -before and -after are each since the program began.
func (b *bench) watched(ctx context.Context, run func(context.Context, time.Duration) (sample, error), d time.Duration) (got sample, err error) {
	runtime.SetBlockProfileRate(1000)
	runtime.SetMutexProfileFraction(10)
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(0)
	if err := b.lookups("before", "allocs"); err != nil {
		return got, err
	}
	if got, err = run(ctx, d); err != nil {
		return got, err
	}
	runtime.GC() // or what was allocated last is missing
	return got, b.lookups("after", "allocs", "block", "mutex")
}

// lookups writes the profiles of those names.
func (b *bench) lookups(when string, names ...string) (err error) {
	for _, name := range names {
		f, err := os.Create(fmt.Sprintf("%s-%s-%s", b.profile, name, when))
		if err != nil {
			return err
		}
		if err := errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// median and quantile leave their argument as it is.
func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[int(q*float64(len(v)-1)+0.5)]
}
