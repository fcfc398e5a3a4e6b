package projections

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// drawAnything adds one event of those that drawEvent leaves out, or one that it makes.
func drawAnything(t *rapid.T, h *history, ms int64) {
	thing := rapid.SampledFrom([]messages.ThingName{pump, valve}).Draw(t, "thing")
	component := rapid.SampledFrom([]messages.ComponentName{"collector", "b1"}).Draw(t, "component")
	switch rapid.IntRange(0, 24).Draw(t, "kind") {
	case 0:
		h.add(messages.StreamSync, ms, &messages.AssociationChanged{Thing: string(thing), Associated: rapid.Bool().Draw(t, "associated")})
	case 1:
		h.add(messages.StreamBrokers, ms, &messages.BrokerPermitted{Broker: string(component), Certificates: []string{"SERVER", "CLIENT"}})
	case 2:
		h.add(messages.StreamBrokers, ms, &messages.BrokerRestricted{Broker: string(component), Certificates: []string{"SERVER"}, Removed: rapid.Bool().Draw(t, "removed")})
	case 3:
		h.add(messages.StreamCA, ms, &messages.ComponentWithdrawn{Component: string(component)})
	case 4:
		h.add(messages.StreamCA, ms, &messages.CertificateIssued{Subscriber: string(component), Der: []byte{byte(rapid.IntRange(0, 2).Draw(t, "der"))}})
	case 5, 6:
		d := digest(len(h.records) + 100)
		id := messages.CertificateIDOf([]byte{byte(rapid.IntRange(0, 2).Draw(t, "der"))})
		h.add(messages.ComponentStream(component), ms, &messages.SessionOpened{Session: d[:], CertificateId: string(id), Broker: string(broker), NotAfterMs: t0 + ms + duration})
	case 7:
		h.add(messages.StreamSync, ms, rapid.SampledFrom([]messages.Event{
			&messages.RefreshPlanned{DueMs: t0 + ms, Reason: "r"}, &messages.RefreshStarted{},
			&messages.RefreshCompleted{NextDueMs: t0 + ms, Listed: 3, Renewed: 2}, &messages.RefreshFailed{NextDueMs: t0 + ms, Reason: "f"},
		}).Draw(t, "refresh"))
	case 8:
		h.add(messages.DeviceStream(thing), ms, &messages.AccessDenied{Operation: "mqtt:publish", Resource: fmt.Sprint("mqtt:topic:", ms)})
	case 9:
		d := digest(rapid.IntRange(100, 100+len(h.records)).Draw(t, "session"))
		h.add(messages.DeviceStream(thing), ms, &messages.SessionClosed{Session: d[:], Reason: messages.CloseReason_CLOSE_EVICTED, Detail: "d"})
	case 10:
		h.add(messages.StreamConfig, ms, &messages.ConfigRejected{Revision: "x", Origin: "o", Errors: []string{"e"}})
	case 11:
		h.config(rapid.SampledFrom([]string{
			`{"security":{"clientDeviceTrustDurationMinutes":"7"},"deviceGroups":` + allow("valve-*", "b") + `}`, `{"performance":{"maxActiveAuthTokens":3000}}`,
		}).Draw(t, "section"), ms)
	case 12:
		r := h.add(rapid.SampledFrom([]messages.StreamID{
			messages.DeviceStream(thing), messages.CertificateStream(certB), messages.StreamBrokers, messages.StreamClock, "other/stream",
		}).Draw(t, "stream"), ms, &messages.AccessDenied{})
		if rapid.IntRange(0, 3).Draw(t, "unreadable") == 0 {
			h.records[r.Seq-1].Kind, h.records[r.Seq-1].Body = messages.KindSessionClosed, []byte{0xff, 0xff}
		}
	default:
		drawEvent(t, h, ms)
	}
}

func drawLongHistory(t *rapid.T) *history {
	h := connected()
	ms := int64(2)
	for range rapid.IntRange(0, 80).Draw(t, "events") {
		ms += rapid.Int64Range(0, duration/4).Draw(t, "later")
		drawAnything(t, h, ms)
	}
	return h
}

