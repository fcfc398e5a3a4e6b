package scenario

import (
	"fmt"
	"net/http"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

type associate struct {
	cloudOnly
	Thing thing `key:"thing" need:"yes" doc:"which thing; it is registered if it is not there"`
}

func (e *associate) run(p *play) ([]string, error) {
	return nil, p.world.Associate(messages.ThingName(e.Thing), true)
}

type disassociate struct {
	cloudOnly
	Thing thing `key:"thing" need:"yes" doc:"which thing"`
}

func (e *disassociate) run(p *play) ([]string, error) {
	return nil, p.world.Associate(messages.ThingName(e.Thing), false)
}

type listError struct {
	cloudOnly
	Error listFailure `key:"error" need:"yes" doc:"the error; none ends it"`
}

type listFailure string

// listFailures are the errors of AWS's listing, as it answers them (cloud spec 1.5).
var listFailures = []struct {
	name   listFailure
	status int
	as     string
}{
	{"AccessDenied", http.StatusForbidden, "AccessDeniedException"},
	{"Throttling", http.StatusTooManyRequests, "ThrottlingException"},
	{"InternalServer", http.StatusInternalServerError, "InternalServerException"},
	{"Validation", http.StatusBadRequest, "ValidationException"},
	{"ResourceNotFound", http.StatusNotFound, "ResourceNotFoundException"},
}

func (listFailure) choices() []string {
	list := []string{"none"}
	for _, f := range listFailures {
		list = append(list, string(f.name))
	}
	return list
}

func (e *listError) run(p *play) ([]string, error) {
	p.listFault = nil
	for _, f := range listFailures {
		if f.name == e.Error {
			p.listFault = []fault.Fault{{Operation: awsemu.OpListClientDevices, Status: f.status, ErrorType: f.as}}
		}
	}
	return nil, p.misbehave()
}

type faultEvent struct {
	cloudOnly
	Faults faults `key:"faults" need:"yes" doc:"as in a script for gatehouse sim cloud fault --file, in place of all before; [] ends them"`
}

// faults is the value of "faults" in a script for the emulated cloud.
type faults []fault.Fault

func (e *faultEvent) check() error {
	for _, f := range e.Faults {
		if f.TLS == fault.TLSHang {
			return fmt.Errorf("tls: hang waits by the machine's clock: use blackhole")
		}
	}
	return nil
}

func (e *faultEvent) run(p *play) ([]string, error) {
	p.faults = e.Faults
	return nil, p.misbehave()
}

func (p *play) misbehave() error {
	return p.world.SetFaults(append(append([]fault.Fault{}, p.listFault...), p.faults...))
}

type refresh struct {
	Expect    refreshed `key:"expect" need:"yes" doc:"what became of the daily refresh since the last look at it, or since the beginning: ran, list-failed, skipped-not-due or skipped-offline; one under way is waited for"`
	NextDueAt *seconds  `key:"nextDueAt" doc:"when the next is due"`
	Renewed   *int      `key:"renewed" doc:"how many questions the cloud answered with yes"`
	Removed   *int      `key:"removed" doc:"how many things and certificates were removed"`
}

type refreshed string

func (refreshed) choices() []string {
	return []string{"ran", "list-failed", "skipped-not-due", "skipped-offline"}
}

func (e *refresh) run(p *play) ([]string, error) {
	if err := p.world.AwaitRefresh(); err != nil {
		return nil, err
	}
	r, err := p.world.Refresh(p.refreshSeen)
	if err != nil {
		return nil, err
	}
	p.refreshSeen = p.world.LogSeq()
	got, detail := refreshed("skipped-not-due"), ""
	switch {
	case r.Completed != nil:
		got = "ran"
	case r.Failed != nil:
		got, detail = "list-failed", ": "+r.Failed.Reason
	case p.at(r.DueMs) <= inSeconds(p.world.Machine.Since()):
		got = "skipped-offline"
	}
	problems := differs(nil, "refresh", got, e.Expect)
	if len(problems) > 0 {
		problems[0] += detail
	}
	if e.NextDueAt != nil {
		problems = differs(problems, "next refresh due", p.at(r.DueMs), *e.NextDueAt)
	}
	if c := r.Completed; c != nil && e.Renewed != nil {
		problems = differs(problems, "renewed", int(c.Renewed), *e.Renewed)
	}
	if c := r.Completed; c != nil && e.Removed != nil {
		problems = differs(problems, "removed", int(c.Removed), *e.Removed)
	}
	return problems, nil
}
