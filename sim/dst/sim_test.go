package dst

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const testPolicy = `{"definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"}},"policies":{"p":{"s":{
	"operations":["mqtt:connect","mqtt:publish","mqtt:subscribe"],
	"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}","mqtt:topic:d/${iot:Connection.Thing.ThingName}","mqtt:topicfilter:d/*"]}}}}
`

const testSection = `{"security":{"clientDeviceTrustDurationMinutes":60}}
`

// seen counts what a witness sees.
type seen struct {
	asked   map[string]int // "connect allowed"
	dropped []string
	replied map[Kind][]messages.Reply
	cloud   map[string]int // verdict, or detail of silence
	listed  []bool         // complete
	records uint64         // on disk
	gaps    int
	lives   int
	died    []string
	pushed  int
	faults  Faults
	open    map[Faults]int // under way
}

func newSeen() *seen {
	return &seen{asked: map[string]int{}, replied: map[Kind][]messages.Reply{}, cloud: map[string]int{}, open: map[Faults]int{}}
}

func (h *seen) Asked(a *Ask) { h.asked[a.Op.String()+" "+a.Outcome.String()]++ }
func (h *seen) Dropped(_, _ int, _ messages.TokenDigest, why string) {
	h.dropped = append(h.dropped, why)
}
func (h *seen) Replied(a *Action, _ time.Duration, r messages.Reply) {
	h.replied[a.Kind] = append(h.replied[a.Kind], r)
}
func (h *seen) CloudSaid(_ *messages.CloudQuestion, _ time.Duration, a *messages.CloudAnswer) {
	if a.Verdict == messages.CloudSilent {
		what, _, _ := strings.Cut(a.Detail, ":")
		h.cloud[what]++
		return
	}
	h.cloud[a.Verdict.String()]++
}
func (h *seen) Listed(l *messages.AssociationList) { h.listed = append(h.listed, l.Complete) }
func (h *seen) Registered(Cert)                    {}
func (h *seen) Durable(recs []messages.Record) {
	for i := range recs {
		if h.records++; recs[i].Seq != h.records {
			h.gaps++
		}
	}
}
func (h *seen) Began(*Core)                    { h.lives++ }
func (h *seen) Died(_ int, how string)         { h.died = append(h.died, how) }
func (h *seen) Pushed(int, time.Duration)      { h.pushed++ }
func (h *seen) Serves(int, [][]byte, [][]byte) {}
func (h *seen) Fault(f Faults)                 { h.faults |= f; h.open[f]++ }
func (h *seen) Over(f Faults)                  { h.open[f]-- }
func (h *seen) Booted(time.Duration)           {}
func (h *seen) Failed(int)                     {}

func testPlan(seed uint64, devices int, d time.Duration, actions ...Action) *Plan {
	p := &Plan{
		Config:  Config{Seed: seed, Devices: devices, Brokers: 2, Duration: d, FaultsChosen: true},
		Setup:   Setup{Policy: testPolicy, Section: testSection},
		Actions: actions,
	}
	for i := range devices {
		at := time.Second + d/4*time.Duration(i)/time.Duration(devices)
		p.Actions = append(p.Actions, Action{At: at, Kind: Connect, Client: i, Broker: i % 2, Thing: i, Cert: Cert{Of: i}})
		for k := range 5 {
			for _, name := range []string{"d/" + string(ThingOf(i)), "other"} {
				p.Actions = append(p.Actions, Action{At: at + d/10*time.Duration(k+1), Kind: Publish, Client: i, Name: name})
			}
		}
		p.Actions = append(p.Actions, Action{At: at + d*2/3, Kind: Disconnect, Client: i})
	}
	for i := range p.Actions {
		p.Actions[i].ID = i + 1
	}
	return p
}

// play plays a plan's actions.
func play(p *Plan, keep int, prepare func(*Sim)) (*Sim, *seen) {
	h := newSeen()
	m := NewSim(p, h, keep)
	if prepare != nil {
		prepare(m)
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		m.sched.after(a.At, anAction, nil, func() { m.Do(a) })
	}
	for m.Step(p.Duration) {
	}
	return m, h
}

func TestACalmWorldIsClean(t *testing.T) {
	p := testPlan(1, 5, 2*time.Minute)
	m, h := play(p, 0, func(m *Sim) { m.sched.calm(); m.sched.trace.all = func(s string) { t.Log(s) } })
	defer m.Close()
	if h.asked["connect allowed"] != 5 || h.asked["publish allowed"] != 25 || h.asked["publish denied"] != 25 || len(h.asked) != 3 ||
		len(h.dropped) != 0 || h.lives != 1 || h.gaps != 0 || h.records == 0 || h.cloud["confirmed"] != 10 || len(h.cloud) != 1 {
		t.Errorf("%+v", h)
	}
}