func encode(t interface{ Fatal(...any) }, v *Views) []byte {
	c, err := v.Capture()
	if err != nil {
		t.Fatal(err)
	}
	if c.Seq != v.Seq() {
		t.Fatal("captured record ", c.Seq, ", folded ", v.Seq())
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// more spells what export leaves out.
func more(v *Views) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	text := fmt.Sprintln(v.documents, v.refresh.DueMs, v.refresh.Why, v.refresh.GoodMs, v.withdrawn, v.poisoned, v.configured.Load(), v.clockSetBack.Load())
	if v.refresh.Last != nil {
		text += fmt.Sprintln("last", *v.refresh.Last)
	}
	if v.refresh.Began != nil {
		text += fmt.Sprintln("began", *v.refresh.Began)
	}
	if all := v.brokers.Load(); all != nil {
		text += fmt.Sprintln(*all)
	}
	for _, d := range v.denied.records {
		text += fmt.Sprintln(d.Seq, d.At, d.Event)
	}
	for _, d := range v.denied.closed {
		text += fmt.Sprintln(d.Seq, d.At, d.Thing, d.Event)
	}
	for _, e := range v.table.order {
		text += fmt.Sprintln(e.of.Digest.Short(), e.of.OpenedSeq, e.of.Component, e.of.Broker, e.of.endsMs, e.of.OpenedMs)
	}
	return text
}

// TestSnapshotAndRestIsTheWholeLog (reliability spec, D2): read models made of a snapshot
// and of the records behind it are those that the whole log makes, to the byte, and so are
// those that were live, restricted early, at any moment at which nothing is ahead.
func TestSnapshotAndRestIsTheWholeLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawLongHistory(t)
		at := rapid.IntRange(0, len(h.records)).Draw(t, "snapshot after")
		live := New(nil)
		live.Live(Hooks{})
		for i := range h.records[:at] {
			rec := &h.records[i]
			e, err := messages.DecodeEvent(rec)
			early := rec.Kind.Class() == messages.Restricts || rec.Kind == messages.KindPolicyReplaced || rec.Kind == messages.KindClockReanchored
			if early && err == nil && rapid.Bool().Draw(t, "early") {
				live.Restrict(rec.Stream, e, rec.At)
				if _, err := live.Capture(); !errors.Is(err, ErrUnsettled) {
					t.Fatalf("captured what the log does not say: %v", err)
				}
			}
			live.Apply(h.records[i : i+1])
		}
		whole := New(nil)
		whole.Apply(h.records[:at])
		snapshot := encode(t, whole)
		if got := encode(t, live); !bytes.Equal(got, snapshot) {
			t.Fatalf("live:\n%s%s\nfolded:\n%s%s", export(live), more(live), export(whole), more(whole))
		}
		v, err := Restore(snapshot, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(t, v); !bytes.Equal(got, snapshot) {
			t.Fatalf("restored:\n%s%s\nfolded:\n%s%s", export(v), more(v), export(whole), more(whole))
		}
		v.Apply(h.records[at:])
		whole.Apply(h.records[at:])
		if got, want := encode(t, v), encode(t, whole); !bytes.Equal(got, want) {
			t.Fatalf("snapshot and rest:\n%s%s\nwhole:\n%s%s", export(v), more(v), export(whole), more(whole))
		}
		if got, want := export(v), export(whole); got != want {
			t.Fatalf("snapshot and rest:\n%s\nwhole:\n%s", got, want)
		}
		v.Live(Hooks{})
		consistent(t, v)
	})
}

// TestNoSnapshotOfWhatTheLogDoesNotSay: what was taken away early counts as soon as the
// log has it; what the log will never have, and evictions on their way, forbid one.
func TestNoSnapshotOfWhatTheLogDoesNotSay(t *testing.T) {
	captures := func(t *testing.T, v *Views, want bool) {
		t.Helper()
		if _, err := v.Capture(); (err == nil) != want || err != nil && !errors.Is(err, ErrUnsettled) {
			t.Errorf("capture: %v, want one: %v", err, want)
		}
	}
	stream := messages.DeviceStream(pump)
	t.Run("abandoned restriction", func(t *testing.T) {
		v := folded(connected())
		e := &messages.AttachmentWithdrawn{CertificateId: string(certA)}
		v.Restrict(stream, e, messages.Instant{TrustMs: t0})
		v.Abandon(stream, e)
		captures(t, v, false)
	})
	t.Run("abandoned policy", func(t *testing.T) {
		h := connected()
		v := folded(h)
		h.policy(allow("*", "b"), 5)
		e, err := messages.DecodeEvent(&h.records[len(h.records)-1])
		if err != nil {
			t.Fatal(err)
		}
		v.Restrict(messages.StreamPolicy, e, messages.Instant{TrustMs: t0})
		captures(t, v, false)
		v.Abandon(messages.StreamPolicy, e)
		captures(t, v, true)
	})
	t.Run("abandoned grant", func(t *testing.T) {
		v := folded(connected())
		v.Abandon(stream, &messages.AttachmentWithdrawn{CertificateId: string(certA)}) // of a batch that grants: it was not told of
		captures(t, v, true)
	})
	t.Run("quarantine in memory", func(t *testing.T) {
		v := folded(connected())
		v.Quarantine(stream)
		captures(t, v, false)
	})
	t.Run("eviction", func(t *testing.T) {
		h := connected()
		h.config(`{"performance":{"maxActiveAuthTokens":2500}}`, 1)
		for n := range 2500 {
			h.opened(pump, certA, 1000+n, 2)
		}
		v := folded(h) // evicts session 1
		captures(t, v, false)
		n := len(h.records)
		h.closed(pump, 1, 3)
		v.Apply(h.since(n))
		captures(t, v, true)
	})
}

// TestSpoiltSnapshotIsRefused: whatever is wrong with it, it is not used, and nothing of
// it is believed.
func TestSpoiltSnapshotIsRefused(t *testing.T) {
	h := connected()
	h.verified(certB, 1)
	h.attached(valve, certB, 1)
	h.opened(valve, certB, 2, 1)
	h.withdrawn(valve, certB, 2)
	h.pending("new-1", certB, 3)
	h.pendingOpened("new-1", certB, 4, 3)
	good := encode(t, folded(h))
	if _, err := Restore(good, nil); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := Restore(good[:n], nil); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
	if _, err := Restore(append(bytes.Clone(good), 0), nil); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a byte more: %v", err)
	}
	other := bytes.Clone(good)
	other[3]++
	if _, err := Restore(other, nil); !errors.Is(err, ErrSnapshot) {
		t.Errorf("of other kinds: %v", err)
	}
}

func FuzzRestore(f *testing.F) {
	h := connected()
	h.pending("new-1", certB, 3)
	h.pendingOpened("new-1", certB, 4, 3)
	kinds := messages.KindsDigest()
	f.Add(encode(f, folded(h))[len(kinds):])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Restore(append(kinds[:], b...), nil)
		if err != nil {
			return
		}
		again, err := Restore(encode(t, v), nil)
		if err != nil || export(again) != export(v) {
			t.Errorf("restored and captured it is another: %v", err)
		}
	})
}
