package dst

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The streams of a plan's chance: what one part of it draws changes nothing of another's.
const (
	planShape uint64 = 1000 + iota
	planSetup
	planDevice
	planStorms
	planAttack
	planOperator
	planRegistry
	planFaults
	planAligned
	planHerd
	planDoubts
	planNewcomers
)

func planRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// logUniform is between lo and hi, every order of magnitude as likely; bias above 1 makes
// small ones more likely.
func logUniform(r *rand.Rand, lo, hi, bias float64) float64 {
	return lo * math.Pow(hi/lo, math.Pow(r.Float64(), bias))
}

func logDuration(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return time.Duration(logUniform(r, float64(lo), float64(max(lo, hi)), 1)).Round(time.Microsecond)
}

// herdAbove is how many devices' actions are listed: a bigger fleet is a Herd.
const herdAbove = 2000

// maker makes up a plan.
type maker struct {
	*Plan
	clients int  // so far: those beyond the devices
	swarm   bool // the seed chooses which faults may happen
}

// PlanOf makes up what will happen, all of it by the seed.
func PlanOf(c Config) *Plan {
	m := &maker{Plan: &Plan{Config: c}}
	m.shape()
	m.clients = m.Devices
	m.setup()
	if m.Devices <= herdAbove {
		for i := range m.Devices {
			m.device(i)
		}
		m.storms()
		m.attacks()
	} else {
		m.herd()
		m.attacks()
	}
	m.operators()
	m.registry()
	m.faults()
	m.newcomers()
	m.align()
	m.doubts()
	m.order()
	return m.Plan
}

// shape chooses what the configuration leaves open.
func (m *maker) shape() {
	r := planRand(m.Seed, planShape)
	devices, brokers := int(logUniform(r, 1, 201, 2)), 1+pick(r, 6, 3, 1)
	duration := time.Duration(logUniform(r, float64(time.Minute), float64(24*time.Hour), 3.5)).Round(time.Second)
	swarm := Faults(0)
	if r.IntN(12) > 0 {
		each := []float64{.1, .25, .6}[r.IntN(3)]
		for i := range faultNames {
			if r.Float64() < each {
				swarm |= 1 << i
			}
		}
	}
	m.Devices, m.Brokers = cmp.Or(m.Devices, devices), cmp.Or(m.Brokers, brokers)
	m.Duration = cmp.Or(m.Duration, duration)
	switch {
	case m.Mode == Liveness:
		m.Faults = 0
	case !m.FaultsChosen && m.Faults == 0:
		m.Faults, m.swarm = swarm, true
	}
	m.FaultsChosen = true
}

func (m *maker) setup() {
	r := planRand(m.Seed, planSetup)
	m.Setup = Setup{Battery: r.IntN(2) == 0, Budget: r.IntN(3) == 0, Certified: r.IntN(3) == 0}
	if r.IntN(3) == 0 {
		m.Setup.Newcomers = min(1+r.IntN(1+m.Devices/3), m.Devices)
		m.Setup.Offline = r.IntN(3) > 0
	}
	if m.Setup.Offline && m.swarm && r.IntN(4) > 0 { // else nobody is admitted as pending
		m.Faults |= CloudDown
	}
	m.Setup.Policy = policyText(r, m.Plan, .9)
	m.Setup.Section = sectionText(r, m.Plan)
}

// add puts an action into the plan, if it is within the run.
func (m *maker) add(a Action) {
	if a.At >= 0 && a.At <= m.Duration {
		m.Actions = append(m.Actions, a)
	}
}

// at is a moment of the run, to the microsecond.
func (m *maker) at(r *rand.Rand) time.Duration {
	return time.Duration(r.Int64N(int64(m.Duration))).Truncate(time.Microsecond)
}

// order puts the actions into the order of time and numbers them.
func (m *maker) order() {
	slices.SortStableFunc(m.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	for i := range m.Actions {
		m.Actions[i].ID = i + 1
	}
}

// herd says how a big fleet behaves, and gives the core what a site of that size would: room
// for all sessions, as many questions to the cloud at once as an arrival needs, and trust that
// outlasts a run, since asking about everybody takes days.
func (m *maker) herd() {
	m.Herd = &Herd{Churn: .01, Revoked: .001, Publishes: .25, Storms: 2, Connected: .95, Arrival: min(2*time.Hour, m.Duration/10)}
	m.Setup.Newcomers, m.Setup.Offline = 0, false
	for r := planRand(m.Seed, planHerd); !m.sane(m.Setup.Policy); { // else a day shows nothing but refusals
		m.Setup.Policy = policyText(r, m.Plan, 1)
	}
	m.Setup.Section = fmt.Sprintf(`{"security":{"clientDeviceTrustDurationMinutes":10080},`+
		`"performance":{"maxActiveAuthTokens":%d,"maxConcurrentCloudRequests":64,"cloudRequestQueueSize":10000},`+
		`"certificateAuthority":{"caType":"ECDSA_P256"}}`, m.Devices*5/4)
}

// sane says whether a policy lets devices of all classes connect and use their own topic.
func (m *maker) sane(doc string) bool {
	p, err := readNaive([]byte(doc))
	if err != nil {
		return false
	}
	for i := range classes {
		thing := string(ThingOf(i))
		if !p.allows(thing, "mqtt:connect", "mqtt:clientId:"+thing) || !p.allows(thing, "mqtt:publish", "mqtt:topic:"+ownTopic(i)) {
			return false
		}
	}
	return true
}
