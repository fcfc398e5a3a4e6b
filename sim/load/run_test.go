package load

import (
	"context"
	"testing"
	"time"
)

// play runs a mix over NATS.
func (r *rig) play(m *Mix) *Result {
	r.t.Helper()
	out, err := Run(r.t.Context(), Options{Mix: m, Fleet: r.fleet, Driver: r.nats(time.Duration(m.Timeout)), Operator: r})
	must(r.t, err)
	return out
}

// right fails unless every answer was right and every request is counted once. That the
// figures are valid is not for a busy machine to say.
func right(t *testing.T, out *Result) {
	t.Helper()
	if out.Wrong() > 0 || out.Partial {
		t.Errorf("%d wrong allows, %d wrong denies (%+v), invalid: %q, partial: %v", out.WrongAllows, out.WrongDenies, out.Examples, out.Invalid, out.Partial)
	}
	for _, o := range out.Operations {
		sum := int64(0)
		for _, n := range o.Outcomes {
			sum += n
		}
		if sum != o.Offered {
			t.Errorf("%s: %d were due, the outcomes are %v", o.Name, o.Offered, o.Outcomes)
		}
	}
}

func TestEverythingIsAskedAndRight(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 60, brokers: 3})
	m := mixOf(t, `
devices: 60
brokers: 3
revokedFor: 200ms
away: 100ms
denied: 20%
operations: {publish: 40, subscribe: 10, permissions: 10, verify: 5, churn: 10, connect: 5, disconnect: 5, stranger: 5, imposter: 5, revoke: 5}
load: [{for: 3s, rate: 300}]`)
	out := r.play(m)
	right(t, out)
	for op := range Op(Back) {
		o := out.operation(op)
		decided := o.Outcomes["allowed"] + o.Outcomes["denied"] + o.Outcomes["closed"]
		if decided == 0 || o.Latency.Count == 0 || o.Latency.P50Ms <= 0 {
			t.Errorf("%s: %+v", op, o)
		}
		if never := map[Op]string{Stranger: "allowed", Imposter: "allowed", Connect: "denied", Verify: "denied", Permissions: "denied"}[op]; o.Outcomes[never] > 0 {
			t.Errorf("%s: %v", op, o.Outcomes)
		}
	}
	if p := out.operation(Publish).Outcomes; p["denied"] == 0 || p["denied"] > p["allowed"] {
		t.Errorf("with 20 %% of what is not allowed: %v", p)
	}
	if out.Offered < 700 || out.Offered > 1400 {
		t.Errorf("%d requests in 3 s of 300 a second", out.Offered)
	}
	if out.Ended["CLOSE_BY_OPERATOR"] == 0 && out.Ended["CLOSE_QUARANTINED"] == 0 {
		t.Errorf("sessions ended: %v", out.Ended)
	}
	if len(out.Series) != 12 || out.Series[5].Connected == 0 || out.Series[5].Offered == 0 || out.Series[5].P99Ms["publish"] == 0 {
		t.Errorf("series of %d: %+v", len(out.Series), out.Series)
	}
}

func TestInterruptGivesPartialResult(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{devices: 20})
	m := mixOf(t, "{devices: 20, brokers: 1, load: [{for: 1h, rate: 200}]}")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := Run(ctx, Options{Mix: m, Fleet: r.fleet, Driver: r.nats(time.Second), Progress: func(p Progress) {
		if p.Stage == "measure" && p.Offered > 100 {
			cancel()
		}
	}})
	must(t, err)
	if !out.Partial || out.Offered < 100 || out.Seconds > 30 || out.Wrong() > 0 {
		t.Errorf("partial %v, %d offered in %.1f s, %d wrong", out.Partial, out.Offered, out.Seconds, out.Wrong())
	}
}
