package dst

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Plan is everything that will be done to the system, as data. Its Config has no zeros left
// for the seed to choose.
type Plan struct {
	Config
	Setup Setup
	// Actions are done in this order, each when its time has come. Removing some leaves the
	// rest as they are: numbers stay, and all chance is keyed by them.
	Actions []Action
	// Herd is how a fleet behaves that is too big to have its actions listed; nil: all is
	// listed.
	Herd *Herd
}

// Setup is how the world begins.
type Setup struct {
	Policy  string // the deviceGroups document in force from the start
	Section string // the clientDeviceAuth document in force from the start
	Battery bool   // the machine has a hardware clock that counts on while it is off
	Budget  bool   // trust.unknownOffTime: budget
	// Newcomers are the last so many devices, which nobody registered.
	Newcomers int
	// Offline lets newcomers that the fleet's authority signed for be registered, and be admitted
	// as pending while the cloud is away.
	Offline bool
	// Certified: brokers have certificates of the core's authority, which rotate.
	Certified bool
}

// Herd is the behaviour of a fleet, device by device, worked out when it is needed.
type Herd struct {
	Churn     float64       // devices that come or go in an hour, of all
	Revoked   float64       // devices whose certificate the cloud deactivates in an hour, of all
	Publishes float64       // messages of each connected device in an hour
	Storms    int           // times at which a broker loses all its clients, who come back at once
	Connected float64       // of all devices, how many are connected, about
	Arrival   time.Duration // how long the first arrival of all takes
}

// Cert names a certificate. Nobody but the simulator knows whose it is without looking.
type Cert struct {
	// Of is the device that it was made for; a negative one is a stranger's, whom nobody knows.
	Of int `json:",omitempty"`
	// Gen counts the certificates of a device, which begins with 0.
	Gen int `json:",omitempty"`
	// Spoilt: "" a good one; "expired", "future", "garbage" (no certificate at all).
	Spoilt string `json:",omitempty"`
	// By is who signed it: "" nobody that the core knows; "fleet", the authority of devices that
	// may register; "rogue", one of the same name.
	By string `json:",omitempty"`
}

// Action is one thing that happens to the system. What a kind does not use is zero.
type Action struct {
	ID     int
	At     time.Duration // true time since the beginning
	Kind   Kind
	Client int           // who acts: devices have 0 to Devices-1, others numbers from there on
	Broker int           // which broker
	Thing  int           // about which device: its thing, or the client id that is claimed
	Cert   Cert          // with which certificate, or about which
	Name   string        // a client id that is no device's, in place of Thing; a topic or filter
	Text   string        // a document
	How    string        // which sort of the kind, see its entry in kinds
	For    time.Duration // how long it lasts; 0: once, or until it is undone
	Amount time.Duration // by how much
	Rate   float64       // how often, of all, 0 to 1
	Count  int           // how many, in a row from Thing on
}

// Kind is a kind of action.
type Kind uint8

// The kinds of actions.
const (
	// Devices and those who pose as them.
	Connect    Kind = iota + 1 // Client connects to Broker as Thing (or Name) with Cert
	Disconnect                 // Client says goodbye
	Vanish                     // Client is gone without a word: the broker notices later
	Publish                    // Client publishes to the topic Name
	Subscribe                  // Client subscribes to the filter Name
	// Operators.
	Quarantine    // Thing is quarantined
	Release       // that ends
	Forget        // Thing is forgotten
	EditPolicy    // the deviceGroups document becomes Text
	EditSection   // the clientDeviceAuth document becomes Text
	RotateAuth    // the core's authority is changed for another
	AskedRefresh  // a refresh is asked for
	RemoveBrokers // what Broker may have of certificates is taken back
	// The cloud's registry.
	Activate   // Cert becomes active, and known if it was not
	Deactivate // Cert becomes inactive
	Attach     // Cert is attached to Thing
	Detach     // that ends
	Associate  // Thing (and Count more) is associated with the core
	Dissociate // that ends
	// Faults; each is of one kind of Faults.
	FaultStore   // How: slow (Amount each), error (landed or lost by the dice), full, snapshots
	FaultNet     // at Broker; How: drop, delay (up to Amount), duplicate: by Rate
	FaultCut     // Broker is partitioned; How: both, to-core, to-broker, half-open
	FaultBus     // the NATS server starts anew
	FaultCloud   // How: see CloudWays
	FaultCrash   // the process dies, and starts again after Amount
	FaultPower   // the machine loses power for Amount
	FaultBroker  // Broker dies, and starts again after Amount
	FaultClock   // How: jump (by Amount, may be negative), unsynced, synced, drift (by Rate, may be negative)
	FaultReboot  // the machine starts anew after Amount; How: "" or unset
	FaultSuspend // the machine sleeps for Amount
	Restart      // the process is stopped in order, and starts again after Amount
	kindsEnd
)

// CloudWays are what can be wrong with the cloud (FaultCloud's How): away and the core knows,
// away and it does not, no answer, late answers (up to Amount), requests refused in four ways, answers of
// Amount ago, four sorts of bad listings, and a clock that is wrong by Amount. By Rate where it is not 0.
var CloudWays = []string{
	"down", "unreachable", "silent", "slow", "throttle", "denied", "server-error", "nonsense", "stale",
	"list-empty", "list-partial", "list-loop", "list-broken", "time",
}

// use is a set of an action's fields.
type use uint16

const (
	useClient use = 1 << iota
	useBroker
	useThing // or Name
	useCert
	useName
	useText
	useFor
	useAmount
	useRate
	useCount
)

