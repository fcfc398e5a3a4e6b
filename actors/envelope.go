package actors

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// envelope is one command on its way, with the duty to answer exactly once.
type envelope struct {
	sys      *System
	ctx      context.Context
	since    time.Duration    // of the machine's boot: when it came
	command  messages.Command // becomes CloudAnswered when the cloud was asked; owned by whoever holds the envelope
	cause    messages.Cause
	question uint64        // the entity's number of the question that command answers; 0: none
	downs    uint64        // how often the clock had been set back when that question was asked
	lane     messages.Lane // in which it is counted
	slot     *slot         // whose load it is counted in; nil until it is delivered
	reply    func(messages.Reply)
	done     atomic.Bool
}

// answer gives the reply, the first time it is called. A reply that panics hurts
// nobody but its caller.
func (env *envelope) answer(r messages.Reply) {
	if env.done.Swap(true) {
		return
	}
	if env.slot != nil {
		env.slot.load.Add(-1)
	}
	env.sys.inLane[env.lane].Add(-1)
	defer env.sys.left()
	defer func() {
		if p := recover(); p != nil {
			env.sys.panics.Add(1)
			env.sys.logger.Error("reply panicked", "command", fmt.Sprintf("%T", env.command), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	env.reply(r)
}

// restricts reports whether env goes before others: it may take something away. An
// answer of the cloud does if it is a no.
func (env *envelope) restricts() bool {
	if a, ok := env.command.(messages.CloudAnswered); ok {
		return a.Answer.Verdict == messages.CloudDenied
	}
	return env.lane == messages.LaneRestrict
}
