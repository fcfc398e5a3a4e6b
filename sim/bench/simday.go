package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// simDay measures how long the simulator takes for a day of a fleet, all checks on, with three
// outages of the cloud: the command as people run it, in a process of its own. One run has one
// thread of its own; the collector has the other core.
func simDay(ctx context.Context, b *bench) ([]Row, error) {
	return ofEach(ctx, b, b.days, simDayOf)
}

func simDayOf(ctx context.Context, b *bench, program string, f fleet) ([]Row, error) {
	cmd := exec.CommandContext(ctx, program, "sim", "run", "--seed", "1", "--devices", strconv.Itoa(f.devices), "--brokers", "4",
		"--days", "1", "--faults", "cloud-down", "--keep", b.scratch, "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+b.scratch)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, problems.Bytes())
	}
	var got struct {
		WallMs int64
		Total  struct {
			Devices, Events, Steps uint64
			Counts                 struct{ Checks map[string]uint64 }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		return nil, err
	}
	checks := uint64(0)
	for _, n := range got.Total.Counts.Checks {
		checks += n
	}
	if got.Total.Devices != uint64(f.devices) || checks == 0 {
		return nil, fmt.Errorf("%d devices were simulated, %d checks", got.Total.Devices, checks)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil, fmt.Errorf("no resource usage of %s", program)
	}
	took := []sample{{ops: 1, took: time.Duration(got.WallMs) * time.Millisecond}}
	row := alone("simday/"+f.name, " min", took, func(s sample) float64 { return s.took.Minutes() }, f.hold, f.aim)
	row.Note = fmt.Sprintf("processor time %.0f s; %d events on record, %d steps, %d checks", (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), got.Total.Events, got.Total.Steps, checks)
	peak := []sample{{ops: int(usage.Maxrss)}} // KiB
	mib := alone("simday/"+f.name+"/memory", " MiB", peak, func(s sample) float64 { return float64(s.ops) / 1024 }, atMost(4096), nil)
	return []Row{row, mib}, nil
}
