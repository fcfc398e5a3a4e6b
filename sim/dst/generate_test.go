package dst

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// TestPlansAreOfTheirSeed: the same configuration gives the same plan, in bounds, that can be
// kept in a file; another seed gives another.
func TestPlansAreOfTheirSeed(t *testing.T) {
	kindsSeen, faultsSeen := map[Kind]int{}, Faults(0)
	var last *Plan
	for seed := range uint64(400) {
		p := PlanOf(Config{Seed: seed})
		if err := p.Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if again := PlanOf(Config{Seed: seed}); !reflect.DeepEqual(p, again) {
			t.Fatalf("seed %d: two plans", seed)
		}
		if last != nil && reflect.DeepEqual(p.Actions, last.Actions) {
			t.Errorf("seeds %d and %d: one plan", seed-1, seed)
		}
		last = p
		for i := range p.Actions {
			kindsSeen[p.Actions[i].Kind]++
			f := p.Actions[i].Fault()
			faultsSeen |= f
			if f&^p.Faults != 0 {
				t.Fatalf("seed %d: action %d is fault %v, of %v", seed, p.Actions[i].ID, f, p.Faults)
			}
		}
		if seed%20 == 0 {
			roundTrip(t, p)
		}
	}
	for k := Kind(1); k < kindsEnd; k++ {
		if kindsSeen[k] == 0 && k != AskedRefresh && k != RemoveBrokers {
			t.Errorf("%v never happens", k)
		}
	}
	if faultsSeen != AllFaults {
		t.Errorf("never: %v", AllFaults&^faultsSeen)
	}
}

func roundTrip(t *testing.T, p *Plan) {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadPlan(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, got) {
		t.Errorf("seed %d: a plan is read as another one", p.Seed)
	}
}

// TestPlanOfTheLargestFleet: what is made up for it passes the check of plans.
func TestPlanOfTheLargestFleet(t *testing.T) {
	p := PlanOf(Config{Seed: 1, Devices: DevicesMax, Brokers: 4, Duration: 24 * time.Hour, Faults: CloudDown, FaultsChosen: true})
	if err := p.Check(); err != nil || p.Herd == nil || len(p.Actions) == 0 {
		t.Errorf("%v, herd %v, %d actions", err, p.Herd, len(p.Actions))
	}
}

// TestPlansKeepToTheirConfig: what is said is not chosen.
func TestPlansKeepToTheirConfig(t *testing.T) {
	p := PlanOf(Config{Seed: 3, Devices: 7, Brokers: 2, Duration: time.Hour, FaultsChosen: true, Mode: Liveness})
	if p.Devices != 7 || p.Brokers != 2 || p.Duration != time.Hour || p.Faults != 0 {
		t.Errorf("got %+v", p.Config)
	}
	if p := PlanOf(Config{Seed: 3, Faults: Crash}); p.Faults != Crash {
		t.Errorf("faults %v, want crash", p.Faults)
	}
	if p := PlanOf(Config{Seed: 3, Devices: 5000}); p.Herd == nil || p.Check() != nil {
		t.Errorf("a fleet of 5000: herd %v, %v", p.Herd, p.Check())
	}
}

// TestNaiveAgrees: the observer's reading of documents and the product's are two, and agree
// on all that plans hold.
func TestNaiveAgrees(t *testing.T) {
	taken, refused, yes, no := 0, 0, 0, 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := &Plan{Config: Config{Devices: 1 + r.IntN(30)}, Setup: Setup{Offline: r.IntN(2) == 0}}
		text := policyText(r, p, r.Float64())
		if r.IntN(3) == 0 {
			text = badPolicy(r, p)
		}
		naive, bad := readNaive([]byte(text))
		doc, err := policy.Parse([]byte(text), policy.Options{})
		if (err == nil) != (bad == nil) {
			t.Fatalf("%s\nnaive: %v, policy: %v", text, bad, err)
		}
		if err != nil {
			refused++
			continue
		}
		taken++
		compiled := policy.Compile(doc)
		for range 40 {
			i := r.IntN(p.Devices)
			op, name := []Kind{Connect, Publish, Subscribe}[r.IntN(3)], string(ThingOf(r.IntN(p.Devices)))
			switch op {
			case Publish:
				name = topicOf(r, p, i)
			case Subscribe:
				name = filterOf(r, p, i)
			}
			operation, resource := resourceOf(op, name)
			got := naive.allows(string(ThingOf(i)), operation, resource)
			if want := compiled.For(ThingOf(i)).Evaluate(operation, resource).Allowed; got != want {
				t.Fatalf("%s\n%s, %s %s: naive %v, policy %v", text, ThingOf(i), operation, resource, got, want)
			}
			if got {
				yes++
			} else {
				no++
			}
		}
		section := sectionText(r, p)
		s, err := readSection([]byte(section))
		want, _, errs := config.Parse([]byte(section), nil)
		if err != nil || errs != nil || s.trust.Milliseconds() != want.Security.TrustDurationMs() || s.closeOnRevoke != want.Sessions.CloseOnRevoke || s.sessionsMax != want.Performance.MaxActiveAuthTokens {
			t.Fatalf("%s\nnaive %+v, %v; config %+v, %v", section, s, err, want, errs)
		}
	}
	if taken < 100 || refused < 100 || yes < 1000 || no < 1000 {
		t.Errorf("%d taken, %d refused, %d yes, %d no: too few of one", taken, refused, yes, no)
	}
}

// BenchmarkPlanOf is what a plan costs.
func BenchmarkPlanOf(b *testing.B) {
	seed, actions := uint64(0), 0
	for b.Loop() {
		seed++
		actions += len(PlanOf(Config{Seed: seed}).Actions)
	}
	b.ReportMetric(float64(actions)/float64(b.N), "actions/op")
}
