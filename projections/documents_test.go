package projections

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestDocuments: what is in force, since which record, and what was refused last.
func TestDocuments(t *testing.T) {
	h := &history{}
	first := h.config(`{}`, 1)
	p := h.policy(allow("pump-*", "a"), 2)
	bad := h.add(messages.StreamPolicy, 3, &messages.ConfigRejected{Section: "deviceGroups", Revision: "x", Origin: "p.yaml", Errors: []string{"p.yaml:1:2: no"}})
	v := folded(h)
	if d := v.Document(messages.StreamConfig); d.Seq != first.Seq || d.Rejected != nil {
		t.Errorf("configuration: %+v", d)
	}
	d := v.Document(messages.StreamPolicy)
	if d.Seq != p.Seq || d.Revision != v.Policy().Revision() || d.At != p.At || d.Rejected == nil || d.Rejected.Seq != bad.Seq || d.Rejected.Errors[0] != "p.yaml:1:2: no" {
		t.Errorf("policy: %+v, rejected %+v", d, d.Rejected)
	}
	d.Rejected.Errors[0] = "changed"
	if v.Document(messages.StreamPolicy).Rejected.Errors[0] == "changed" {
		t.Error("what is handed out can be changed from outside")
	}
	// A good one ends the matter.
	next := h.policy(allow("pump-*", "b"), 4)
	v.Apply(h.since(3))
	if d := v.Document(messages.StreamPolicy); d.Seq != next.Seq || d.Rejected != nil {
		t.Errorf("policy after a good one: %+v", d)
	}
	// Before any is in force there can be a refusal.
	empty := &history{}
	empty.add(messages.StreamConfig, 1, &messages.ConfigRejected{Errors: []string{"no"}})
	if d := folded(empty).Document(messages.StreamConfig); d.Seq != 0 || d.Rejected == nil {
		t.Errorf("refused at once: %+v", d)
	}
}
