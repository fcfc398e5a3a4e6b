package ca

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func instant(at time.Time) messages.Instant { return messages.Instant{TrustMs: at.UnixMilli()} }

// taken has an event decided and folded; it says what became of it.
func taken(t testing.TB, b *Book, e messages.Event, at time.Time) string {
	t.Helper()
	d, err := Decide(*b, messages.Input{Command: messages.Note{Stream: messages.StreamCA, Event: e}, At: instant(at)})
	if err != nil {
		t.Fatal(err)
	}
	if refusal, ok := d.Reply.(*messages.Refusal); ok {
		if len(d.Events) > 0 {
			t.Fatalf("refused and taken: %v", refusal)
		}
		return refusal.Reason
	}
	if len(d.Events) == 0 {
		return "known"
	}
	*b = Evolve(*b, d.Events[0], instant(at))
	return "taken"
}

// story is an authority and the events of one certificate.
type story struct {
	authority *Authority
	created   *messages.AuthorityCreated
	ordered   *messages.CertificateOrdered
	issued    *messages.CertificateIssued
	delivered *messages.CertificateDelivered
}

func newStory(t testing.TB, usage Usage) story {
	t.Helper()
	key := fixedKey(t, 7)
	a := managed(t, key, true)
	prepared, err := Prepare(profile(t, ProfileConfig{Usage: usage, Validity: time.Hour, KeyUsage: true}),
		Request{Issuer: a, Subscriber: "b", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(0x5a), Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	der, err := Issue(prepared, key)
	if err != nil {
		t.Fatal(err)
	}
	return story{
		authority: a, created: &messages.AuthorityCreated{Der: a.Certificate().Raw, CaType: TypeECDSAP256},
		ordered: &messages.CertificateOrdered{Subscriber: "b", Usage: usage.String(), Serial: prepared.Serial(), Reason: ReasonFirst,
			NotBeforeMs: prepared.NotBefore().UnixMilli(), NotAfterMs: prepared.NotAfter().UnixMilli(), AuthorityId: string(a.ID())},
		issued:    &messages.CertificateIssued{Subscriber: "b", Serial: prepared.Serial(), Der: der, AuthorityId: string(a.ID())},
		delivered: &messages.CertificateDelivered{Subscriber: "b", Serial: prepared.Serial()},
	}
}

// The steps of a certificate come in their order, and each once (reliability spec C-I2).
func TestStepsComeInOrder(t *testing.T) {
	s := newStory(t, Server)
	var b Book
	for _, step := range []struct {
		event messages.Event
		want  string
	}{
		{s.ordered, "is not in use"},
		{s.issued, "was not ordered"},
		{s.delivered, "is not the last that was issued"},
		{&messages.AuthorityUploaded{AuthorityId: string(s.authority.ID())}, "is not in use"},
		{s.created, "taken"},
		{s.created, "known"},
		{s.issued, "was not ordered"},
		{s.ordered, "taken"},
		{s.ordered, "was used before"},
		{s.delivered, "is not the last that was issued"},
		{s.issued, "taken"},
		{s.issued, "was not ordered"},
		{s.ordered, "was used before"},
		{s.delivered, "taken"},
		{s.delivered, "known"},
		{&messages.AuthorityUploaded{AuthorityId: string(s.authority.ID())}, "taken"},
		{&messages.AuthorityUploaded{AuthorityId: string(s.authority.ID())}, "known"},
		{&messages.AuthorityAnnounced{AuthorityId: string(s.authority.ID()), By: "admin"}, "taken"},
		{&messages.AuthorityAnnounced{AuthorityId: string(s.authority.ID()), By: "admin"}, "known"},
		{&messages.AuthorityRetired{AuthorityId: string(s.authority.ID())}, "the newest authority stays"},
		{&messages.AuthorityRetired{AuthorityId: "another"}, "known"},
		{&messages.Started{}, "does not belong"},
	} {
		if got := taken(t, &b, step.event, noon); !strings.Contains(got, step.want) {
			t.Errorf("%s: %s, want %s", step.event.Kind(), got, step.want)
		}
	}
	if h, ok := b.Holder("b", Server); !ok || !h.Delivered || h.Last.Serial != s.issued.Serial || h.Ordered.Serial != "" {
		t.Errorf("holder %+v", h)
	}
	if got := b.Authorities[0].SignedUntilMs; got != s.ordered.NotAfterMs {
		t.Errorf("signed until %d, want %d", got, s.ordered.NotAfterMs)
	}
}

// What does not fit the order, or has no bound, is not taken.
func TestUnfitEventsAreRefused(t *testing.T) {
	s := newStory(t, Server)
	long := strings.Repeat("x", TextBytesMax+1)
	var ordered, created Book
	created = Evolve(created, s.created, instant(noon))
	ordered = Evolve(created, s.ordered, instant(noon))
	order := func(change func(*messages.CertificateOrdered)) *messages.CertificateOrdered {
		e := proto.CloneOf(s.ordered)
		change(e)
		return e
	}
	otherKey := managed(t, fixedKey(t, 8), true)
	var addresses []string
	for i := range addressesMax + 1 {
		addresses = append(addresses, fmt.Sprint("h", i))
	}
	for _, c := range []struct {
		name  string
		book  Book
		event messages.Event
		want  string
	}{
		{"an order for nobody", created, order(func(e *messages.CertificateOrdered) { e.Subscriber = "" }), "subscriber"},
		{"an order in the authority's name", created, order(func(e *messages.CertificateOrdered) { e.Subscriber = AuthorityName }), "subscriber"},
		{"an order for another usage", created, order(func(e *messages.CertificateOrdered) { e.Usage = "AUTHORITY" }), "usage"},
		{"an order by an unknown authority", created, order(func(e *messages.CertificateOrdered) { e.AuthorityId = "x" }), "not in use"},
		{"a short serial", created, order(func(e *messages.CertificateOrdered) { e.Serial = "5a" }), "serial number"},
		{"a serial in capitals", created, order(func(e *messages.CertificateOrdered) { e.Serial = strings.ToUpper(e.Serial) }), "serial number"},
		{"an order that has ended", created, order(func(e *messages.CertificateOrdered) { e.NotAfterMs = noon.UnixMilli() }), "ended"},
		{"a long reason", created, order(func(e *messages.CertificateOrdered) { e.Reason = long }), "bytes"},
		{"many names", created, order(func(e *messages.CertificateOrdered) { e.Names = addresses }), "names"},
		{"bytes that are no certificate", ordered, &messages.CertificateIssued{Subscriber: "b", Serial: s.issued.Serial, Der: []byte("x"), AuthorityId: s.issued.AuthorityId}, "x509"},
		{"another certificate", ordered, &messages.CertificateIssued{Subscriber: "b", Serial: s.issued.Serial, Der: s.created.Der, AuthorityId: s.issued.AuthorityId}, "not the one that was ordered"},
		{"said to be another authority's", ordered, &messages.CertificateIssued{Subscriber: "b", Serial: s.issued.Serial, Der: s.issued.Der, AuthorityId: string(otherKey.ID())}, "not the one that was ordered"},
		{"somebody else's", ordered, &messages.CertificateIssued{Subscriber: "c", Serial: s.issued.Serial, Der: s.issued.Der, AuthorityId: s.issued.AuthorityId}, "was not ordered"},
		{"an authority that is none", Book{}, &messages.AuthorityCreated{Der: s.issued.Der, CaType: TypeECDSAP256}, "no authority"},
		{"an authority of another type", Book{}, &messages.AuthorityCreated{Der: s.created.Der, CaType: TypeRSA2048}, "said to be"},
		{"a chain of nothing", Book{}, &messages.AuthorityImported{}, "a chain of 0"},
		{"a chain that is none", Book{}, &messages.AuthorityImported{Chain: [][]byte{s.created.Der, otherKey.Certificate().Raw}}, "did not sign"},
		{"a long URI", Book{}, &messages.AuthorityImported{Chain: [][]byte{s.created.Der}, CertificateUri: long}, "bytes"},
		{"a long rejection", Book{}, &messages.AuthorityRejected{Reason: long}, "bytes"},
		{"addresses from nowhere", Book{}, &messages.HostAddressesChanged{}, "source"},
		{"many addresses", Book{}, &messages.HostAddressesChanged{Source: "s", Addresses: addresses}, "at most 64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := c.book
			if got := taken(t, &book, c.event, noon); !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if _, err := Decide(Book{}, messages.Input{Command: messages.RunRefresh{}}); err == nil {
		t.Error("a command of another entity is taken")
	}
	if _, err := Decide(Book{}, messages.Input{Command: messages.Note{Stream: messages.StreamCA}}); err == nil {
		t.Error("a note of nothing is taken")
	}
}

// Subscribers are bounded; those whose certificates ended long ago make room.
func TestSubscribersAreBounded(t *testing.T) {
	s := newStory(t, Server)
	b := Evolve(Book{}, s.created, instant(noon))
	order := func(i int, at time.Time) string {
		e := proto.CloneOf(s.ordered)
		e.Subscriber, e.Serial = fmt.Sprintf("b%d", i), fmt.Sprintf("%040x", i)
		e.NotBeforeMs, e.NotAfterMs = at.UnixMilli(), at.Add(time.Hour).UnixMilli()
		return taken(t, &b, e, at)
	}
	for i := range holdersMax {
		if got := order(i, noon); got != "taken" {
			t.Fatalf("subscriber %d: %s", i, got)
		}
	}
	if got := order(holdersMax, noon); !strings.Contains(got, "which is the most") {
		t.Errorf("one too many: %s", got)
	}
	if got := order(5, noon.Add(time.Minute)); !strings.Contains(got, "used before") {
		t.Errorf("a serial again: %s", got)
	}
	later := noon.Add(time.Hour + ValidityMax + time.Second)
	if got := order(holdersMax, later); got != "taken" || len(b.Holders) != 1 {
		t.Errorf("when they are forgotten: %s, %d", got, len(b.Holders))
	}
}

// A client certificate makes its holder a component as long as its authority is in use; a
// server's, or one for both, does not.
func TestComponentsOnRecord(t *testing.T) {
	for _, usage := range []Usage{Server, Client, ClientAndServer} {
		s := newStory(t, usage)
		b := Book{}
		for _, e := range []messages.Event{s.created, s.ordered, s.issued} {
			if got := taken(t, &b, e, noon); got != "taken" {
				t.Fatal(got)
			}
		}
		id := messages.CertificateIDOf(s.issued.Der)
		if _, ok := b.ComponentIssuer(id, "b"); ok != (usage == Client) {
			t.Errorf("%s: component %t", usage, ok)
		}
		if _, ok := b.ComponentIssuer(id, "c"); ok {
			t.Error("under another name")
		}
		other := managed(t, fixedKey(t, 8), true)
		b = Evolve(b, &messages.AuthorityCreated{Der: other.Certificate().Raw, CaType: TypeECDSAP256}, instant(noon))
		if taken(t, &b, &messages.AuthorityRetired{AuthorityId: string(s.authority.ID())}, noon) != "taken" {
			t.Fatal("not retired")
		}
		if _, ok := b.ComponentIssuer(id, "b"); ok {
			t.Errorf("%s: a component of a retired authority", usage)
		}
		if bytes.Contains(b.Bundle(), s.authority.PEM()) || !bytes.Contains(b.Bundle(), other.PEM()) {
			t.Error("the bundle holds the retired authority, or lacks the other")
		}
		if len(b.Managed()) != 2 {
			t.Error("a retired authority's key is anybody's")
		}
	}
}

// A component that restarts without end keeps its newest certificates, and nobody else
// loses any; where there is no room, none is ordered.
func TestComponentsDisplaceTheirOwn(t *testing.T) {
	s := newStory(t, Client)
	b := Evolve(Book{}, s.created, instant(noon))
	id := func(i int) messages.CertificateID { return messages.CertificateIDOf(fmt.Appendf(nil, "der %d", i)) }
	order := func(i int, name string, at time.Time) *messages.CertificateOrdered {
		e := proto.CloneOf(s.ordered)
		e.Subscriber, e.Serial = name, fmt.Sprintf("%040x", i)
		e.NotBeforeMs, e.NotAfterMs = at.UnixMilli(), at.Add(time.Hour).UnixMilli()
		return e
	}
	n := 0
	get := func(name string) int {
		t.Helper()
		n++
		e := order(n, name, noon)
		if got := taken(t, &b, e, noon); got != "taken" {
			t.Fatalf("%s: %s", name, got)
		}
		b = Evolve(b, &messages.CertificateIssued{Subscriber: name, Serial: e.Serial, Der: fmt.Appendf(nil, "der %d", n)}, instant(noon))
		return n
	}
	has := func(i int, name string) bool { _, ok := b.ComponentIssuer(id(i), name); return ok }
	quiet := get("quiet")
	var own []int
	for range componentsMax + 1 {
		own = append(own, get("restless"))
	}
	if !has(quiet, "quiet") {
		t.Error("one that restarts pushes out another's certificate")
	}
	for i, c := range own {
		if want := i >= len(own)-componentMax; has(c, "restless") != want {
			t.Fatalf("certificate %d of %d: component %t", i+1, len(own), !want)
		}
	}
	for i := 0; len(b.Components) < componentsMax; i++ {
		b.Components = append(slices.Clip(b.Components), Component{Name: fmt.Sprint("c", i), NotAfterMs: noon.Add(time.Hour).UnixMilli()})
	}
	if got := taken(t, &b, order(n+1, "quiet", noon), noon); !strings.Contains(got, "which is the most") {
		t.Errorf("one too many: %s", got)
	}
	get("restless") // displaces its own
	if !has(quiet, "quiet") || len(b.Components) != componentsMax {
		t.Errorf("%d certificates", len(b.Components))
	}
	later := noon.Add(time.Hour + time.Second)
	if got := taken(t, &b, order(n+1, "quiet", later), later); got != "taken" {
		t.Errorf("when they have ended: %s", got)
	}
}

// A custom authority comes and goes: the managed one that devices know is taken up again.
func TestTheFormerAuthorityComesBack(t *testing.T) {
	s := newStory(t, Server)
	own := managed(t, fixedKey(t, 8), true)
	imported := &messages.AuthorityImported{Chain: own.Chain(), CertificateUri: "file:///a"}
	b := Evolve(Book{}, s.created, instant(noon))
	if _, ok := b.Reinstated(TypeECDSAP256, noon); ok {
		t.Error("there is nothing to come back from")
	}
	b = Evolve(Evolve(b, s.ordered, instant(noon)), s.issued, instant(noon))
	b = Evolve(b, imported, instant(noon.Add(time.Hour)))
	for name, change := range map[string]func() Book{
		"in use": func() Book { return b },
		"retired": func() Book {
			return Evolve(b, &messages.AuthorityRetired{AuthorityId: string(s.authority.ID())}, instant(noon))
		},
	} {
		b := change()
		former, ok := b.Reinstated(TypeECDSAP256, noon)
		if !ok || former.ID != s.authority.ID() {
			t.Fatalf("%s: %+v", name, former)
		}
		if _, ok := b.Reinstated(TypeRSA2048, noon); ok {
			t.Errorf("%s: of another type", name)
		}
		if _, ok := b.Reinstated(TypeECDSAP256, s.authority.Certificate().NotAfter.Add(-authorityRenewBefore)); ok {
			t.Errorf("%s: one that is about to end", name)
		}
		back, since := noon.Add(2*time.Hour), noon
		if name == "retired" {
			since = back
		}
		if got := taken(t, &b, s.created, back); got != "taken" {
			t.Fatal(got)
		}
		if known, _ := b.Authorities[1].acknowledged(true); known != (name == "in use") {
			t.Errorf("%s: known to everybody %t", name, known)
		}
		if n := len(b.Authorities); n != 2 || b.Authorities[1].ID != s.authority.ID() || b.Authorities[1].SinceMs != since.UnixMilli() || len(b.Past) != 0 {
			t.Errorf("%s: %+v", name, b.Authorities)
		}
	}
	if got := taken(t, &b, imported, noon); got != "known" {
		t.Errorf("imported again: %s", got)
	}
}

// What Storable keeps of a list, however long it and its addresses are, a Book takes.
func TestStorableAddressesAreTaken(t *testing.T) {
	short, long := make([]string, addressesMax), strings.Repeat("x", TextBytesMax+1)
	for i := range short {
		short[i] = fmt.Sprint("h", i)
	}
	short[0] = long[1:]
	for _, c := range []struct {
		told, want []string
		left       int
	}{
		{nil, nil, 0}, {short, short, 0}, {append(slices.Clone(short), "one", "two"), short, 1},
		{slices.Concat([]string{long}, short, []string{long}), short, 1}, {slices.Concat([]string{long}, short, []string{"one", long}), short, 2},
	} {
		kept, left := Storable(c.told)
		if !slices.Equal(kept, c.want) || len(left) != c.left {
			t.Errorf("of %d kept %d, left out %v", len(c.told), len(kept), left)
		}
		b := Book{}
		if got := taken(t, &b, &messages.HostAddressesChanged{Source: "cis", Addresses: kept}, noon); len(kept) > 0 && got != "taken" {
			t.Errorf("%d of %d are not taken: %s", len(kept), len(c.told), got)
		}
	}
}

// Addresses are the union of what the sources say; a certificate has room for so many.
func TestAddresses(t *testing.T) {
	b := Book{}
	say := func(source string, addresses ...string) string {
		return taken(t, &b, &messages.HostAddressesChanged{Source: source, Addresses: addresses}, noon)
	}
	if say("file", "a", "10.0.0.1") != "taken" || say("cis", "b", "a", "not a name") != "taken" || say("cis", "b", "a", "not a name") != "known" || say("none") != "known" {
		t.Fatal("not taken as they should be")
	}
	hosts, rejected := b.Hosts()
	if fmt.Sprint(hosts) != "[a 10.0.0.1 b]" || len(rejected) != 1 {
		t.Errorf("hosts %v, rejected %v", hosts, rejected)
	}
	var many []string
	for i := range NamesMax + 4 {
		many = append(many, fmt.Sprint("h", i))
	}
	say("cis", many...)
	hosts, rejected = b.Hosts()
	if len(hosts) != NamesMax-1 || len(rejected) != 7 || hosts[0].String() != "a" {
		t.Errorf("%d hosts, %d rejected: %v", len(hosts), len(rejected), rejected)
	}
	if _, err := Prepare(profile(t, ProfileConfig{Usage: Server, Validity: time.Hour}), Request{
		Issuer: managed(t, fixedKey(t, 7), false), Subscriber: "b", Hosts: hosts, PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(1), Now: noon,
	}); err != nil {
		t.Errorf("they do not fit: %v", err)
	}
	say("cis")
	if got := b.Addresses(); fmt.Sprint(got) != "[a 10.0.0.1]" {
		t.Errorf("forgotten: %v", got)
	}
}

// The fold never changes a state that was handed out, never fails, and a snapshot of it is
// the same.
func TestFoldIsAFunction(t *testing.T) {
	s := newStory(t, Client)
	own := managed(t, fixedKey(t, 8), true)
	events := []messages.Event{
		s.created, s.ordered, s.issued, s.delivered, &messages.AuthorityImported{Chain: own.Chain()},
		&messages.AuthorityUploaded{AuthorityId: string(s.authority.ID())}, &messages.AuthorityAnnounced{AuthorityId: string(own.ID())},
		&messages.AuthorityRetired{AuthorityId: string(s.authority.ID())}, &messages.AuthorityRejected{Reason: "x"},
		&messages.HostAddressesChanged{Source: "s", Addresses: []string{"a"}}, &messages.HostAddressesChanged{Source: "s"}, &messages.AuthorityImported{},
		&messages.AuthorityRetired{AuthorityId: string(own.ID())}, &messages.Started{},
	}
	snapshot := func(t *rapid.T, b Book) []byte {
		var buffer bytes.Buffer
		if err := gob.NewEncoder(&buffer).Encode(b); err != nil {
			t.Fatal(err)
		}
		return buffer.Bytes()
	}
	rapid.Check(t, func(t *rapid.T) {
		var b Book
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(events)-1), 0, 40).Draw(t, "events") {
			before := snapshot(t, b)
			after := Evolve(b, events[i], instant(noon))
			if !bytes.Equal(before, snapshot(t, b)) {
				t.Fatalf("%s changed the state before it", events[i].Kind())
			}
			b = after
		}
		var read Book
		if err := gob.NewDecoder(bytes.NewReader(snapshot(t, b))).Decode(&read); err != nil || !bytes.Equal(snapshot(t, read), snapshot(t, b)) {
			t.Fatalf("the snapshot reads %+v, want %+v: %v", read, b, err)
		}
	})
}

// TestComponentIsWithdrawn: what was issued so far counts no more, what was ordered is not
// issued, and what is ordered later counts.
func TestComponentIsWithdrawn(t *testing.T) {
	s := newStory(t, Client)
	take := &messages.ComponentWithdrawn{Component: "b", Reason: "operator: it leaked"}
	id := messages.CertificateIDOf(s.issued.Der)
	var b Book
	for _, step := range []struct {
		event     messages.Event
		want      string
		component bool
	}{
		{s.created, "taken", false},
		{take, "known", false}, // nothing to take
		{s.ordered, "taken", false},
		{take, "taken", false},
		{s.issued, "was not ordered", false},
		{take, "known", false},
		{s.ordered, "taken", false},
		{s.issued, "taken", true},
		{&messages.ComponentWithdrawn{Component: "another"}, "known", true},
		{&messages.ComponentWithdrawn{Component: "two words"}, "component name", true},
		{&messages.ComponentWithdrawn{Component: "b", Reason: strings.Repeat("x", TextBytesMax+1)}, "at most", true},
		{take, "taken", false},
		{take, "known", false},
		{s.delivered, "taken", false},
	} {
		if got := taken(t, &b, step.event, noon); !strings.Contains(got, step.want) {
			t.Errorf("%s: %s, want %s", step.event.Kind(), got, step.want)
		}
		if _, ok := b.ComponentIssuer(id, "b"); ok != step.component || b.ComponentCertificates("b", noon.UnixMilli()) > 0 != step.component {
			t.Errorf("after %s: a component: %t, want %t", step.event.Kind(), ok, step.component)
		}
	}
	if h, _ := b.Holder("b", Client); !h.Withdrawn || h.Last.Serial != s.issued.Serial {
		t.Errorf("holder %+v", h)
	}
	former := b
	later := &messages.CertificateOrdered{
		Subscriber: "b", Usage: s.ordered.Usage, Serial: strings.Repeat("3", 2*SerialBytes), NotBeforeMs: s.ordered.NotBeforeMs,
		NotAfterMs: s.ordered.NotAfterMs, AuthorityId: s.ordered.AuthorityId,
	}
	b = Evolve(Evolve(b, later, instant(noon)), &messages.CertificateIssued{Subscriber: "b", Serial: later.Serial, Der: []byte("later")}, instant(noon))
	if _, ok := b.ComponentIssuer(messages.CertificateIDOf([]byte("later")), "b"); !ok {
		t.Error("what was ordered later does not count")
	}
	if h, _ := b.Holder("b", Client); h.Withdrawn || b.ComponentCertificates("b", s.ordered.NotAfterMs) != 1 || b.ComponentCertificates("b", s.ordered.NotAfterMs+1) != 0 {
		t.Errorf("holder %+v", h)
	}
	if h, _ := former.Holder("b", Client); !h.Withdrawn {
		t.Error("the book of before was changed")
	}
}
