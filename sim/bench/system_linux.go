package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// onDisk refuses file systems in memory, where a sync costs nothing.
func onDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("file system of %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is in memory, where a sync costs nothing: give a directory on a disk with -dir", dir)
	}
	return nil
}

// processorTime is what this process has used so far, of all cores.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic("bench: getrusage: " + err.Error()) // fails only for wrong arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processorTime is what the process and what it waited for have used so far.
func (p *process) processorTime() time.Duration {
	fields := p.status("stat")
	_, after, _ := strings.Cut(fields, ") ") // the name may hold spaces
	var ticks [2]int64
	for i, f := range strings.Fields(after) {
		if i == 11 || i == 12 { // utime, stime: fields 14 and 15 of proc(5)
			ticks[i-11], _ = strconv.ParseInt(f, 10, 64)
		}
	}
	const perTick = time.Second / 100 // USER_HZ
	return time.Duration(ticks[0]+ticks[1]) * perTick
}

// peakBytes is the most memory that the process had resident.
func (p *process) peakBytes() int64 {
	for line := range strings.Lines(p.status("status")) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

func (p *process) status(name string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		return ""
	}
	return string(text)
}
