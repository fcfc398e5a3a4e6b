package campaign

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// liar is a simulator that carries out plans by a few lines of its own, and has a bug
// planted: what was revoked is forgotten in a crash while its broker was cut off, so a later
// connect is allowed (S1). Shrinking must find those few actions among all others.
type liar struct {
	honest bool // no bug
}

func planOf(c dst.Config) *dst.Plan {
	chance := rand.New(rand.NewPCG(c.Seed, 1))
	if c.Devices == 0 {
		c.Devices = 1 + chance.IntN(40)
	}
	if c.Brokers == 0 {
		c.Brokers = 1 + chance.IntN(3)
	}
	if c.Duration == 0 {
		c.Duration = time.Duration(1+chance.IntN(24)) * time.Hour
	}
	if !c.FaultsChosen {
		c.Faults, c.FaultsChosen = dst.Faults(chance.Uint32())&dst.AllFaults, true
	}
	p := &dst.Plan{Config: c, Setup: dst.Setup{Policy: "{}", Section: "{}", Certified: true, Newcomers: c.Devices / 5}}
	n := 300
	for i := range n {
		a := dst.Action{ID: i + 1, At: c.Duration * time.Duration(i) / time.Duration(n), Client: chance.IntN(c.Devices), Thing: chance.IntN(c.Devices), Broker: chance.IntN(c.Brokers)}
		switch chance.IntN(8) {
		case 0:
			a.Kind, a.Amount = dst.FaultCrash, time.Second
		case 1:
			a.Kind, a.How, a.For = dst.FaultCut, "both", time.Minute
		case 2:
			a.Kind, a.Cert = dst.Deactivate, dst.Cert{Of: chance.IntN(c.Devices)}
		case 3:
			a.Kind, a.Name = dst.Publish, "t"
		case 4:
			a.Kind, a.How, a.For = dst.FaultCloud, "down", time.Minute
		default:
			a.Kind, a.Thing = dst.Connect, a.Client
			a.Cert = dst.Cert{Of: a.Client}
		}
		p.Actions = append(p.Actions, a)
	}
	return p
}

func (l liar) play(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error) {
	doc, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	r := &dst.Result{Plan: p, Trace: sha256.Sum256(doc), Virtual: p.Duration, Counts: dst.Counts(newTotals().Counts)}
	revoked, forgotten := map[int]bool{}, map[int]bool{}
	cut := -1
	for _, a := range p.Actions {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.Steps++
		r.Counts.Actions[a.Kind.String()]++
		r.Counts.Checks["S1"]++
		r.Counts.Checks["T1"] += 2
		if f := a.Fault(); f != 0 {
			r.Counts.Faults[f.String()]++
		}
		switch a.Kind {
		case dst.Deactivate:
			revoked[a.Cert.Of] = true
		case dst.FaultCut:
			cut = a.Broker
		case dst.FaultCrash:
			r.Counts.Lives++
			for of := range revoked {
				forgotten[of] = cut == a.Broker
			}
		case dst.Connect:
			switch {
			case !revoked[a.Cert.Of]:
				r.Counts.Allowed["connect"]++
			case forgotten[a.Cert.Of] && !l.honest:
				r.Counts.Allowed["connect"]++
				r.Virtual = a.At
				r.Violation = &dst.Violation{Invariant: "S1", Step: r.Steps, At: a.At, What: fmt.Sprintf("device %d was let in", a.Client), Last: []string{"0s revoked", "1s crash", "2s <b>let in</b>"}}
				return r, nil
			default:
				r.Counts.Denied["connect"]++
			}
		}
		r.Series = append(r.Series, dst.Sample{At: a.At, Connected: int(r.Steps) % 7, Allowed: r.Counts.Allowed["connect"], Denied: r.Counts.Denied["connect"], Up: true, Faults: a.Fault()})
		if o.Progress != nil {
			o.Progress(dst.Progress{Virtual: a.At, Whole: p.Duration, Steps: r.Steps, Counts: &r.Counts})
		}
	}
	return r, nil
}
