package projections

import (
	"slices"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestBrokerRights: what operators said of brokers, whatever is taken back acting before it
// is durable, and never giving anything.
func TestBrokerRights(t *testing.T) {
	v := New(nil)
	var h history
	say := func(e messages.Event) { v.Apply([]messages.Record{h.add(messages.StreamBrokers, 0, e)}) }
	check := func(what string, broker messages.BrokerID, said, removed bool, certificates ...string) {
		t.Helper()
		got, ok := v.BrokerRights(broker)
		if ok != said || got.Removed != removed || !slices.Equal(got.Certificates, certificates) {
			t.Errorf("%s: %+v, %t", what, got, ok)
		}
	}
	check("nobody said anything", "a", false, false)
	say(&messages.BrokerPermitted{Broker: "a", Certificates: []string{"SERVER", "CLIENT"}})
	check("permitted", "a", true, false, "SERVER", "CLIENT")
	check("somebody else", "b", false, false)
	v.Restrict(messages.StreamBrokers, &messages.BrokerRestricted{Broker: "a", Certificates: []string{"SERVER"}}, messages.Instant{})
	check("restricted before it is durable", "a", true, false, "SERVER")
	say(&messages.BrokerRestricted{Broker: "b", Certificates: []string{"SERVER", "CLIENT"}})
	check("what restricts gives nothing", "b", true, false, "SERVER")
	say(&messages.BrokerRestricted{Broker: "a", Removed: true})
	check("removed", "a", true, true)
	say(&messages.BrokerRestricted{Broker: "a", Certificates: []string{"SERVER"}})
	check("still removed", "a", true, true)
	say(&messages.BrokerPermitted{Broker: "a", Certificates: []string{"SERVER"}})
	check("let in again", "a", true, false, "SERVER")

	component := func(want bool) {
		t.Helper()
		if r, _ := v.BrokerRights("a"); r.NoComponent == want {
			t.Errorf("a component: %t, want %t", !r.NoComponent, want)
		}
	}
	component(false) // CLIENT was taken back above, and never given again
	say(&messages.BrokerPermitted{Broker: "a", Certificates: []string{"SERVER", "CLIENT"}})
	component(true)
	say(&messages.BrokerRestricted{Broker: "a", Certificates: []string{"SERVER"}})
	component(false)

	again := New(nil)
	again.Apply(h.records)
	if got, _ := again.BrokerRights("a"); got.Removed || len(got.Certificates) != 1 {
		t.Errorf("after a restart: %+v", got)
	}
	bad := h.add(messages.StreamBrokers, 0, &messages.BrokerPermitted{Broker: "a"})
	bad.Body = []byte{0xff}
	v.Apply([]messages.Record{bad})
	check("a record that cannot be read", "a", true, false)
	check("and anybody else", "z", true, false)
	if n := testing.AllocsPerRun(100, func() { v.BrokerRights("a") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
