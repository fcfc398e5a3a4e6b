package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
	"github.com/gatehouse-edge/gatehouse/sim/world"
)

// Failure is an event whose outcome is not the one that the scenario says.
type Failure struct {
	File     string  `json:"file"`
	Line     int     `json:"line"`
	Scenario string  `json:"scenario"`
	Event    int     `json:"event"` // from 1
	Do       string  `json:"do"`
	AtS      float64 `json:"atSeconds"`
	Problem  string  `json:"problem"`
}

// String puts place and problem on one line.
func (f Failure) String() string {
	return fmt.Sprintf("%s:%d: %s: event %d (%s at %g s): %s", f.File, f.Line, f.Scenario, f.Event, f.Do, f.AtS, f.Problem)
}

// Result is what came of a file.
type Result struct {
	Passed   int       `json:"passed"` // scenarios
	Failed   int       `json:"failed"`
	Failures []Failure `json:"failures"`
}

// Run plays the scenarios of f, which was read from the file of that name. The error says
// that ctx ended, or that a world cannot be made or does not end as it should.
func Run(ctx context.Context, name string, f *File) (Result, error) {
	r := Result{Failures: []Failure{}}
	for i := range f.Scenarios {
		s := &f.Scenarios[i]
		failures, err := s.play(ctx)
		if err != nil {
			return r, fmt.Errorf("%s: scenario %q: %w", name, s.Name, err)
		}
		for j := range failures {
			failures[j].File, failures[j].Scenario = name, string(s.Name)
		}
		if r.Passed++; len(failures) > 0 {
			r.Passed--
			r.Failed++
		}
		r.Failures = append(r.Failures, failures...)
	}
	return r, nil
}

// play is a scenario that runs.
type play struct {
	world  *world.World
	certs  map[alias][]byte // DER, by the scenario's names
	spans  map[alias]*certValidity
	stayed map[thing][]messages.Token

	comesUp           bool // the link does, with the next event that is not the cloud's
	faults, listFault []fault.Fault
	refreshSeen       uint64 // the last record at the last look at the refresh
}

// policyInForce lets a thing connect, and publish and subscribe below things/<its name>/; a
// pending one connect, and publish below pending/<its name>/.
const policyInForce = `{"definitions":{"all":{"selectionRule":"thingName: *","policyName":"own"},"pending":{"selectionRule":"thingName: *","policyName":"wait"}},"policies":{
	"wait":{
	"connect":{"operations":["mqtt:connect"],"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}"]},
	"publish":{"operations":["mqtt:publish"],"resources":["mqtt:topic:pending/${iot:Connection.Thing.ThingName}/*"]}},
	"own":{
	"connect":{"operations":["mqtt:connect"],"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}"]},
	"publish":{"operations":["mqtt:publish"],"resources":["mqtt:topic:things/${iot:Connection.Thing.ThingName}/*"]},
	"subscribe":{"operations":["mqtt:subscribe"],"resources":["mqtt:topicfilter:things/${iot:Connection.Thing.ThingName}/*"]}}}}`

// newPlay makes a world with what the scenario begins with.
func (s *Scenario) newPlay() (*play, error) {
	w, err := world.New(world.Config{BudgetOffTime: s.OffTime == "budget", Battery: s.Battery})
	if err != nil {
		return nil, err
	}
	p := &play{world: w, certs: map[alias][]byte{}, spans: map[alias]*certValidity{}, stayed: map[thing][]messages.Token{}}
	for _, e := range s.Events {
		if c, ok := e.act.(*certValidity); ok {
			p.spans[c.Cert] = c
		}
	}
	section, _ := json.Marshal(map[string]any{"security": map[string]any{"clientDeviceTrustDurationMinutes": max(int64(s.TrustMinutes), 1)}})
	_, err = p.do(messages.ReplacePolicy{Document: []byte(policyInForce), Origin: "scenario"})
	if err = errors.Join(err, p.configure(section)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return p, nil
}

// play runs the events and returns what came out otherwise than it should.
func (s *Scenario) play(ctx context.Context) ([]Failure, error) {
	p, err := s.newPlay()
	if err != nil {
		return nil, err
	}
	failures, fatal := p.run(ctx, s.Events)
	err = p.world.Close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && !fatal: // else it has been told
		return failures, fmt.Errorf("end the core: %w", err)
	}
	return failures, nil
}

// run runs the events; fatal says that one was the end.
func (p *play) run(ctx context.Context, events []Event) (failures []Failure, fatal bool) {
	for i, e := range events {
		if ctx.Err() != nil {
			break
		}
		problems, err := p.happen(e)
		if err != nil {
			problems = append(problems, err.Error()+"; the scenario ends here")
		}
		for _, problem := range problems {
			failures = append(failures, Failure{
				Line: e.Line, Event: i + 1, Do: e.Do, AtS: p.world.Machine.Since().Seconds(), Problem: oneLine(problem),
			})
		}
		if err != nil {
			return failures, true
		}
	}
	return failures, false
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

// happen lets time pass until the event's moment, and the event happen.
func (p *play) happen(e Event) ([]string, error) {
	if e.At != nil {
		at, now := e.At.duration(), p.world.Machine.Since()
		if at < now {
			return nil, fmt.Errorf("it is %v already: what came before took longer", inSeconds(now))
		}
		if err := p.world.AdvanceTo(at); err != nil {
			return nil, err
		}
	}
	if n, ok := e.act.(*network); ok && n.Up && e.At == nil {
		p.comesUp = true
		return nil, nil
	}
	if _, cloud := e.act.(interface{ ofCloud() }); !cloud && p.comesUp {
		p.comesUp = false
		if err := p.world.SetLink(true); err != nil {
			return nil, err
		}
	}
	return e.act.run(p)
}

// do gives the core one command.
func (p *play) do(c messages.Command) ([]string, error) {
	_, err := p.world.Do(c)
	return nil, err
}

// configure puts a clientDeviceAuth section in force.
func (p *play) configure(section []byte) error {
	reply, err := p.world.Do(messages.ReplaceConfig{Document: section, Origin: "scenario"})
	if rejected, ok := reply.(messages.Rejected); ok {
		return fmt.Errorf("the configuration is refused: %s", strings.Join(rejected.Errors, "; "))
	}
	return err
}

// cert is the certificate that the scenario calls name; it is made when it is first
// named.
func (p *play) cert(name alias) ([]byte, error) {
	if name == "garbage" {
		return []byte("garbage"), nil
	}
	if der := p.certs[name]; der != nil {
		return der, nil
	}
	from, to := seconds(secondsMin).duration(), seconds(secondsMax).duration()
	if span := p.spans[name]; span != nil {
		from, to = span.NotBefore.duration(), span.NotAfter.duration()
	}
	der, err := p.world.Issue(string(name), world.Beginning.Add(from), world.Beginning.Add(to))
	if err == nil {
		p.certs[name] = der
	}
	return der, err
}

func (p *play) id(name alias) (messages.CertificateID, error) {
	der, err := p.cert(name)
	return messages.CertificateIDOf(der), err
}

func (p *play) aliasOf(id messages.CertificateID) alias {
	for name, der := range p.certs {
		if messages.CertificateIDOf(der) == id {
			return name
		}
	}
	return alias(id)
}

// at is a trust time as a file spells it.
func (p *play) at(ms int64) seconds { return inSeconds(time.UnixMilli(ms).Sub(world.Beginning)) }
