package messages

// ReanchorClock orders the clock entity to set trust time back: two answers of the cloud
// agree that it is ahead. OffsetMs is trust time less boot time as it shall be; the host
// adds the rest at the moment of the decision, or leaves FormerMs 0 when there is nothing
// to set back any more. Answer: Done.
type ReanchorClock struct {
	OffsetMs  int64
	Authority string // whose time it is

	FormerMs, AuthenticatedMs int64 // trust time before and after
	VoidAfterMs               int64 // trust on record that was stamped later is void
	LapsedMs                  int64 // trust from before had lapsed, and stays so
	Mark                      *ClockMarked
}

// Target implements Command.
func (ReanchorClock) Target() StreamID { return StreamClock }

// Lane implements Command.
func (ReanchorClock) Lane() Lane { return LaneRestrict }
