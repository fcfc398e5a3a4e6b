package projections

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Read implements StreamReader.
func (h *history) Read(_ context.Context, stream messages.StreamID, from uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		for _, r := range h.records {
			if r.Stream == stream && r.Version >= from && !yield(r, nil) {
				return
			}
		}
	}
}

// certify adds an order, and the certificate and its delivery as far as steps says.
func (h *history) certify(serial, subscriber, usage, reason, authority string, steps int, names ...string) {
	at := int64(len(h.records)) * 1000
	h.add(messages.StreamCA, at, &messages.CertificateOrdered{
		Serial: serial, Subscriber: subscriber, Usage: usage, Reason: reason, AuthorityId: authority, Names: names,
		NotBeforeMs: t0 + at, NotAfterMs: t0 + at + 1_000_000,
	})
	if steps > 0 {
		h.add(messages.StreamCA, at, &messages.CertificateIssued{Serial: serial, Subscriber: subscriber, AuthorityId: authority})
	}
	if steps > 1 {
		h.add(messages.StreamCA, at, &messages.CertificateDelivered{Serial: serial, Subscriber: subscriber})
	}
}

func serial(digit string) string { return "00" + strings.Repeat(digit, 38) }

// aLife is an authority's stream in which everything happens once.
func aLife() *history {
	h := &history{}
	one, two := string(messages.CertificateIDOf([]byte("one"))), string(messages.CertificateIDOf([]byte("two")))
	h.add(messages.StreamCA, 0, &messages.AuthorityCreated{Der: []byte("one"), Reason: "first"})                               // 1
	h.certify(serial("1"), "mqtt", "SERVER", "first", one, 2, "a.example")                                                     // 2 3 4
	h.certify(serial("2"), "mqtt", "CLIENT", "first", one, 2)                                                                  // 5 6 7
	h.certify(serial("3"), "mqtt", "SERVER", "rotation", one, 2, "a.example")                                                  // 8 9 10
	h.add(messages.StreamCA, 0, &messages.HostAddressesChanged{Source: "file", Addresses: []string{"b.example", "192.0.2.1"}}) // 11
	h.certify(serial("4"), "mqtt", "SERVER", "addresses changed", one, 2, "b.example", "192.0.2.1")                            // 12 13 14
	h.add(messages.StreamCA, 0, &messages.AuthorityCreated{Der: []byte("two"), Reason: "operator: the key leaked"})            // 15
	h.add(messages.StreamCA, 0, &messages.AuthorityAnnounced{AuthorityId: two, By: "ops"})                                     // 16
	h.certify(serial("5"), "mqtt", "SERVER", "authority changed", two, 0, "b.example", "192.0.2.1")                            // 17: a crash
	h.certify(serial("6"), "mqtt", "SERVER", "authority changed", two, 2, "b.example", "192.0.2.1")                            // 18 19 20
	h.certify(serial("7"), "mqtt", "SERVER", "operator: drill", two, 1, "b.example", "192.0.2.1")                              // 21 22
	h.certify(serial("8"), "other", "", "first", two, 2, "b.example")                                                          // 23 24 25
	return h
}

// TestExplainCertificate: each reason, with the records it rests on.
func TestExplainCertificate(t *testing.T) {
	h := aLife()
	for _, c := range []struct {
		which, answer, asked string
		events               []uint64
	}{
		{serial("1"), "the first on record", "the subscriber", []uint64{1, 2, 3, 4, 9}},
		{strings.Repeat("2", 10), "the first on record", "the subscriber", []uint64{1, 5, 6, 7}},
		{"33:33:33:33", "the former one was to end at 2023-11-14 22:30:01Z", "the plan", []uint64{1, 3, 8, 9, 10, 13}},
		{serial("4")[:12], "added b.example, 192.0.2.1; removed a.example", "addresses changed (file: b.example, 192.0.2.1)", []uint64{1, 9, 11, 12, 13, 14, 19}},
		{serial("5"), "the key leaked", "the plan", []uint64{13, 15, 16, 17, 19}},
		{serial("6"), "the key leaked", "the plan", []uint64{13, 15, 16, 18, 19, 20, 22}},
		{"mqtt", "an operator asked for it: drill", "an operator", []uint64{15, 16, 19, 21, 22}},
		{"other", "the first on record", "the subscriber", []uint64{15, 16, 23, 24, 25}},
	} {
		x, err := ExplainCertificate(t.Context(), h, c.which)
		if err != nil {
			t.Errorf("%s: %v", c.which, err)
			continue
		}
		var events []uint64
		for _, r := range x.Events {
			events = append(events, r.Seq)
		}
		if !strings.Contains(x.Answer, c.answer) || !strings.Contains(x.AskedBy, c.asked) || !slices.Equal(events, c.events) {
			t.Errorf("%s: %q, asked by %q, events %v; want %q, %q, %v", c.which, x.Answer, x.AskedBy, events, c.answer, c.asked, c.events)
		}
	}
	x, _ := ExplainCertificate(t.Context(), h, serial("5"))
	if !slices.Contains(x.Facts, "it was ordered and never issued") || x.Advice == "" || x.Former != serial("4") {
		t.Errorf("an order that was not fulfilled: %+v", x)
	}
	if x, _ = ExplainCertificate(t.Context(), h, "mqtt"); !strings.Contains(x.Advice, "connected") {
		t.Errorf("what is not delivered has no advice: %+v", x)
	}
	if x, _ = ExplainCertificate(t.Context(), h, "other"); x.Usage != "SERVER" || x.Advice != "" {
		t.Errorf("a record of 0.1.0: %+v", x)
	}
}

