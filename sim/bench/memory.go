package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// memory measures what the daemon's process has resident when it has nothing to do, with
// fleets of devices on record, each with a session open: after a start from what an
// orderly end left.
func memory(ctx context.Context, b *bench) ([]Row, error) {
	rows, err := ofEach(ctx, b, b.crowds, memoryOf)
	if err == nil && b.profile != "" {
		err = fmt.Errorf("the heap of a fold of the last log is in %s-heap", b.profile)
	}
	return rows, err
}

func memoryOf(ctx context.Context, b *bench, program string, crowd fleet) (rows []Row, err error) {
	s, err := newSite(b, program, crowd.devices)
	if err != nil {
		return rows, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }() // a million devices leave a gigabyte
	if err := s.fill(ctx); err != nil {
		return rows, err
	}
	var p *process
	defer func() { p.kill() }()
	if p, _, err = s.start(ctx); err != nil {
		return rows, err
	}
	if err := p.end(os.Interrupt); err != nil { // what it leaves is what the next one finds
		return rows, err
	}
	if p, _, err = s.start(ctx); err != nil {
		return rows, err
	}
	idle, err := p.rest(ctx, b.rest)
	if err != nil {
		return rows, err
	}
	row := alone("memory/"+crowd.name, " MiB", []sample{{ops: int(idle.all >> 10)}}, func(s sample) float64 { return float64(s.ops) / 1024 }, crowd.hold, crowd.aim)
	row.Note = fmt.Sprintf("of it %d MiB its own, %d MiB mapped files; at most %d MiB at the start; %d records", idle.own>>20, idle.files>>20, p.peakBytes()>>20, s.records)
	rows = []Row{row}
	if err := p.end(os.Interrupt); err != nil || b.profile == "" {
		return rows, err
	}
	return rows, heapOf(ctx, filepath.Join(s.dir, "data"), b.profile+"-heap")
}

// resident is what a process has in memory, in bytes.
type resident struct{ all, own, files int64 }

func (p *process) resident() (r resident) {
	for line := range strings.Lines(p.status("status")) {
		for name, into := range map[string]*int64{"VmRSS:": &r.all, "RssAnon:": &r.own, "RssFile:": &r.files} {
			var kib int64
			if rest, ok := strings.CutPrefix(line, name); ok {
				if _, err := fmt.Sscanf(rest, "%d kB", &kib); err == nil {
					*into = kib << 10
				}
			}
		}
	}
	return r
}

// rest waits until the process has not changed its size by a hundredth for d.
func (p *process) rest(ctx context.Context, d time.Duration) (resident, error) {
	const looks = 20
	tick := time.NewTicker(d / looks)
	defer tick.Stop()
	last, still := p.resident(), 0
	for range 20 * looks {
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-tick.C:
		}
		now := p.resident()
		if now.all == 0 {
			return now, fmt.Errorf("the daemon has no memory: %s", p.text.String())
		}
		if still++; math.Abs(float64(now.all-last.all)) > float64(last.all)/100 {
			last, still = now, 0
		}
		if still == looks {
			return now, nil
		}
	}
	return last, fmt.Errorf("the daemon does not come to rest within %s", 20*d)
}

// heapOf folds a log in this process, as the daemon does, and profiles the heap: what is
// kept, by where it was made.
func heapOf(ctx context.Context, dir, file string) (err error) {
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 4 << 10
	defer func() { runtime.MemProfileRate = rate }()
	log, err := eventlog.Open(filepath.Join(dir, "log"), eventlog.Options{KnownKind: messages.Known})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	views := projections.New(nil)
	for rec, err := range log.Scan(ctx, 1, math.MaxUint64) {
		if err != nil {
			return err
		}
		views.Apply([]messages.Record{rec})
	}
	runtime.GC()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
	runtime.KeepAlive(views)
	return err
}