// stormy is a plan with a fault of each sort.
func stormy(seed uint64) *Plan {
	s := time.Second
	return testPlan(seed, 10, 12*time.Minute,
		Action{At: 60 * s, Kind: FaultNet, How: "drop", For: 120 * s, Rate: .1},
		Action{At: 60 * s, Kind: FaultNet, How: "delay", For: 120 * s, Rate: .3, Amount: 3 * s},
		Action{At: 60 * s, Kind: FaultNet, How: "duplicate", For: 120 * s, Rate: .2},
		Action{At: 100 * s, Kind: FaultCrash, Amount: s},
		Action{At: 120 * s, Kind: FaultCloud, How: "down", For: 100 * s},
		Action{At: 150 * s, Kind: FaultPower, How: "unset", Amount: 60 * s},
		Action{At: 240 * s, Kind: FaultStore, How: "error"},
		Action{At: 300 * s, Kind: FaultCut, Broker: 1, How: "to-core", For: 30 * s},
		Action{At: 300 * s, Kind: FaultStore, How: "slow", Amount: s, For: 30 * s},
		Action{At: 300 * s, Kind: FaultStore, How: "snapshots", Rate: .5},
		Action{At: 320 * s, Kind: FaultStore, How: "full", For: 30 * s},
		Action{At: 340 * s, Kind: FaultSuspend, Amount: 10 * s},
		Action{At: 360 * s, Kind: FaultClock, How: "drift", Rate: .01},
		Action{At: 361 * s, Kind: FaultClock, How: "jump", Amount: -time.Hour, For: 60 * s},
		Action{At: 365 * s, Kind: FaultBroker, Broker: 0, Amount: s},
		Action{At: 370 * s, Kind: Quarantine, Thing: 3},
		Action{At: 380 * s, Kind: Deactivate, Cert: Cert{Of: 4}},
		Action{At: 390 * s, Kind: FaultBus, Amount: 3 * s},
		Action{At: 400 * s, Kind: Restart, Amount: s},
		Action{At: 410 * s, Kind: AskedRefresh},
		Action{At: 411 * s, Kind: FaultCloud, How: "list-broken", For: 10 * s},
		Action{At: 420 * s, Kind: FaultReboot, Amount: 2 * s},
		Action{At: 430 * s, Kind: EditPolicy, Text: "{}"},
	)
}

// TestSameSeedSameTrace: what happens follows from the plan alone.
func TestSameSeedSameTrace(t *testing.T) {
	traces := make(chan Trace, 40)
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(40) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				var first Trace
				var lines [2][]string
				for i := range lines {
					m, _ := play(stormy(seed), 0, func(m *Sim) { m.sched.trace.all = func(s string) { lines[i] = append(lines[i], s) } })
					trace := m.Trace()
					m.Close()
					if i == 0 {
						first = trace
						traces <- trace
						continue
					}
					if trace != first {
						t.Fatal(difference(lines[0], lines[1]))
					}
				}
			})
		}
	})
	close(traces)
	different := map[Trace]bool{}
	for trace := range traces {
		different[trace] = true
	}
	if len(different) != 40 {
		t.Errorf("40 seeds give %d traces", len(different))
	}
}

func difference(a, b []string) string {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d differs, after %q:\n%s\n%s", i, a[max(i-1, 0)], a[i], b[min(i, len(b)-1)])
		}
	}
	return "the traces differ, and the lines do not"
}

// TestEveryFaultHappens: each sort of fault is seen from outside.
func TestEveryFaultHappens(t *testing.T) {
	m, h := play(stormy(3), 0, nil)
	defer m.Close()
	if h.gaps != 0 || h.lives < 5 || h.lives != len(h.died)+1 {
		t.Errorf("%+v", h)
	}
	t.Logf("%+v, %d steps", h, m.Steps())
}

func BenchmarkStorm(b *testing.B) {
	steps := uint64(0)
	for i := range b.N {
		m, _ := play(stormy(uint64(i)), 0, nil)
		steps += m.Steps()
		m.Close()
	}
	b.ReportMetric(float64(steps)/float64(b.Elapsed().Seconds()), "steps/s")
}