// TestExplainWithdrawnCertificate: since when it counts no more, and why; who was issued
// another later is not told so of that.
func TestExplainWithdrawnCertificate(t *testing.T) {
	h := &history{}
	one := string(messages.CertificateIDOf([]byte("one")))
	h.add(messages.StreamCA, 0, &messages.AuthorityCreated{Der: []byte("one"), Reason: "first"})                              // 1
	h.add(messages.StreamBrokers, 0, &messages.BrokerPermitted{Broker: "bridge", Certificates: []string{"CLIENT", "SERVER"}}) // 2
	h.certify(serial("1"), "bridge", "CLIENT", "first", one, 1)                                                               // 3 4
	h.add(messages.StreamCA, 0, &messages.ComponentWithdrawn{Component: "another"})                                           // 5
	h.add(messages.StreamCA, 0, &messages.ComponentWithdrawn{Component: "bridge", Reason: "operator: it leaked"})             // 6
	h.certify(serial("2"), "bridge", "CLIENT", "operator: again", one, 1)                                                     // 7 8
	explained := func(serial string, events ...uint64) CertificateExplanation {
		t.Helper()
		x, err := ExplainCertificate(t.Context(), h, serial)
		var got []uint64
		for _, r := range x.Events {
			got = append(got, r.Seq)
		}
		if err != nil || !slices.Equal(got, events) {
			t.Errorf("events %v, want %v; %v", got, events, err)
		}
		return x
	}
	if x := explained(serial("1"), 1, 3, 4, 6, 8); !strings.HasSuffix(x.Facts[3], ": operator: it leaked") || x.Advice != "" {
		t.Errorf("%+v", x)
	}
	explained(serial("2"), 1, 4, 7, 8)
	h.add(messages.StreamBrokers, 0, &messages.BrokerRestricted{Broker: "another", Certificates: []string{"SERVER"}}) // 9
	h.add(messages.StreamBrokers, 0, &messages.BrokerRestricted{Broker: "bridge", Certificates: []string{"SERVER"}})  // 10
	if x := explained(serial("2"), 1, 4, 7, 8, 10); !strings.Contains(strings.Join(x.Facts, "\n"), "the right to client certificates was taken back") {
		t.Errorf("%+v", x)
	}
	h.add(messages.StreamBrokers, 0, &messages.BrokerPermitted{Broker: "bridge", Certificates: []string{"CLIENT"}}) // 11
	explained(serial("2"), 1, 4, 7, 8, 10)
}

// TestExplainNoCertificate: what fits nothing, or too much, is said.
func TestExplainNoCertificate(t *testing.T) {
	h := aLife()
	h.certify(serial("7")[:20]+strings.Repeat("0", 20), "x", "SERVER", "first", "", 2)
	for which, want := range map[string]string{
		"": "neither a subscriber", "77777": "at least 6 digits", "777777": "more than one begins with", "mqt": "cert list",
		strings.Repeat("f", 40): "neither", strings.Repeat("1", 100): "neither", "x\x1b[2J": "neither",
	} {
		if _, err := ExplainCertificate(t.Context(), h, which); !errors.Is(err, ErrNoCertificate) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v, want %q", which, err, want)
		}
	}
}

// FuzzExplainCertificate: any question gets an answer or an error.
func FuzzExplainCertificate(f *testing.F) {
	h := aLife()
	for _, seed := range []string{"mqtt", serial("3"), "33:33:33", "", "0", "000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, which string) {
		x, err := ExplainCertificate(t.Context(), h, which)
		if (err == nil) == (x.Serial == "" || x.Answer == "" || len(x.Events) == 0) {
			t.Errorf("%q: %+v, %v", which, x, err)
		}
	})
}
