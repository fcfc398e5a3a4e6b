package scenario

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/world"
)

type fleetCert struct {
	cloudOnly
	Cert      alias    `key:"cert" need:"yes" doc:"what the scenario calls it"`
	Name      thing    `key:"name" need:"yes" doc:"its common name, which the rules make the thing's"`
	Rogue     bool     `key:"rogue" doc:"another authority signed it, of the same name"`
	NotBefore *seconds `key:"notBefore" doc:"seconds from the beginning; without it, long before"`
	NotAfter  *seconds `key:"notAfter" doc:"seconds from the beginning; without it, long after"`
}

func (e *fleetCert) run(p *play) ([]string, error) {
	if p.certs[e.Cert] != nil {
		return nil, fmt.Errorf("certificate %q exists already: use another name", e.Cert)
	}
	from, to := seconds(secondsMin), seconds(secondsMax)
	if e.NotBefore != nil {
		from = *e.NotBefore
	}
	if e.NotAfter != nil {
		to = *e.NotAfter
	}
	der, err := p.world.Fleet(string(e.Name), e.Rogue, world.Beginning.Add(from.duration()), world.Beginning.Add(to.duration()))
	p.certs[e.Cert] = der
	return nil, err
}

type registrationOf struct {
	Offline bool   `key:"offline" doc:"devices are admitted as pending while the cloud is away"`
	PerHour *count `key:"perHour" doc:"so many in any hour (default 10)"`
	Max     *count `key:"max" doc:"so many at once (default 100)"`
}

type count int

const countMax = 1000

func (c count) check() error {
	if c < 1 || c > countMax {
		return fmt.Errorf("%d, want 1 to %d", c, countMax)
	}
	return nil
}

func (e *registrationOf) run(p *play) ([]string, error) {
	o := actors.OfflineRegistration{Enabled: e.Offline, PerHour: 10, Max: 100}
	if e.PerHour != nil {
		o.PerHour = int(*e.PerHour)
	}
	if e.Max != nil {
		o.Max = int(*e.Max)
	}
	return nil, p.world.SetRegistration(o)
}

type registrar struct {
	cloudOnly
	Answer registrarAnswer `key:"answer" need:"yes" doc:"accepts: it is in the cloud then, and associated with the core; denies; fails: nothing can be said"`
}

type registrarAnswer string

var answers = map[registrarAnswer]world.Answer{"accepts": world.Accepts, "denies": world.Denies, "fails": world.Fails}

func (registrarAnswer) choices() []string {
	list := []string{}
	for name := range answers {
		list = append(list, string(name))
	}
	slices.Sort(list)
	return list
}

func (e *registrar) run(p *play) ([]string, error) {
	p.world.SetRegistrar(answers[e.Answer])
	return nil, nil
}

type arrive struct {
	Thing  thing   `key:"thing" need:"yes" doc:"the client id"`
	Cert   alias   `key:"cert" need:"yes" doc:"which certificate the client presents"`
	Expect arrival `key:"expect" need:"yes" doc:"ok; denied (InvalidCredential); pending (it is being registered, and is to come again); connect-denied (by the policy); service-error"`
	Stay   bool    `key:"stay" doc:"the client stays connected: its session is not closed at once"`
}

type arrival string

func (arrival) choices() []string {
	return []string{ok, denied, "pending", "connect-denied", serviceError}
}

func (e *arrive) run(p *play) ([]string, error) {
	der, err := p.cert(e.Cert)
	if err != nil {
		return nil, err
	}
	g, err := p.world.Authenticate(string(e.Thing), der)
	got := arrival(ok)
	switch refusal, refused := errors.AsType[*messages.Refusal](err); {
	case refused && refusal.Code == messages.RefusedInvalidCredential:
		got = denied
	case refused && refusal.Code == messages.RefusedPending:
		got = "pending"
	case refused && refusal.Code == messages.RefusedService:
		got = serviceError
	case err != nil:
		return nil, fmt.Errorf("%q arrives: %w", e.Thing, err)
	case !g.ConnectAuthorized:
		got = "connect-denied"
	case e.Stay:
		p.stayed[e.Thing] = append(p.stayed[e.Thing], g.Token)
	default:
		if err := p.world.CloseSession(g.Token); err != nil {
			return nil, err
		}
	}
	problems := differs(nil, fmt.Sprintf("%q arrives", e.Thing), got, e.Expect)
	if len(problems) > 0 && err != nil {
		problems[0] += ": " + err.Error()
	}
	return problems, nil
}

// pendingDiffer compares who is pending.
func (p *play) pendingDiffer(problems []string, want map[thing]alias) []string {
	got := map[thing]alias{}
	for name, id := range p.world.Pending() {
		got[thing(name)] = p.aliasOf(id)
	}
	if !maps.Equal(got, want) {
		problems = append(problems, fmt.Sprintf("pending: %s, want %s", pendingText(got), pendingText(want)))
	}
	return problems
}

func pendingText(things map[thing]alias) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(things)) {
		list = append(list, fmt.Sprintf("%s by %s", name, things[name]))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}
