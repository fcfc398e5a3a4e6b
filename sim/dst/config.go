package dst

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what to simulate. What is zero is chosen by the seed.
type Config struct {
	Seed     uint64
	Devices  int           // default: 1 to 200, mostly few
	Brokers  int           // default: 1 to 3
	Duration time.Duration // of the safety phase, virtual; default: up to 24 h
	// Faults are the kinds of faults that may happen. With FaultsChosen they are taken as they
	// are, also if there are none; else the seed chooses some (swarm testing).
	Faults       Faults
	FaultsChosen bool
	Mode         Mode
}

// Limits of what can be simulated.
const (
	DevicesMax  = 2_000_000
	BrokersMax  = 16
	DurationMax = 366 * 24 * time.Hour
)

// Check says what is wrong with the configuration.
func (c *Config) Check() error {
	switch {
	case c.Devices < 0 || c.Devices > DevicesMax:
		return fmt.Errorf("%d devices, want 1 to %d, or 0 for the seed to choose", c.Devices, DevicesMax)
	case c.Brokers < 0 || c.Brokers > BrokersMax:
		return fmt.Errorf("%d brokers, want 1 to %d, or 0 for the seed to choose", c.Brokers, BrokersMax)
	case c.Duration < 0 || c.Duration > DurationMax:
		return fmt.Errorf("a duration of %v, want up to %v, or 0 for the seed to choose", c.Duration, DurationMax)
	case c.Mode >= modes:
		return fmt.Errorf("mode %d is none", c.Mode)
	case c.Faults&^AllFaults != 0:
		return fmt.Errorf("faults %#x: some are none", uint64(c.Faults))
	}
	return nil
}

// Mode says which phases a run has.
type Mode uint8

// The modes.
const (
	Both     Mode = iota // faults; then all is healed, and progress is demanded
	Safety               // faults until the end
	Liveness             // no faults but those that were healed at once: progress is demanded
	modes
)

var modeNames = [modes]string{"both", "safety", "liveness"}

// String is the mode's name.
func (m Mode) String() string {
	if m < modes {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames[:], s); i >= 0 {
		return Mode(i), nil
	}
	return 0, fmt.Errorf("mode %q is none of %s", s, strings.Join(modeNames[:], ", "))
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMode(string(text))
	return err
}

// Faults is a set of kinds of faults.
type Faults uint32

// The kinds of faults, by what breaks.
const (
	StoreSlow    Faults = 1 << iota // what is appended waits before it is durable
	StoreError                      // an append fails; whether it landed is open; the process exits
	StoreFull                       // the disk is full: grants are refused
	SnapshotLost                    // snapshots of entities are gone, or older than they were
	NetDrop                         // messages between brokers and core are lost
	NetDelay                        // they wait, and overtake each other
	NetDuplicate                    // they come twice
	NetPartition                    // a broker is cut off, both ways or one way, noticed or half open
	NetRestart                      // the NATS server starts anew: all connections are lost
	CloudDown                       // the cloud is away, and the core knows or not
	CloudSlow                       // answers take long, or never come
	CloudErrors                     // throttling, our own credentials refused, server errors, nonsense
	CloudStale                      // answers of a moment ago
	CloudListing                    // listings that are partial, empty, loop, or break off
	CloudTime                       // the cloud's clock is wrong
	Crash                           // the process dies and starts again
	PowerCut                        // the machine loses power
	BrokerCrash                     // a broker dies and starts again
	ClockJump                       // the wall clock is set wrong, forward or back, synchronised or not
	ClockDrift                      // the wall clock goes at another rate
	ClockUnset                      // after a reboot the clock is not set
	Suspend                         // the machine sleeps
	faultsEnd
)

// AllFaults is every kind there is.
const AllFaults = faultsEnd - 1

var faultNames = []string{
	"store-slow", "store-error", "store-full", "snapshot-lost",
	"net-drop", "net-delay", "net-duplicate", "net-partition", "net-restart",
	"cloud-down", "cloud-slow", "cloud-errors", "cloud-stale", "cloud-listing", "cloud-time",
	"crash", "power-cut", "broker-crash",
	"clock-jump", "clock-drift", "clock-unset", "suspend",
}

// FaultNames are the names of all kinds, in order.
func FaultNames() []string { return slices.Clone(faultNames) }

// Has says whether one of the kinds is in the set.
func (f Faults) Has(kind Faults) bool { return f&kind != 0 }

// Names are the names of the kinds in the set.
func (f Faults) Names() []string {
	names := []string{}
	for i, name := range faultNames {
		if f.Has(1 << i) {
			names = append(names, name)
		}
	}
	return names
}

// String lists the kinds, as ParseFaults reads them.
func (f Faults) String() string {
	switch f {
	case 0:
		return "none"
	case AllFaults:
		return "all"
	}
	return strings.Join(f.Names(), ",")
}

// ParseFaults reads names, separated by commas; a prefix before a dash names all of its kind
// ("net", "cloud"); "all" and "none" are those.
func ParseFaults(s string) (Faults, error) {
	switch s {
	case "all":
		return AllFaults, nil
	case "none":
		return 0, nil
	}
	var f Faults
	for name := range strings.SplitSeq(s, ",") {
		found := Faults(0)
		for i, known := range faultNames {
			if known == name || strings.HasPrefix(known, name+"-") && name != "" {
				found |= 1 << i
			}
		}
		if found == 0 {
			return 0, fmt.Errorf("fault %q is none of %s; all; none", name, strings.Join(faultNames, ", "))
		}
		f |= found
	}
	return f, nil
}

// MarshalText implements encoding.TextMarshaler.
func (f Faults) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Faults) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFaults(string(text))
	return err
}
