package main

// trials are the rows, in the order of the spec.
var trials = []trial{
	{"A1", "SIGKILL at each point of each kind of event", killAtEachPoint},
	{"A2", "SIGKILL of the daemon at random, under load", killDaemons},
	{"A3", "power cut", powerCuts},
	{"A4", "a file of the log damaged, torn, misplaced, gone", mutate},
	{"A5", "each bit of a log of 64 events, and of HEAD, flipped", everyFlip},
	{"A6", "system calls that fail, the n-th, until none is left", failingIO},
	{"A7", "the disk is full", fullDisks},
	{"A8", "the disk is slow", slowDisk},
	{"A9", "snapshots missing, corrupt, old, of another version", oldSnapshots},
	{"A10", "written by a newer version", fromNewer},
	{"A12", "two processes on one directory", twoProcesses},
	{"A13", "old copies of parts, and of all, put back", restored},
	{"E1", "panics in the handler of every command", panicEverywhere},
	{"E2", "records that no fold can read", poison},
}

// trialOf finds one by its name.
func trialOf(id string) trial {
	for _, t := range trials {
		if t.id == id {
			return t
		}
	}
	panic("no trial " + id)
}
