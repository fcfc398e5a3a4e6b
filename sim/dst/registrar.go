package dst

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Who may have signed a certificate: nobody that the core knows, the fleet's authority, by
// which newcomers may register, or one that only has its name.
const (
	byNobody = ""
	byFleet  = "fleet"
	byRogue  = "rogue"
)

var (
	fleetKey = sync.OnceValue(func() ed25519.PrivateKey { return keyNamed(byFleet) })
	rogueKey = sync.OnceValue(func() ed25519.PrivateKey { return keyNamed(byRogue) })
)

func keyNamed(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// keyBy is the key of who signs; nil: nobody does.
func keyBy(by string) ed25519.PrivateKey {
	switch by {
	case byFleet:
		return fleetKey()
	case byRogue:
		return rogueKey()
	}
	return nil
}

// fleetRules let whoever the fleet's authority has signed for be what its certificate says.
var fleetRules = sync.OnceValues(func() (registration.Authorities, registration.Rules) {
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: derIssuer, NotBefore: Beginning.Add(-2 * validBefore), NotAfter: Beginning.Add(2 * validFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &x509.Certificate{RawSubject: derIssuer}, fleetKey().Public(), fleetKey())
	if err != nil {
		panic(err)
	}
	fleet, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	authorities, err := registration.NewAuthorities([]*x509.Certificate{fleet})
	if err != nil {
		panic(err)
	}
	rules, err := registration.Compile(registration.Config{Rules: []registration.Rule{
		{Name: "fleet", Thing: registration.Thing{Name: "${subject.commonName}"}},
	}})
	if err != nil {
		panic(err)
	}
	return authorities, rules
})

// How many may be pending, at once and new in an hour.
const (
	pendingMax     = 3
	pendingPerHour = 20
)

// startEnroller has newcomers registered, and admitted as pending while the cloud is away,
// where the plan says so.
func (c *core) startEnroller() {
	if !c.sim.plan.Setup.Offline {
		return
	}
	authorities, rules := fleetRules()
	c.enroller = actors.NewEnroller(actors.EnrollerConfig{
		System: c.sys, Views: c.views, Clock: c.clock, Registrar: registrar{c}, Authorities: authorities, Rules: rules,
		Offline: actors.OfflineRegistration{Enabled: true, PerHour: pendingPerHour, Max: pendingMax},
	})
	c.enroll()
}

// enroll takes the enroller's steps, one a second while anybody is pending.
func (c *core) enroll() {
	if c.ending {
		return
	}
	c.enroller.Step()
	next := keeperTick
	if len(c.views.PendingDevices()) == 0 {
		next = max(next, c.calm())
	}
	c.clock.timer(next, aTick, c.enroll)
}

// registrar makes newcomers known to the cloud, as far as that is reached. It is the same to
// whoever comes again: some it denies, the others it accepts, sooner or later.
type registrar struct{ c *core }

var _ actors.Registrar = registrar{}

const (
	registrarFails  = .2 // of the tries, until all is healed
	registrarDenies = .2 // of the devices
)

// Register implements actors.Registrar.
func (r registrar) Register(_ context.Context, c registration.Candidate) (registration.Outcome, error) {
	m := r.c.sim
	cloud := m.cloud
	device := cloud.dice.name(string(c.Certificate)).key(99)
	try := device.key(uint64(m.sched.now))
	after, away := cloud.away(try)
	if !away {
		after = cloud.roundTrip(try)
	}
	if !m.sched.sleep(after) {
		return registration.Outcome{}, errStopped
	}
	if away || cloud.hit(cloudThrottles, try) || cloud.hit(cloudRefusesUs, try) || cloud.hit(cloudFails, try) || !m.healed && try.key(1).chance(registrarFails) {
		return registration.Outcome{}, errorText("the registrar cannot decide")
	}
	outcome := registration.Outcome{Rule: "fleet", Reason: "its rules"}
	if device.chance(registrarDenies) {
		return outcome, nil
	}
	cert, good := certIn(c.DER)
	named, ok := DeviceOf(c.Thing)
	if !good || !ok || named != cert.Of {
		return outcome, nil
	}
	if !cloud.registry.knows(c.Certificate) { // else it is as somebody made it
		cloud.registry.setCertificate(m.sched.now, c.Certificate, true)
		cloud.registry.setAttached(m.sched.now, c.Thing, c.Certificate, true)
		cloud.registry.setAssociated(cert.Of, true)
		m.sched.trace.text('r', string(c.Thing))
		m.sched.trace.say("the registrar enters %s with %s", c.Thing, short(c.Certificate))
		m.witness.Registered(cert)
	}
	if cloud.registry.holds(attachment{cert: c.Certificate}, c.DER, m.sched.now) && cloud.registry.holds(attachment{c.Thing, c.Certificate}, nil, m.sched.now) {
		outcome.Status, outcome.Thing, outcome.Reason = registration.Accepted, c.Thing, ""
	}
	return outcome, nil
}

// newcomer reports whether nobody registered a device at the beginning.
func (p *Plan) newcomer(device int) bool { return device >= p.Devices-p.Setup.Newcomers }

// certOf is a certificate that a device has.
func (p *Plan) certOf(device, gen int) Cert {
	c := Cert{Of: device, Gen: gen}
	if gen == 0 && p.Setup.Offline && p.newcomer(device) {
		c.By = byFleet
	}
	return c
}

// newcomers makes up that devices which nobody registered come while the cloud is away.
func (m *maker) newcomers() {
	if !m.Setup.Offline || !m.Faults.Has(CloudDown) {
		return
	}
	r := planRand(m.Seed, planNewcomers)
	for range 1 + r.IntN(2) {
		away := Action{At: m.at(r), Kind: FaultCloud, How: []string{"down", "unreachable"}[r.IntN(2)], For: logDuration(r, time.Minute, max(2*time.Minute, m.Duration/3))}
		if r.IntN(2) == 0 {
			away.At = 0 // from the start on
		}
		m.add(away)
		for i := m.Devices - m.Setup.Newcomers; i < m.Devices; i++ {
			for range 1 + r.IntN(3) {
				at, broker := away.At+time.Duration(r.Float64()*float64(away.For)).Truncate(time.Microsecond), r.IntN(m.Brokers)
				if r.IntN(8) == 0 {
					m.clients++
					m.add(Action{At: at, Kind: Connect, Client: m.clients, Broker: broker, Thing: i, Cert: Cert{Of: i, By: byRogue}})
					continue
				}
				m.connect(at, i, broker, 0)
				m.talk(r, i, at, min(m.Duration, at+away.For), 1+r.IntN(3))
			}
		}
		if r.IntN(3) == 0 { // what is known of somebody ends pending, too
			i := m.Devices - 1 - r.IntN(m.Setup.Newcomers)
			m.add(Action{At: away.At + time.Duration(r.Float64()*float64(away.For)).Truncate(time.Microsecond), Kind: []Kind{Quarantine, Forget}[r.IntN(2)], Thing: i})
		}
	}
}
