package actors

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Denial is something that was refused, as it goes on record.
type Denial struct {
	Thing       string // as claimed
	Certificate messages.CertificateID
	Session     messages.TokenDigest // zero if there was none
	Broker      messages.BrokerID
	Operation   string
	Resource    string
	Revision    string // of the policy
	Reason      string
}

// Denials puts refusals on record without letting those who are refused fill the disk:
// the first of its kind is recorded, repeats are counted, and each device and all
// strangers together have a bound per minute. Safe for concurrent use.
type Denials struct {
	sys   *System
	known func(messages.ThingName) bool
	hash  maphash.Seed

	mu         sync.Mutex
	minute     int64             // guarded by mu, as all below
	seen       map[uint64]uint64 // kind of denial → repeats in this minute
	recorded   map[string]int    // thing → records in this minute
	suppressed map[string]uint64 // thing → refusals that were only counted, since its last record
	classes    map[messages.DenialClass]uint64
}

// Bounds per minute, and of the memory kept.
const (
	denialsPerThing     = 10
	denialsOfStrangers  = 60
	denialKindsMax      = 8192
	suppressedMax       = 8192
	operationMaxBytes   = 256
	resourceMaxBytes    = 1024
	claimedNameMaxBytes = 256
)

// stranger is the pseudo-thing under which strangers are counted together.
const stranger = ""

// NewDenials makes the record keeper; known says whether a thing has an entity.
func NewDenials(sys *System, known func(messages.ThingName) bool) *Denials {
	return &Denials{sys: sys, known: known, hash: maphash.MakeSeed(), seen: map[uint64]uint64{}, recorded: map[string]int{}, suppressed: map[string]uint64{}, classes: map[messages.DenialClass]uint64{}}
}

// Note puts d on record, or counts it. It never blocks on the log.
func (n *Denials) Note(d Denial, cause messages.Cause) {
	name, err := messages.ParseThingName(d.Thing)
	known := err == nil && n.known(name)
	account := stranger
	if known {
		account = d.Thing
	}
	repeats, record := n.count(account, d)
	if !record {
		return
	}
	e := &messages.AccessDenied{
		Thing: clip(d.Thing, claimedNameMaxBytes), CertificateId: string(d.Certificate), Broker: string(d.Broker),
		Operation: clip(d.Operation, operationMaxBytes), Resource: clip(d.Resource, resourceMaxBytes),
		PolicyRevision: d.Revision, Reason: clip(d.Reason, resourceMaxBytes), Repeats: repeats,
	}
	if d.Session != (messages.TokenDigest{}) {
		e.Session = d.Session[:]
	}
	n.sys.tell(messages.RecordDenial{Known: known, Denial: e}, cause)
}

// count decides whether d is recorded, and how many went uncounted before it.
func (n *Denials) count(account string, d Denial) (repeats uint64, record bool) {
	key := n.keyOf(d)
	class := messages.ClassOfDenial(d.Operation, d.Reason)
	minute := n.sys.clock.NowMs() / 60_000
	n.mu.Lock()
	defer n.mu.Unlock()
	n.classes[class]++
	if minute != n.minute {
		n.minute = minute
		clear(n.seen)
		clear(n.recorded)
		if len(n.suppressed) > suppressedMax {
			clear(n.suppressed)
		}
	}
	limit := denialsPerThing
	if account == stranger {
		limit = denialsOfStrangers
	}
	_, again := n.seen[key]
	if again || n.recorded[account] >= limit || len(n.seen) >= denialKindsMax {
		if again {
			n.seen[key]++
		}
		n.suppressed[account]++
		return 0, false
	}
	n.seen[key] = 0
	n.recorded[account]++
	repeats = n.suppressed[account]
	delete(n.suppressed, account)
	return repeats, true
}

// keyOf names the kind of a denial. A session stands for its thing and certificate. Two
// kinds may share a name once in a very long while: then one of them is counted as the
// other's repeat.
func (n *Denials) keyOf(d Denial) uint64 {
	if d.Session != (messages.TokenDigest{}) {
		return sessionKey(n.hash, d.Session, d.Operation, d.Resource)
	}
	var h maphash.Hash
	h.SetSeed(n.hash)
	for _, part := range []string{d.Thing, string(d.Certificate), d.Operation, d.Resource} {
		_, _ = h.WriteString(part) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func sessionKey[T string | []byte](seed maphash.Seed, session messages.TokenDigest, operation, resource T) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.Write(session[:]) // never fails
	write(&h, operation)
	_ = h.WriteByte(0)
	write(&h, resource)
	return h.Sum64()
}

func write[T string | []byte](h *maphash.Hash, text T) {
	switch text := any(text).(type) {
	case string:
		_, _ = h.WriteString(text)
	case []byte:
		_, _ = h.Write(text)
	}
}

// Again counts a denial of a session's action if it is a repeat within the minute, and
// reports whether it was: then there is nothing to note. It keeps none of its arguments.
func (n *Denials) Again(thing messages.ThingName, session messages.TokenDigest, operation, resource []byte) bool {
	key := sessionKey(n.hash, session, operation, resource)
	minute := n.sys.clock.NowMs() / 60_000
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, again := n.seen[key]; !again || minute != n.minute {
		return false
	}
	n.classes[messages.DeniedByPolicy]++
	n.seen[key]++
	n.suppressed[string(thing)]++
	return true
}

// Counts counts all refusals noted since the start, by what they were for.
func (n *Denials) Counts() map[messages.DenialClass]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.classes)
}

// Total counts all refusals noted since the start.
func (n *Denials) Total() (total uint64) {
	for _, count := range n.Counts() {
		total += count
	}
	return total
}

// clip bounds a text that a stranger may have chosen to max bytes, without cutting a
// character in two. What is not UTF-8 in it is replaced, which may make it longer: so it
// is cut after that.
func clip(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "")
	}
	return s
}
