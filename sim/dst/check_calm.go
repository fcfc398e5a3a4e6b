package dst

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// calm is whether anything has happened lately that could keep a device out for good reason.
type calm struct {
	since  time.Duration // the last disturbance
	unsure bool          // clocks were wrong: what came of it may take its time to mend
}

// calmAfter is how long a disturbance may be felt: the link's monitor, back-offs and what
// waits in queues take minutes.
const calmAfter = 6 * time.Minute

func (c *calm) disturb(now time.Duration) { c.since = now }

// well reports whether all has been well for long at that moment.
func (o *observer) well(at time.Duration) bool {
	return o.core != nil && o.faults == 0 && !o.calm.unsure && at-o.calm.since >= calmAfter
}

// entitled reports whether nothing speaks against letting a device in with this certificate:
// the cloud, the operators and the policy are for it.
func (o *observer) entitled(device int, c Cert) bool {
	name := string(ThingOf(device))
	operation, resource := resourceOf(Connect, name)
	return c.Spoilt == "" && o.truth.active(c) && o.truth.attached(device, c) && !o.on.thing(device).quarantined &&
		o.on.policies[len(o.on.policies)-1].policy.allows(name, operation, resource)
}

// notConnected judges that a client did not get in.
func (o *observer) notConnected(a *Ask) {
	device, ok := DeviceOf(messages.ThingName(a.Name))
	if !ok || a.Outcome != Denied || !o.well(a.Begun) || o.lapsed(device, a) {
		return
	}
	o.hold("L2", !o.entitled(device, a.Cert), "all has been well since %v, and %q was refused at %s", o.calm.since, a.Name, BrokerOf(a.Broker))
}

// lapsed reports whether the trust that a device asked on ended while it was asking: where many
// ask at once, a device whose stored trust counts as it comes does not wait for the cloud (D1c),
// and is refused if that trust has ended when its turn comes.
func (o *observer) lapsed(device int, a *Ask) bool {
	trust := o.on.sections[len(o.on.sections)-1].section.trust
	k := keyOfCert(a.CertID)
	for _, s := range []*said{&o.on.cert(k).said, &o.on.thing(device).attachment(k).said} {
		if end := s.yes + trust; s.yes > 0 && end >= a.Begun && end <= o.now() {
			return true
		}
	}
	return false
}
