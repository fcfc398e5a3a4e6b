package main

// trials are the rows, in the order of the spec.
var trials = []trial{
	{"A1", "SIGKILL at each point of each kind of event", killAtEachPoint},
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
