package projections

import (
	"maps"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// BrokerRights is what operators said of a broker.
type BrokerRights struct {
	Certificates []string // the types it may have, as BrokerPermitted spells them
	Removed      bool     // it may not ask for anything
	// NoComponent: the right to client certificates was taken back. None makes it an
	// internal component, and those from before never will again.
	NoComponent bool
}

// clientType is the type that makes its holder an internal component.
const clientType = "CLIENT"

// BrokerRights returns what operators said of broker; false: nothing was said. Nobody
// waits for it, and it makes no garbage. If what they said cannot be read, all brokers
// are without certificates.
func (v *Views) BrokerRights(broker messages.BrokerID) (BrokerRights, bool) {
	all := v.brokers.Load()
	if all == nil {
		return BrokerRights{}, false
	}
	rights, ok := (*all)[broker]
	if _, unreadable := (*all)[anyBroker]; unreadable {
		return BrokerRights{Removed: rights.Removed, NoComponent: true}, true
	}
	return rights, ok
}

// anyBroker is no broker's id. It stands for all once a record about one could not be read.
const anyBroker messages.BrokerID = ""

func (v *Views) brokerPermitted(e *messages.BrokerPermitted) {
	v.changeBroker(messages.BrokerID(e.Broker), func(r BrokerRights) BrokerRights { return r.permitted(e) })
}

func (r BrokerRights) permitted(e *messages.BrokerPermitted) BrokerRights {
	return BrokerRights{Certificates: slices.Clone(e.Certificates), NoComponent: r.NoComponent && !slices.Contains(e.Certificates, clientType)}
}

// restricted leaves of what the broker might have what e leaves.
func (r BrokerRights) restricted(e *messages.BrokerRestricted) BrokerRights {
	left := slices.DeleteFunc(slices.Clone(e.Certificates), func(t string) bool { return !slices.Contains(r.Certificates, t) })
	taken := slices.Contains(r.Certificates, clientType) && !slices.Contains(left, clientType)
	return BrokerRights{Certificates: left, Removed: r.Removed || e.Removed, NoComponent: r.NoComponent || taken}
}

// withdraws reports whether e, which left these rights, ends the broker as a component:
// for good, or who stole its key would have it back with the right.
func (r BrokerRights) withdraws(e *messages.BrokerRestricted) bool { return r.NoComponent || e.Removed }

// brokerRestricted takes from a broker what e does not leave, and ends it as a component if
// that was its right.
func (v *Views) brokerRestricted(e *messages.BrokerRestricted) {
	v.changeBroker(messages.BrokerID(e.Broker), func(r BrokerRights) BrokerRights { return r.restricted(e) })
	if rights, _ := v.BrokerRights(messages.BrokerID(e.Broker)); rights.withdraws(e) {
		v.withdrawComponent(messages.ComponentName(e.Broker), "it may have no client certificate any more")
	}
}

// changeBroker replaces what is known of one broker; who reads sees the former or the new.
func (v *Views) changeBroker(broker messages.BrokerID, change func(BrokerRights) BrokerRights) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[messages.BrokerID]BrokerRights{}
	if former := v.brokers.Load(); former != nil {
		all = maps.Clone(*former)
	}
	rights, known := all[broker]
	if !known {
		rights.Certificates = DefaultCertificates()
	}
	all[broker] = change(rights)
	v.brokers.Store(&all)
}

// DefaultCertificates are the types of certificates that a broker may have of which no
// operator said anything (client-device-auth spec 7.3).
func DefaultCertificates() []string { return []string{"SERVER"} }
