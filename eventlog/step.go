package eventlog

// Step is a moment at which a crash is of interest: what it leaves behind is in doc.go,
// under the number given here. Options.Step hears of it.
type Step uint8

// The steps, in the order of an append's life.
const (
	StepWritten    Step = 1 + iota // 2: a group is in the page cache, and not synced
	StepSynced                     // 3: it is durable; no reader and no caller knows
	StepBegun                      // 7b: a generation's head is durable, HEAD does not name it
	StepFeeding                    // 5: Badger is about to commit a transaction
	StepFed                        // 5: it has, and the store does not know
	StepSnapshot                   // 12: a snapshot is about to be written; a large one, also: is about to get its name
	StepInstalling                 // 10: an open is between its two renames, or before its only one
	StepClosing                    // 11: Badger is flushed, and HEAD has no clean mark
)

// String names the step.
func (s Step) String() string {
	names := [...]string{"", "written", "synced", "begun", "feeding", "fed", "snapshot", "installing", "closing"}
	if int(s) >= len(names) {
		return "no step"
	}
	return names[s]
}
