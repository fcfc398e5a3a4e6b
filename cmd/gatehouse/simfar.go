package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// farAbove is how many devices' log is kept in memory: what a day of more leaves on record
// goes to temporary files, which have no name by then, and are gone with the program.
const farAbove = 20_000

// A run of very many devices should stay below heapBytesMax: the collector works harder
// before it. It must be well above what is in use, 5 KiB a device or so: a million with a limit
// of 3.7 GiB took four fifths of the processor time for collecting, and were not through after 44
// minutes; with this one 17 are enough. GOMEMLIMIT says otherwise.
const (
	heapBytesMax  = 3700 << 20
	heapBytesEach = 10 << 10 // of a device
)

// playAnySize is dst.Play, with room for the log of a big fleet.
func playAnySize(ctx context.Context, p *dst.Plan, o dst.Options) (r *dst.Result, err error) {
	if p.Devices <= farAbove {
		return dst.Play(ctx, p, o)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(max(heapBytesMax, heapBytesEach*int64(p.Devices))))
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	o.Far = func() (eventlog.Far, error) {
		f, err := os.CreateTemp("", "gatehouse-sim-")
		if err != nil {
			return nil, fmt.Errorf("room for the log of %d devices: %w", p.Devices, err)
		}
		files = append(files, f)
		return f, os.Remove(f.Name())
	}
	return dst.Play(ctx, p, o)
}
