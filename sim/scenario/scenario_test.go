package scenario

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse reads a file of scenarios that is good.
func parse(t *testing.T, name string, doc []byte) *File {
	t.Helper()
	f, err := Parse(name, doc)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func run(t *testing.T, name string, f *File) Result {
	t.Helper()
	r, err := Run(t.Context(), name, f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFiles plays all that is kept here: the reference's vectors, and our own about
// clocks, listings and a cloud that fails.
func TestFiles(t *testing.T) {
	played := map[string]int{}
	for _, name := range files(t) {
		t.Run(name, func(t *testing.T) {
			r := run(t, name, parse(t, name, read(t, name)))
			for _, f := range r.Failures {
				t.Error(f)
			}
			played[name] = r.Passed
		})
	}
	if n := played["testdata/offline-trust.json"]; n != 45 {
		t.Errorf("%d of the reference's vectors hold, want all 45", n)
	}
}

// TestFailuresAreTold: whatever can be expected, the opposite fails, with its place.
func TestFailuresAreTold(t *testing.T) {
	begin := []string{
		"{do: cloudCert, cert: A, status: ACTIVE}", "{do: cloudAttach, thing: T, cert: A}",
		"{do: connect, at: 0, thing: T, cert: A, expectVerify: true, expect: ok, stay: true}",
	}
	for _, c := range []struct{ event, want string }{
		{"{do: verify, cert: A, expect: false}", "verify A: true, want false: the cloud vouches for the certificate"},
		{"{do: verify, cert: A, expect: true, source: local}", "verify A, source: cloud, want local"},
		{"{do: verify, cert: A, expect: true, source: component}", "verify A, source: cloud, want component"},
		{"{do: session, thing: T, cert: A, expect: denied}", `session of "T": ok, want denied`},
		{"{do: session, thing: U, cert: A, expect: ok}", `session of "U": denied, want ok: InvalidCredential: the certificate does not belong to the thing`},
		{"{do: session, thing: 'a b', cert: A, expect: denied}", `session of "a b": service-error, want denied`},
		{"{do: connect, thing: T, cert: B, expectVerify: false, expect: ok}", "connect: denied, want ok"},
		{"{do: authorize, thing: T, operation: 'mqtt:publish', resource: 'mqtt:topic:x', expect: allowed}", "mqtt:publish on mqtt:topic:x: denied, want allowed"},
		{"{do: authorize, thing: T, operation: 'mqtt:publish', resource: 'http:topic:x', expect: denied}", "service-error, want denied"},
		{"{do: sessions, live: {}}", "live sessions: map[T:1], want map[]"},
		{"{do: sessions, ended: {T: quarantined}}", `end of the session of "T": none, want quarantined`},
		{"{do: state, expect: {certs: {}}}", "certificate A: on record since 0 s, want none"},
		{"{do: state, expect: {certs: {A: {status: ACTIVE, lastUpdatedAt: 1}}}}", "certificate A, last updated: 0 s, want 1 s"},
		{"{do: state, expect: {certs: {A: {status: ACTIVE, lastUpdatedAt: 0}, Z: {status: ACTIVE, lastUpdatedAt: 0}}}}", "certificate Z: no event before this one names it"},
		{"{do: state, expect: {things: {}}}", "things: T {A at 0 s}, want none"},
		{"{do: state, expect: {things: {T: {A: 0}, U: {}}}}", "things: T {A at 0 s}, want T {A at 0 s}, U {}"},
		{"{do: state, expect: {pems: []}}", "certificates held: [A], want []"},
		{"{do: state, expect: {clock: uncertain}}", "clock: certain, want uncertain"},
		{"{do: log, expect: {SessionOpened: 2}}", "SessionOpened events: 1, want 2"},
		{"{do: arrive, thing: T, cert: A, expect: pending}", `"T" arrives: ok, want pending`},
		{"{do: arrive, thing: U, cert: B, expect: ok}", `"U" arrives: denied, want ok: InvalidCredential`},
		{"{do: state, expect: {pending: {T: A}}}", "pending: none, want T by A"},
		{"{do: refresh, at: 5, expect: ran}", "refresh: skipped-not-due, want ran"},
		{"{do: refresh, at: 5, expect: skipped-not-due, nextDueAt: 5}", "next refresh due: 86400 s, want 5 s"},
		{"{do: refresh, at: 86400, expect: list-failed}", "refresh: ran, want list-failed"},
		{"{do: refresh, at: 86400, expect: ran, removed: 0, renewed: 5}", "renewed: 0, want 5"},
		{"{do: authorize, thing: U, operation: a, resource: b, expect: denied}", `"U" never got a session that stayed`},
		{"{do: config, clientDeviceAuth: {security: []}}", "the configuration is refused"},
		{"{do: cloudDetach, thing: nobody, cert: A}", "not in the emulated registry"},
		{"{do: componentCert, cert: A}", `certificate "A" exists already`},
	} {
		f := parse(t, "f.yaml", []byte("scenarios:\n- {name: one, trustMinutes: 5000, events: [\n\n  "+strings.Join(append(begin, c.event), ",\n  ")+"]}"))
		r := run(t, "f.yaml", f)
		if r.Passed != 0 || r.Failed != 1 || len(r.Failures) == 0 {
			t.Errorf("%s: %+v", c.event, r)
			continue
		}
		got := r.Failures[0].String()
		if !strings.HasPrefix(got, "f.yaml:7: one: event 4 (") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.event, got, c.want)
		}
	}
}

// TestAScenarioEndsWhereItCannotGoOn: what follows would mean nothing.
func TestAScenarioEndsWhereItCannotGoOn(t *testing.T) {
	f := parse(t, "f", []byte(`scenarios: [
		{name: lost, events: [{do: cloudDetach, thing: a, cert: A}, {do: state, expect: {clock: uncertain}}]},
		{name: late, events: [{do: fault, faults: [{blackhole: true}]}, {do: connect, thing: a, cert: A, expectVerify: false, expect: denied}, {do: wait, at: 1}]},
		{name: good, events: []}]`))
	r := run(t, "f", f)
	if r.Passed != 1 || r.Failed != 2 || len(r.Failures) != 2 || !strings.Contains(r.Failures[0].Problem, "the scenario ends here") ||
		!strings.Contains(r.Failures[1].Problem, "it is 2 s already: what came before took longer") {
		t.Errorf("%+v", r)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := parse(t, "f", []byte(with("{do: wait, at: 1}")))
	if _, err := Run(ctx, "f", f); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestYearsPassInFewSteps: while nothing is live nothing has to be looked at by the
// second, and a scenario may not take more steps than it can play.
func TestYearsPassInFewSteps(t *testing.T) {
	f := parse(t, "f", []byte(with("{do: network, up: false}", "{do: wait, at: 1e9}")))
	if r := run(t, "f", f); r.Passed != 1 {
		t.Errorf("%+v", r)
	}
}
