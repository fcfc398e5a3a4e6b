package world

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of one world's life.
const (
	stepsMax    = 2_000_000 // steps of time
	tickMin     = time.Second
	tickLiveMax = time.Minute
	tickIdleMax = 6 * time.Hour
)

// ErrTooLong is wrapped when a world would live through too many steps of time.
var ErrTooLong = errors.New("too many steps of time")

// AdvanceTo lets time pass until at since the beginning. What becomes due happens at its
// moment, and has come to its end before time goes on.
//
// The keeper of a daemon takes a step a second. Here its steps grow apart while nothing
// is live that it could look after, so that years pass in no time; and however long they
// are, there is one at the end.
func (w *World) AdvanceTo(at time.Duration) error {
	w.tick = tickMin
	for now := w.Machine.Since(); now < at; now = w.Machine.Since() {
		next := min(at, now+w.tick)
		for {
			if w.steps++; w.steps > stepsMax {
				return fmt.Errorf("%w: more than %d; let less time pass while sessions are live", ErrTooLong, stepsMax)
			}
			due := w.Machine.pass(next)
			if due == nil {
				break
			}
			w.turns.spawn(due)
			if err := w.settle(); err != nil {
				return err
			}
		}
		if err := w.Step(); err != nil {
			return err
		}
	}
	return nil
}

// Step lets the keeper look after what is due now.
func (w *World) Step() error {
	if w.core == nil {
		return nil
	}
	w.core.keeper.Step()
	if w.core.enroller != nil {
		w.core.enroller.Step()
	}
	w.tick = min(2*w.tick, tickIdleMax)
	if w.core.views.Counts().Sessions > 0 {
		trust := time.Duration(min(w.core.views.TrustDurationMs(), int64(time.Hour/time.Millisecond))) * time.Millisecond
		w.tick = min(max(trust/60, tickMin), tickLiveMax)
	}
	if w.core.views.Counts().Pending > 0 && w.linkUp {
		w.tick = min(w.tick, tickLiveMax) // the cloud is to decide about them
	}
	return w.settle()
}

// SetLink says whether the core's own link to the cloud is up: the flag that decides
// whether a trusted device is checked again.
func (w *World) SetLink(up bool) error {
	w.linkUp = up
	if w.core != nil {
		w.core.sys.SetNetwork(up)
	}
	return w.settle()
}

// Stop ends the core's process: in order, or as SIGKILL and a power cut do.
func (w *World) Stop(orderly bool) error {
	c := w.core
	if c == nil {
		return nil
	}
	var err error
	if orderly {
		err = w.sayGoodbye()
	} else {
		w.log.Crash()
	}
	if c.authority != nil {
		c.authority.Close()
	}
	c.way.breakOff()
	err = errors.Join(err, w.endEnroller(), w.turns.beside(func() error {
		c.refresher.Close()
		return nil
	}))
	c.clock.end()
	err = errors.Join(err, w.turns.beside(func() error { // what it asks for is answered with silence
		c.way.close()
		return nil
	}), w.turns.beside(func() error { return c.sys.Close(context.Background()) }))
	w.core = nil
	return errors.Join(err, w.settle())
}

func (w *World) sayGoodbye() error {
	c := w.core
	c.keeper.Close()
	_, err := w.Do(messages.MarkClock{Mark: c.trust.Mark()})
	if err == nil {
		_, err = w.Do(messages.Note{Stream: messages.StreamLifecycle, Event: &messages.Stopped{Epoch: c.epoch, Reason: "asked to stop"}})
	}
	return err
}

// Restart ends the core's process and starts another on the same log.
func (w *World) Restart(orderly bool) error {
	return w.down(orderly, func() {})
}

// Reboot turns the machine off for a while. Its wall clock goes on meanwhile, and is not
// synchronised after it; set is called before the core starts again.
func (w *World) Reboot(orderly bool, off time.Duration, set func(*Machine)) error {
	return w.down(orderly, func() {
		w.Machine.off(off)
		set(w.Machine)
	})
}

// down runs f while the core is not running.
func (w *World) down(orderly bool, f func()) error {
	if err := w.Stop(orderly); err != nil {
		return fmt.Errorf("stop the core: %w", err)
	}
	f()
	log, err := w.log.Reopen(w.logOptions())
	if err != nil {
		return fmt.Errorf("open the log again: %w", err)
	}
	w.log = log
	if err := w.start(); err != nil {
		return fmt.Errorf("start the core again: %w", err)
	}
	return nil
}

// Suspend lets the machine sleep for d.
func (w *World) Suspend(d time.Duration) error {
	w.Machine.suspend(d)
	return w.Step()
}

// Close ends the core and its cloud. An error is of the core's end, or of what has failed
// unasked before.
func (w *World) Close() error {
	err := w.Stop(false)
	w.cloud.emulator.Close()
	return err
}
