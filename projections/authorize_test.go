package projections

import (
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestAuthorize(t *testing.T) {
	base := connected
	with := func(f func(h *history)) func() *history {
		return func() *history {
			h := connected()
			f(h)
			return h
		}
	}
	const topicA = "mqtt:topic:a"
	for _, c := range []struct {
		name      string
		given     func() *history
		broker    messages.BrokerID
		token     string
		operation string
		resource  string
		ms        int64
		want      string
	}{
		{"allowed", base, broker, "", "mqtt:publish", topicA, 5, "allowed"},
		{"denied by policy", base, broker, "", "mqtt:publish", "mqtt:topic:b", 5, "denied"},
		{"another broker's token", base, "b2", "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"no broker", base, "-", "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"unknown token", base, broker, "gh1_nobody", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"no magic: ALLOW_ALL (vectors/policy-eval)", base, broker, "ALLOW_ALL", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"no magic: empty", base, broker, "EMPTY", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"no magic: null", base, broker, "null", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"no magic: 0", base, broker, "0", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"the digest is not the token", base, broker, "DIGEST", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"services differ", base, broker, "", "mqtt:publish", "http:topic:a", 5, "Service"},
		{"malformed operation", base, broker, "", "publish", topicA, 5, "denied"},
		{"closed", with(func(h *history) { h.closed(pump, 1, 2) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"certificate refused", with(func(h *history) { h.refused(certA, 2) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"attachment withdrawn", with(func(h *history) { h.withdrawn(pump, certA, 2) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"quarantined", with(func(h *history) { h.add(messages.DeviceStream(pump), 2, &messages.DeviceQuarantined{}) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"forgotten", with(func(h *history) { h.add(messages.DeviceStream(pump), 2, &messages.DeviceForgotten{}) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"a millisecond before trust ends", base, broker, "", "mqtt:publish", topicA, duration - 1, "allowed"},
		{"exactly when trust ends", base, broker, "", "mqtt:publish", topicA, duration, "InvalidClientDeviceAuthToken"},
		{"certificate renewed, attachment lapsed", with(func(h *history) { h.verified(certA, 9) }), broker, "", "mqtt:publish", topicA, duration, "InvalidClientDeviceAuthToken"},
		{"attachment renewed, certificate lapsed", with(func(h *history) { h.attached(pump, certA, 9) }), broker, "", "mqtt:publish", topicA, duration, "InvalidClientDeviceAuthToken"},
		{"both renewed", with(func(h *history) { h.verified(certA, 9); h.attached(pump, certA, 9) }), broker, "", "mqtt:publish", topicA, duration, "allowed"},
		{"exactly at notAfter", with(func(h *history) { h.verified(certA, expiry-9); h.attached(pump, certA, expiry-9) }), broker, "", "mqtt:publish", topicA, expiry, "allowed"},
		{"a millisecond after notAfter", with(func(h *history) { h.verified(certA, expiry-9); h.attached(pump, certA, expiry-9) }), broker, "", "mqtt:publish", topicA, expiry + 1, "InvalidClientDeviceAuthToken"},
		{"revoked, parity", with(func(h *history) { parity(h); h.refused(certA, 2) }), broker, "", "mqtt:publish", topicA, 5, "allowed"},
		{"detached, parity", with(func(h *history) { parity(h); h.withdrawn(pump, certA, 2) }), broker, "", "mqtt:publish", topicA, 5, "allowed"},
		{"lapsed, parity", with(parity), broker, "", "mqtt:publish", topicA, 2 * duration, "allowed"},
		{"expired, parity", with(parity), broker, "", "mqtt:publish", topicA, expiry + 1, "InvalidClientDeviceAuthToken"},
		{"quarantined, parity", with(func(h *history) {
			parity(h)
			h.add(messages.DeviceStream(pump), 2, &messages.DeviceQuarantined{})
		}), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"detached in parity, which ends: not trusted", with(func(h *history) { parity(h); h.withdrawn(pump, certA, 2); h.config(`{}`, 3) }), broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"a new policy applies to the old token", with(func(h *history) { h.policy(allow("*", "z"), 2) }), broker, "", "mqtt:publish", topicA, 5, "denied"},
		{"no policy: everything is denied", func() *history {
			h := &history{}
			h.verified(certA, 0)
			h.attached(pump, certA, 0)
			h.opened(pump, certA, 1, 1)
			return h
		}, broker, "", "mqtt:publish", topicA, 5, "denied"},
		{"a session without attachment", func() *history {
			h := &history{}
			h.policy(allow("*", "a"), 0)
			h.verified(certA, 0)
			h.opened(pump, certA, 1, 1)
			return h
		}, broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
		{"a session without certificate", func() *history {
			h := &history{}
			h.policy(allow("*", "a"), 0)
			h.attached(pump, certA, 0)
			h.opened(pump, certA, 1, 1)
			return h
		}, broker, "", "mqtt:publish", topicA, 5, "InvalidClientDeviceAuthToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := []byte(c.token)
			switch c.token {
			case "":
				tok = token(1)
			case "EMPTY":
				tok = nil
			case "DIGEST":
				d := digest(1)
				tok = d[:]
			}
			h := c.given()
			got := folded(h).Authorize(c.broker, tok, []byte(c.operation), []byte(c.resource), minute(), t0+c.ms)
			if s := spellVerdict(got); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
			if got.AsOf != uint64(len(h.records)) {
				t.Errorf("as of %d, want %d", got.AsOf, len(h.records))
			}
		})
	}
}

func parity(h *history) { h.config(`{"sessions":{"closeOnRevoke":false}}`, 1) }

func spellVerdict(v Verdict) string {
	switch {
	case v.Err != nil && !v.Allowed:
		return v.Err.Code.String()
	case v.Err == nil && v.Allowed:
		return "allowed"
	case v.Err == nil:
		return "denied"
	default:
		return "allowed with an error"
	}
}

// TestVoidedTrust (reliability spec, T5): nothing from before counts until it is renewed.
func TestVoidedTrust(t *testing.T) {
	h := connected()
	h.add(messages.StreamClock, 10, &messages.TrustVoided{BeforeMs: t0 + 10})
	v := folded(h)
	ask := func() bool {
		trust := minute()
		trust.SinceMs = v.VoidedMs()
		return v.Authorize(broker, token(1), []byte("mqtt:publish"), []byte("mqtt:topic:a"), trust, t0+20).Allowed
	}
	if ask() {
		t.Error("allowed on voided trust")
	}
	n := len(h.records)
	h.verified(certA, 12)
	v.Apply(h.since(n))
	if ask() {
		t.Error("allowed on a voided attachment")
	}
	h.attached(pump, certA, 13)
	v.Apply(h.since(n))
	if !ask() {
		t.Error("denied although all was renewed")
	}
	h.add(messages.StreamClock, 14, &messages.TrustVoided{BeforeMs: t0 + 1})
	v.Apply(h.since(n))
	if !ask() || v.VoidedMs() != t0+10 {
		t.Errorf("voiding less changed something: void before %d", v.VoidedMs()-t0)
	}
}

// TestPolicyBeingReplaced: from the decision on only what both allow is allowed, from
// its durability on what the new one allows; if it is refused, the former stands.
func TestPolicyBeingReplaced(t *testing.T) {
	for _, durable := range []bool{true, false} {
		h := connected()
		h.policy(allow("*", "a", "b"), 2)
		v := folded(h)
		n := len(h.records)
		rec := h.policy(allow("*", "b", "c"), 3)
		e, err := messages.DecodeEvent(&rec)
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string, a, b, c, settled bool) {
			t.Helper()
			for topic, want := range map[string]bool{"a": a, "b": b, "c": c} {
				if got := publish(v, 1, topic, 5).Allowed; got != want {
					t.Errorf("%s: topic %s allowed: %v, want %v", when, topic, got, want)
				}
			}
			if _, _, ok := v.Settled(); ok != settled {
				t.Errorf("%s: settled: %v", when, ok)
			}
		}
		check("before", true, true, false, true)
		v.Restrict(rec.Stream, e, rec.At)
		check("decided", false, true, false, false)
		if durable {
			v.Apply(h.since(n))
			check("durable", false, true, true, true)
			if got := publish(v, 1, "b", 5).Revision; got != rec.Seq {
				t.Errorf("judged by revision %d, want %d", got, rec.Seq)
			}
		} else {
			v.Abandon(rec.Stream, e)
			check("refused", true, true, false, true)
		}
	}
}

func TestConnectAllowed(t *testing.T) {
	connect := func(rule string) string {
		return `{"definitions":{"g":{"selectionRule":"thingName: ` + rule + `","policyName":"p"}},
			"policies":{"p":{"s":{"operations":["mqtt:connect"],"resources":["mqtt:clientId:${iot:Connection.Thing.ThingName}"]}}}}`
	}
	h := &history{}
	h.policy(connect("pump-*"), 0)
	v := folded(h)
	for name, want := range map[messages.ThingName]bool{pump: true, valve: false} {
		if got, revision := v.ConnectAllowed(name); got != want || revision != v.Policy().Revision() {
			t.Errorf("%s may connect: %v under %q", name, got, revision)
		}
	}
	rec := h.policy(connect("valve-*"), 1)
	e, err := messages.DecodeEvent(&rec)
	if err != nil {
		t.Fatal(err)
	}
	v.Restrict(rec.Stream, e, rec.At)
	for _, name := range []messages.ThingName{pump, valve} {
		if got, _ := v.ConnectAllowed(name); got {
			t.Errorf("%s may connect while the policy is being replaced", name)
		}
	}
}

func TestTrustEnds(t *testing.T) {
	h := connected()
	h.attached(pump, certA, 5)
	v := folded(h)
	s, refusal := v.Lookup(broker, token(1))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if got := v.TrustEndsMs(s, minute()); got != t0+duration {
		t.Errorf("trust ends at %d, want with the certificate's, at %d", got-t0, duration)
	}
	if got := v.TrustEndsMs(s, messages.Trust{DurationMs: 100 * expiry}); got != t0+expiry {
		t.Errorf("trust ends at %d, want at notAfter, %d", got-t0, expiry)
	}
	if got := v.TrustEndsMs(s, messages.Trust{DurationMs: duration, SinceMs: t0 + 1}); got != 0 {
		t.Errorf("voided trust ends at %d, want 0", got)
	}
	n := len(h.records)
	h.refused(certA, 6)
	v.Apply(h.since(n))
	if got := v.TrustEndsMs(s, minute()); got != 0 {
		t.Errorf("trust taken back ends at %d, want 0", got)
	}
	if _, refusal := v.Lookup(broker, token(1)); refusal == nil {
		t.Error("found although it has ended")
	}
	if _, refusal := v.Lookup("b2", token(1)); refusal == nil {
		t.Error("found by another broker")
	}
}

// TestNoAllowAfterRestrict (reliability spec, S1): once Restrict has returned, no
// authorization allows, whoever asks at the same time; run with -race.
func TestNoAllowAfterRestrict(t *testing.T) {
	for round := range 50 {
		h := connected()
		v := folded(h)
		ends := []func(){
			func() {
				v.Restrict(messages.CertificateStream(certA), &messages.CertificateRefused{}, messages.Instant{})
			},
			func() {
				v.Restrict(messages.DeviceStream(pump), &messages.AttachmentWithdrawn{CertificateId: string(certA)}, messages.Instant{})
			},
			func() {
				v.Restrict(messages.DeviceStream(pump), &messages.DeviceQuarantined{Reason: "r"}, messages.Instant{})
			},
			func() { v.Quarantine(messages.CertificateStream(certA)) },
			func() { v.Quarantine(messages.DeviceStream(pump)) },
		}
		restricted := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					var after bool
					select {
					case <-restricted:
						after = true
					default:
					}
					allowed := publish(v, 1, "a", 5).Allowed
					if after {
						if allowed {
							t.Error("allowed after Restrict returned")
						}
						return
					}
				}
			})
		}
		wg.Go(func() { v.Due(minute(), t0+5, 1, 8) })
		ends[round%len(ends)]()
		close(restricted)
		wg.Wait()
	}
}

func TestAuthorizeMakesNoGarbage(t *testing.T) {
	v := folded(connected())
	op, a, b, tok, nobody := []byte("mqtt:publish"), []byte("mqtt:topic:a"), []byte("mqtt:topic:b"), token(1), []byte("nobody")
	trust := minute()
	for name, f := range map[string]func(){
		"allow":    func() { v.Authorize(broker, tok, op, a, trust, t0+5) },
		"deny":     func() { v.Authorize(broker, tok, op, b, trust, t0+5) },
		"stranger": func() { v.Authorize(broker, nobody, op, a, trust, t0+5) },
		"lapsed":   func() { v.Authorize(broker, tok, op, a, trust, t0+duration) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	v := folded(connected())
	op, a, tok, trust := []byte("mqtt:publish"), []byte("mqtt:topic:a"), token(1), minute()
	b.ReportAllocs()
	for b.Loop() {
		if !v.Authorize(broker, tok, op, a, trust, t0+5).Allowed {
			b.Fatal("denied")
		}
	}
}