// kindInfo is what there is to know about a kind: its name, the fields it needs, the sorts
// there are, and the fault it is (0: none), by sort where they differ.
type kindInfo struct {
	name  string
	uses  use
	hows  []string
	fault func(how string) Faults
}

func of(f Faults) func(string) Faults { return func(string) Faults { return f } }

func byHow(m map[string]Faults) func(string) Faults { return func(how string) Faults { return m[how] } }

var kinds = [kindsEnd]kindInfo{
	Connect:       {name: "connect", uses: useClient | useBroker | useThing | useCert},
	Disconnect:    {name: "disconnect", uses: useClient},
	Vanish:        {name: "vanish", uses: useClient},
	Publish:       {name: "publish", uses: useClient | useName},
	Subscribe:     {name: "subscribe", uses: useClient | useName},
	Quarantine:    {name: "quarantine", uses: useThing},
	Release:       {name: "release", uses: useThing},
	Forget:        {name: "forget", uses: useThing},
	EditPolicy:    {name: "edit-policy", uses: useText},
	EditSection:   {name: "edit-section", uses: useText},
	RotateAuth:    {name: "rotate-authority"},
	AskedRefresh:  {name: "refresh"},
	RemoveBrokers: {name: "remove-subscriber", uses: useBroker},
	Activate:      {name: "activate", uses: useCert},
	Deactivate:    {name: "deactivate", uses: useCert},
	Attach:        {name: "attach", uses: useThing | useCert},
	Detach:        {name: "detach", uses: useThing | useCert},
	Associate:     {name: "associate", uses: useThing | useCount},
	Dissociate:    {name: "dissociate", uses: useThing | useCount},
	FaultStore: {name: "store", uses: useFor | useAmount | useRate, hows: []string{"slow", "error", "full", "snapshots"},
		fault: byHow(map[string]Faults{"slow": StoreSlow, "error": StoreError, "full": StoreFull, "snapshots": SnapshotLost})},
	FaultNet: {name: "net", uses: useBroker | useFor | useAmount | useRate, hows: []string{"drop", "delay", "duplicate"},
		fault: byHow(map[string]Faults{"drop": NetDrop, "delay": NetDelay, "duplicate": NetDuplicate})},
	FaultCut:     {name: "partition", uses: useBroker | useFor, hows: []string{"both", "to-core", "to-broker", "half-open"}, fault: of(NetPartition)},
	FaultBus:     {name: "nats-restart", uses: useAmount, fault: of(NetRestart)},
	FaultCloud:   {name: "cloud", uses: useFor | useAmount | useRate, hows: CloudWays, fault: cloudFault},
	FaultCrash:   {name: "crash", uses: useAmount, fault: of(Crash)},
	FaultPower:   {name: "power-cut", uses: useAmount, hows: []string{"", "unset"}, fault: of(PowerCut)},
	FaultBroker:  {name: "broker-crash", uses: useBroker | useAmount, fault: of(BrokerCrash)},
	FaultClock:   {name: "clock", uses: useAmount | useRate | useFor, hows: []string{"jump", "lie", "unsynced", "synced", "drift"}, fault: clockFault},
	FaultReboot:  {name: "reboot", uses: useAmount, hows: []string{"", "unset"}, fault: of(ClockUnset)},
	FaultSuspend: {name: "suspend", uses: useAmount, fault: of(Suspend)},
	Restart:      {name: "restart", uses: useAmount},
}

func clockFault(how string) Faults {
	if how == "drift" {
		return ClockDrift
	}
	return ClockJump
}

func cloudFault(how string) Faults {
	switch how {
	case "down", "unreachable":
		return CloudDown
	case "silent", "slow":
		return CloudSlow
	case "throttle", "denied", "server-error", "nonsense":
		return CloudErrors
	case "stale":
		return CloudStale
	case "time":
		return CloudTime
	}
	return CloudListing
}

// String is the kind's name.
func (k Kind) String() string {
	if k > 0 && k < kindsEnd {
		return kinds[k].name
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.IndexFunc(kinds[1:], func(i kindInfo) bool { return i.name == string(text) })
	if i < 0 {
		return fmt.Errorf("action %q is none", text)
	}
	*k = Kind(i + 1)
	return nil
}

// Fault is the kind of fault that the action is; 0: none.
func (a *Action) Fault() Faults {
	if a.Kind >= kindsEnd || kinds[a.Kind].fault == nil {
		return 0
	}
	return kinds[a.Kind].fault(a.How)
}

// classes are the sorts of devices: the first part of their things' names, by which policies
// select.
var classes = []string{"sensor", "pump", "gate", "meter"}

// ThingOf is the thing of device i.
func ThingOf(i int) messages.ThingName {
	return messages.ThingName(classes[i%len(classes)] + "-" + strconv.Itoa(i))
}

// DeviceOf is the device whose thing it is; false: nobody's.
func DeviceOf(thing messages.ThingName) (int, bool) {
	for class, name := range classes {
		if rest, ok := cutClass(string(thing), name); ok {
			i, err := strconv.Atoi(rest)
			return i, err == nil && i >= 0 && i%len(classes) == class && ThingOf(i) == thing
		}
	}
	return 0, false
}

func cutClass(thing, class string) (string, bool) {
	if len(thing) > len(class) && thing[:len(class)] == class && thing[len(class)] == '-' {
		return thing[len(class)+1:], true
	}
	return "", false
}

// BrokerOf is the name of broker i.
func BrokerOf(i int) messages.BrokerID { return messages.BrokerID("b" + strconv.Itoa(i)) }
