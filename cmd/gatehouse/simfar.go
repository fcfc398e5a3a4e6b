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

// heapBytesMax is what a run of very many devices should stay below: the collector works
// harder before it. A million devices take 4 GiB at the most (design section 13). GOMEMLIMIT
// says otherwise.
const heapBytesMax = 3700 << 20

// playAnySize is dst.Play, with room for the log of a big fleet.
func playAnySize(ctx context.Context, p *dst.Plan, o dst.Options) (r *dst.Result, err error) {
	if p.Devices <= farAbove {
		return dst.Play(ctx, p, o)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(heapBytesMax))
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
