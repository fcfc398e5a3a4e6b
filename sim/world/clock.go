package world

import "time"

// patience is how long, in real time, the world waits for what must come: an answer over
// the loopback network. Only a defect makes it wait that long.
const patience = 30 * time.Second

// afterPatience calls f when patience is over, unless stop comes first.
func afterPatience(f func()) (stop func() bool) { return time.AfterFunc(patience, f).Stop }
