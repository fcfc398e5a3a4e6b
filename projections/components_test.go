package projections

import (
	"fmt"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func (h *history) openedComponent(n int, ms, endsMs int64) messages.Record {
	d := digest(n)
	return h.add(messages.ComponentStream("aws.Bridge"), ms, &messages.SessionOpened{
		Session: d[:], CertificateId: string(certA), Broker: string(broker), NotAfterMs: t0 + endsMs,
	})
}

// TestComponentMayDoEverything: client-device-auth spec 3.3, until its certificate ends.
func TestComponentMayDoEverything(t *testing.T) {
	h := &history{} // no policy at all
	h.openedComponent(1, 0, expiry)
	v := folded(h)
	ask := func(by messages.BrokerID, operation, resource string, trust messages.Trust, ms int64) string {
		got := v.Authorize(by, token(1), []byte(operation), []byte(resource), trust, t0+ms)
		if got.Err != nil {
			return got.Err.Code.String()
		}
		return fmt.Sprint(got.Allowed)
	}
	void := messages.Trust{DurationMs: duration, SinceMs: t0 + 1}
	doubt := messages.Trust{DurationMs: duration, Doubted: true}
	for _, c := range []struct {
		name                string
		by                  messages.BrokerID
		operation, resource string
		trust               messages.Trust
		ms                  int64
		want                string
	}{
		{"publish", broker, "mqtt:publish", "mqtt:topic:a", minute(), 5, "true"},
		{"malformed", broker, "", "\x00", minute(), 5, "true"},
		{"services differ", broker, "mqtt:publish", "http:topic:a", minute(), 5, "true"},
		{"past the trust duration, which is not its", broker, "mqtt:publish", "mqtt:topic:a", minute(), 2 * duration, "true"},
		{"exactly at notAfter", broker, "mqtt:publish", "mqtt:topic:a", minute(), expiry, "true"},
		{"a millisecond after", broker, "mqtt:publish", "mqtt:topic:a", minute(), expiry + 1, "InvalidClientDeviceAuthToken"},
		{"another broker", "b2", "mqtt:publish", "mqtt:topic:a", minute(), 5, "InvalidClientDeviceAuthToken"},
		{"from before trust was voided", broker, "mqtt:publish", "mqtt:topic:a", void, 5, "InvalidClientDeviceAuthToken"},
		{"in doubt about the time", broker, "mqtt:publish", "mqtt:topic:a", doubt, 5, "InvalidClientDeviceAuthToken"},
		{"opened by a clock that was ahead", broker, "mqtt:publish", "mqtt:topic:a", minute(), -120_000, "InvalidClientDeviceAuthToken"},
	} {
		if got := ask(c.by, c.operation, c.resource, c.trust, c.ms); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if s, _ := v.Lookup(broker, token(1)); s == nil || s.Component != "aws.Bridge" || s.Thing != "" || v.TrustEndsMs(s, minute()) != t0+expiry {
		t.Errorf("session %+v", s)
	}
	if got := len(v.SessionsOf(broker)); got != 1 {
		t.Errorf("%d sessions of the broker, want 1", got)
	}
	if len(v.Things()) != 0 || v.Counts().Certificates != 0 || v.CertificateTrust(certA).Verified {
		t.Errorf("a component leaves traces among the devices: %v", v)
	}
	if v.table.find(digest(1)).Dead() {
		t.Error("it is dead")
	}
}

func TestComponentSessionsEnd(t *testing.T) {
	h := &history{}
	h.openedComponent(1, 0, expiry)
	h.openedComponent(4, 0, expiry) // one order ends both
	h.openedComponent(2, 1, 2*expiry)
	v := New(nil)
	v.Apply(h.records)
	var ended []string
	v.Live(Hooks{Closed: func(s *Session, why messages.CloseReason, _ string) {
		ended = append(ended, fmt.Sprintf("%s %s", s.Component, why))
	}})
	if due := v.Due(minute(), t0+expiry, duration, 10); len(due.Lapsed) != 0 {
		t.Errorf("due at notAfter: %+v", due)
	}
	due := v.Due(minute(), t0+expiry+1, duration, 10)
	if len(due.Lapsed) != 1 || due.Lapsed[0].Target() != messages.ComponentStream("aws.Bridge") || due.Lapsed[0].Certificate != certA ||
		due.Lapsed[0].Reason != messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED || len(due.Certificates)+len(due.Attachments) != 0 {
		t.Errorf("due after notAfter: %+v", due)
	}
	for _, again := range []struct {
		ms   int64
		want int
	}{{tellAgainMs, 0}, {tellAgainMs + 1, 1}, {tellAgainMs / 2, 1}} { // the last by a clock that was set back
		if due := v.Due(minute(), t0+expiry+again.ms, duration, 10); len(due.Lapsed) != again.want {
			t.Errorf("%d ms later: %+v, want %d", again.ms, due, again.want)
		}
	}
	for _, n := range []int{1, 4} {
		d := digest(n)
		v.Restrict(messages.ComponentStream("aws.Bridge"), &messages.SessionClosed{Session: d[:], Reason: messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED}, messages.Instant{})
	}
	v.Quarantine(messages.ComponentStream("aws.Bridge"))
	if got := fmt.Sprint(ended); got != "[aws.Bridge CLOSE_CERTIFICATE_EXPIRED aws.Bridge CLOSE_CERTIFICATE_EXPIRED aws.Bridge CLOSE_QUARANTINED]" || len(v.SessionsOf(broker)) != 0 || v.Counts().Sessions != 0 {
		t.Errorf("ended %s, left %v", got, v.SessionsOf(broker))
	}
	n := len(h.records)
	h.openedComponent(3, 9, expiry)
	if v.Apply(h.since(n)); v.Counts().Sessions != 0 {
		t.Error("a quarantined component has a session")
	}
}

// TestTheLeastRecentlyUsedComponentGoes: components count towards maxActiveAuthTokens.
func TestTheLeastRecentlyUsedComponentGoes(t *testing.T) {
	h := &history{}
	h.config(`{"performance":{"maxActiveAuthTokens":1}}`, 0)
	v := New(nil)
	v.Apply(h.records)
	var evicted []messages.ComponentName
	v.Live(Hooks{Evict: func(s *Session) { evicted = append(evicted, s.Component) }})
	n := len(h.records)
	h.openedComponent(1, 1, expiry)
	h.openedComponent(2, 2, expiry)
	v.Apply(h.since(n))
	if len(evicted) != 1 || v.table.find(digest(1)) != nil || v.table.find(digest(2)) == nil {
		t.Errorf("evicted %v", evicted)
	}
}

// TestComponentIsWithdrawn: from the decision on, before it is durable, no certificate that
// was issued so far counts, nor a session that was opened by one, whenever it is folded; one
// that is issued later does. Both ways to take the right, by the order of the log alone.
func TestComponentIsWithdrawn(t *testing.T) {
	const name = "aws.Bridge"
	certB := messages.CertificateIDOf([]byte("later"))
	issued := func(h *history) {
		h.add(messages.StreamCA, 0, &messages.CertificateIssued{Subscriber: name, Der: []byte("later")})
	}
	for what, take := range map[string]struct {
		stream messages.StreamID
		event  messages.Event
	}{
		"revoked":             {messages.StreamCA, &messages.ComponentWithdrawn{Component: name}},
		"the right was taken": {messages.StreamBrokers, &messages.BrokerRestricted{Broker: name, Certificates: []string{"SERVER"}}},
		"it was removed":      {messages.StreamBrokers, &messages.BrokerRestricted{Broker: name, Removed: true}},
	} {
		h := &history{}
		h.add(messages.StreamBrokers, 0, &messages.BrokerPermitted{Broker: name, Certificates: []string{"SERVER", "CLIENT"}})
		h.openedComponent(1, 0, expiry)
		v := New(nil)
		v.Apply(h.records)
		closed := 0
		v.Live(Hooks{Closed: func(*Session, messages.CloseReason, string) { closed++ }})
		allowed := func(v *Views, n int) bool {
			return v.Authorize(broker, token(n), []byte("mqtt:publish"), []byte("mqtt:topic:a"), minute(), t0+5).Allowed
		}
		if v.NoComponent(name, certA) || !allowed(v, 1) {
			t.Fatalf("%s: it is none before", what)
		}
		v.Restrict(take.stream, take.event, messages.Instant{})
		if !v.NoComponent(name, certA) || allowed(v, 1) || closed != 1 || v.ComponentSessions(name) != 0 {
			t.Errorf("%s: it is one after the decision, %d sessions closed", what, closed)
		}
		n := len(h.records)
		h.openedComponent(2, 0, expiry) // decided before that
		v.Apply(h.since(n))
		if allowed(v, 2) || v.Counts().Sessions != 0 {
			t.Errorf("%s: a session is open that was on its way to the log", what)
		}
		n = len(h.records)
		h.add(take.stream, 0, take.event)
		h.openedComponent(3, 0, expiry) // a log can say so, if nobody may
		v.Apply(h.since(n))
		restarted := New(nil)
		restarted.Apply(h.records)
		for which, v := range map[string]*Views{"live": v, "after a restart": restarted} {
			if !v.NoComponent(name, certA) || allowed(v, 1) || allowed(v, 2) || allowed(v, 3) {
				t.Errorf("%s, %s: it is one", what, which)
			}
			if v.NoComponent("another", certA) {
				t.Errorf("%s, %s: another is none", what, which)
			}
		}
		n = len(h.records)
		h.add(messages.StreamBrokers, 0, &messages.BrokerPermitted{Broker: name, Certificates: []string{"CLIENT"}})
		issued(h)
		v.Apply(h.since(n))
		if v.NoComponent(name, certB) {
			t.Errorf("%s: what was issued later counts for nothing", what)
		}
		if !v.NoComponent(name, certA) { // or whoever stole its key would be let in again
			t.Errorf("%s: what was issued before counts again", what)
		}
		v.Restrict(messages.StreamCA, &messages.ComponentWithdrawn{Component: name}, messages.Instant{})
		if !v.NoComponent(name, certB) {
			t.Errorf("%s: not taken back again", what)
		}
	}
}

// TestNoComponentOnDoubt: whose right was taken back is not known where that cannot be read.
func TestNoComponentOnDoubt(t *testing.T) {
	for _, e := range []messages.Event{&messages.ComponentWithdrawn{Component: "x"}, &messages.CertificateIssued{}, &messages.BrokerRestricted{Broker: "x"}} {
		stream := messages.StreamCA
		if e.Kind() == messages.KindBrokerRestricted {
			stream = messages.StreamBrokers
		}
		h := &history{}
		h.openedComponent(1, 0, expiry)
		v := folded(h)
		if v.NoComponent("aws.Bridge", certA) || v.ComponentSessions("aws.Bridge") != 1 {
			t.Fatal("it is none before")
		}
		bad := h.add(stream, 0, e)
		bad.Body = []byte{0xff}
		v.Apply([]messages.Record{bad})
		if !v.NoComponent("aws.Bridge", certA) || v.Counts().Sessions != 0 {
			t.Errorf("%s cannot be read: it is one", e.Kind())
		}
	}
}
