package dst

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

// playHerd takes all actions of a plan, in a world that lets everybody in whose certificate
// is good.
func playHerd(t *testing.T, p *Plan) (counts map[Kind]int, trace [32]byte, connected int) {
	t.Helper()
	in, revoked := map[int]bool{}, map[int]bool{}
	counts = map[Kind]int{}
	h := sha256.New()
	s := newSource(p, func(i int) bool { return in[i] })
	last := Action{ID: -1}
	for {
		at, ok := s.when()
		a := s.next()
		if (a != nil) != ok || !ok {
			if ok {
				t.Fatal("there was to be one more")
			}
			break
		}
		if a.At != at || a.At < last.At || p.Herd != nil && a.ID == last.ID {
			t.Fatalf("%+v at %v after %+v", a, at, last)
		}
		if err := a.check(p); err != nil {
			t.Fatal(err)
		}
		last = *a
		fmt.Fprintf(h, "%+v\n", *a)
		counts[a.Kind]++
		switch a.Kind {
		case Connect:
			in[a.Client] = !revoked[a.Client]
		case Disconnect, Vanish:
			if !in[a.Client] {
				t.Fatalf("%+v, and it was not connected", a)
			}
			delete(in, a.Client)
		case Deactivate:
			revoked[a.Cert.Of] = true
			delete(in, a.Cert.Of)
		case Publish, Subscribe:
			if !in[a.Client] {
				t.Fatalf("%+v, and it was not connected", a)
			}
		}
	}
	for _, is := range in {
		if is {
			connected++
		}
	}
	h.Sum(trace[:0])
	return counts, trace, connected
}

// TestHerdBehaves: a big fleet comes, churns, is revoked and storms as its Herd says, in the
// order of time between the listed actions, the same way each time.
func TestHerdBehaves(t *testing.T) {
	p := PlanOf(Config{Seed: 5, Devices: 4000, Brokers: 2, Duration: 24 * time.Hour})
	p.Herd = &Herd{Churn: .01, Revoked: .001, Publishes: 1, Storms: 2, Connected: .95, Arrival: time.Hour}
	for i := range p.Actions { // registry changes would be the test's to carry out, too
		if p.Actions[i].Fault() == 0 {
			p.Actions[i] = Action{ID: p.Actions[i].ID, At: p.Actions[i].At, Kind: AskedRefresh}
		}
	}
	counts, trace, connected := playHerd(t, p)
	about := func(what string, got, want int) {
		if got < want*9/10 || got > want*11/10 {
			t.Errorf("%s: %d, want about %d", what, got, want)
		}
	}
	hours := 4000 * 23.3 * .99
	about("publishes", counts[Publish]+counts[Subscribe], int(hours))
	about("goodbyes", counts[Disconnect]+counts[Vanish], int(hours*.01))
	if n := counts[Deactivate]; n < int(hours*.001)*6/10 || n > int(hours*.001)*14/10 {
		t.Errorf("revocations: %d, want about %d", n, int(hours*.001))
	}
	if n := counts[Connect]; n < 8000 { // all once, half of them in each storm
		t.Errorf("%d connects", n)
	}
	about("connected in the end", connected, 4000-counts[Deactivate])
	if counts[AskedRefresh]+counts[FaultCrash] == 0 {
		t.Error("nothing of the list was done")
	}
	if _, again, _ := playHerd(t, p); again != trace {
		t.Error("another time, another way")
	}
	p.Seed++
	if _, other, _ := playHerd(t, p); other == trace {
		t.Error("another seed, the same way")
	}
}

// TestHerdComesBack: the clients of a broker that died come back when it is there again.
func TestHerdComesBack(t *testing.T) {
	p := PlanOf(Config{Seed: 5, Devices: 3000, Brokers: 3, Duration: 24 * time.Hour, FaultsChosen: true})
	p.Herd = &Herd{Connected: 1, Arrival: time.Hour}
	p.Actions = []Action{{ID: 1, At: 5 * time.Hour, Kind: FaultBroker, Broker: 1, Amount: time.Minute}}
	back, last := 0, time.Duration(0)
	in := map[int]bool{}
	for s := newSource(p, func(i int) bool { return in[i] }); ; {
		a := s.next()
		if a == nil || a.At > 6*time.Hour {
			break
		}
		if a.Kind == Connect {
			in[a.Client] = true
			if a.At >= 5*time.Hour {
				back, last = back+1, a.At
			}
			if a.At >= 5*time.Hour && a.Broker != 1 {
				t.Fatalf("%+v", a)
			}
		}
	}
	if back != 1000 || last > 5*time.Hour+time.Minute+time.Second+stormMax {
		t.Errorf("%d came back, the last at %v", back, last)
	}
}

// TestSourceOfAList: without a herd it is the list.
func TestSourceOfAList(t *testing.T) {
	p := PlanOf(Config{Seed: 3, Devices: 4})
	s := newSource(p, nil)
	for i := range p.Actions {
		if at, ok := s.when(); !ok || at != p.Actions[i].At || s.next() != &p.Actions[i] {
			t.Fatalf("action %d", i)
		}
	}
	if _, ok := s.when(); ok || s.next() != nil {
		t.Error("there is more than the list")
	}
}
