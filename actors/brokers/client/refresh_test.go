package client

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestFloorFollowsThePushThatRevealsAGap: a push that says which policy is in force
// counts, whatever was missed before it.
func TestFloorFollowsThePushThatRevealsAGap(t *testing.T) {
	for name, c := range map[string]struct {
		stamp authapi.Stamp
		want  uint64
	}{
		"the next push":              {authapi.Stamp{Epoch: "a", Seq: 2}, 9},
		"a push was missed":          {authapi.Stamp{Epoch: "a", Seq: 3}, 7},
		"a new run, an older policy": {authapi.Stamp{Epoch: "b", Seq: 1}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Config{Broker: "x"}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			client := &Client{cfg: cfg, ready: make(chan struct{}), sessions: newSessions()}
			defer client.abandon()
			for _, p := range []authapi.PolicyChanged{
				{Stamp: authapi.Stamp{Epoch: "a", Seq: 1}, PolicyRevision: 9},
				{Stamp: c.stamp, PolicyRevision: 7},
			} {
				body, err := authapi.Encode(p)
				if err != nil {
					t.Fatal(err)
				}
				client.pushed(&nats.Msg{Subject: authapi.PushSubject("x", authapi.PushPolicyChanged), Data: body})
			}
			if client.floor != c.want {
				t.Errorf("floor %d, want %d", client.floor, c.want)
			}
		})
	}
}
