package projections

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Hooks are told what others must hear of. They are called from folds and must not
// block. Nil hooks are not called; during replay none is.
type Hooks struct {
	// Closed: a session is no more. It may not be durable yet: it restricts.
	Closed func(s *Session, reason messages.CloseReason, detail string)
	// Evict: the session was evicted from the read model because too many are live; its
	// end must be put in the log.
	Evict func(s *Session)
	// PolicyChanged: another policy is in force, durably.
	PolicyChanged func(seq uint64, revision string)
	// Config: another configuration is in force, durably.
	Config func(config.Section)
}

// Views is all the read models that decisions need. Safe for concurrent use; folds come
// from the log's appender, restrictions from anywhere.
type Views struct {
	logger *slog.Logger
	table  *table

	mu           sync.RWMutex
	certificates map[messages.CertificateID]*certificate             // guarded by mu
	things       map[messages.ThingName]*thing                       // guarded by mu
	components   map[*Session]int64                                  // internal components' sessions: trust ms when last handed out to be closed; guarded by mu
	pending      map[messages.ThingName]*pending                     // devices that are pending; guarded by mu
	ofPending    map[*Session]struct{}                               // sessions that were opened for such; guarded by mu
	admissions   admissions                                          // guarded by mu
	withdrawn    map[messages.ComponentName][]messages.CertificateID // components taken back, and the certificates issued since; guarded by mu
	poisoned     map[messages.StreamID]struct{}                      // guarded by mu
	brokerNames  map[string]messages.BrokerID                        // see brokerOf; guarded by mu
	agenda       agenda                                              // guarded by mu
	hooks        Hooks                                               // guarded by mu
	replaying    bool                                                // guarded by mu
	denied       recent                                              // guarded by mu
	documents    map[messages.StreamID]Document                      // guarded by mu
	refresh      Refresh                                             // guarded by mu
	ahead        ahead                                               // guarded by mu
	// thingsVersion counts the changes of the set of things; guarded by mu.
	thingsVersion uint64
	names         atomic.Pointer[names] // what Things listed last

	brokers      atomic.Pointer[map[messages.BrokerID]BrokerRights]
	policy       atomic.Pointer[policyState]
	section      atomic.Pointer[config.Section]
	override     atomic.Pointer[int64] // trust duration set by hand, ms (dev, simulator)
	pendingGroup atomic.Pointer[string]
	voidedMs     atomic.Int64
	// voidedOnRecord is voidedMs without what is not durable: a re-anchoring that is abandoned
	// must not have loosened anything.
	voidedOnRecord atomic.Int64
	configured     atomic.Bool
	clockSetBack   atomic.Bool // ever
	seq            atomic.Uint64
	unsettled      atomic.Int64 // how much is ahead
}

// policyState is the policy in force and, between the decision to replace it and its
// durability, the next: until then only what both allow is allowed (deny early, allow
// late).
type policyState struct {
	current, next *policy.Compiled
	seq           uint64 // the PolicyReplaced that put current in force: the revision on the wire
}

// emptyPolicy is the policy before there is any: everything is denied.
func emptyPolicy() *policy.Compiled {
	doc, err := policy.Parse([]byte("{}"), policy.Options{})
	if err != nil {
		panic("projections: the empty policy cannot be read: " + err.Error())
	}
	return policy.Compile(doc)
}

// New makes empty read models, in replay: fold the log's history with Apply, then call
// Live.
func New(logger *slog.Logger) *Views {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	v := &Views{
		logger: logger, table: newTable(), replaying: true,
		certificates: make(map[messages.CertificateID]*certificate),
		things:       make(map[messages.ThingName]*thing),
		components:   make(map[*Session]int64),
		pending:      make(map[messages.ThingName]*pending),
		ofPending:    make(map[*Session]struct{}),
		withdrawn:    make(map[messages.ComponentName][]messages.CertificateID),
		poisoned:     make(map[messages.StreamID]struct{}),
		brokerNames:  make(map[string]messages.BrokerID),
		documents:    make(map[messages.StreamID]Document),
		ahead:        ahead{streams: make(map[messages.StreamID]int), evicted: make(map[messages.TokenDigest]struct{})},
	}
	section := config.DefaultSection()
	v.section.Store(&section)
	v.policy.Store(&policyState{current: emptyPolicy()})
	v.SetPendingGroup(DefaultPendingGroup)
	return v
}

// Live ends the replay: from now on hooks are called, and sessions beyond the limit are
// evicted, those opened first going first.
func (v *Views) Live(h Hooks) {
	v.mu.Lock()
	v.hooks, v.replaying = h, false
	v.mu.Unlock()
	v.evict(v.section.Load().Performance.MaxActiveAuthTokens, true)
}

// Apply folds committed records, in the order of the log. Folding one twice changes
// nothing.
func (v *Views) Apply(records []messages.Record) {
	for i := range records {
		rec := &records[i]
		if rec.Seq <= v.seq.Load() {
			continue
		}
		if err := v.fold(rec); err != nil {
			v.logger.Error("record cannot be folded; its entity is refused", "seq", rec.Seq, "stream", rec.Stream, "error", err)
			v.quarantine(rec.Stream)
			if rec.Stream == messages.StreamClock { // it may have voided trust, also what is stamped later
				v.reanchored(&messages.ClockReanchored{AuthenticatedMs: rec.At.TrustMs})
				v.voidBefore(rec.At.TrustMs)
				v.voidedOnRecord.Store(v.voidedMs.Load())
			}
		}
		v.seq.Store(rec.Seq)
	}
}

// fold takes in one record. A panic in it must not end the log's appender, nor the next
// start: it is the record's fault.
func (v *Views) fold(rec *messages.Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fold panicked: %v", p)
		}
	}()
	e, err := messages.FoldEvent(rec)
	if err != nil || e == nil {
		return err
	}
	v.apply(rec, e)
	v.landed(rec.Stream, e)
	return nil
}

func (v *Views) apply(rec *messages.Record, e messages.Event) {
	switch e := e.(type) {
	case *messages.CertificateVerified:
		v.certificateVerified(rec, e)
	case *messages.AttachmentVerified:
		v.attachmentVerified(rec, e)
	case *messages.SessionOpened:
		v.sessionOpened(rec, e)
	case *messages.DevicePending:
		v.devicePending(rec, e)
	case *messages.PendingSessionOpened:
		v.pendingSessionOpened(rec, e)
	case *messages.DeviceRegistered:
		v.registered(rec, e)
	case *messages.DeviceReleased:
		v.released(rec.Stream)
	case *messages.PolicyReplaced:
		if !v.refused(rec.Stream) {
			v.documentReplaced(rec, e.Revision, e.Origin, e.Source)
			v.policyReplaced(rec.Seq, e)
		}
	case *messages.ConfigReplaced:
		v.documentReplaced(rec, e.Revision, e.Origin, e.Source)
		v.configReplaced(e)
	case *messages.ConfigRejected:
		v.documentRejected(rec, e)
	case *messages.RefreshPlanned, *messages.RefreshStarted, *messages.RefreshCompleted, *messages.RefreshFailed:
		v.refreshed(rec, e)
	case *messages.AccessDenied:
		v.accessDenied(rec, e)
	case *messages.BrokerPermitted:
		v.brokerPermitted(e)
	case *messages.CertificateIssued:
		v.certificateIssued(e)
	case *messages.SessionClosed:
		v.sessionClosed(rec, e)
		v.restrict(rec.Stream, e, rec.At)
	case *messages.AssociationChanged:
		v.associationChanged(messages.ThingName(e.Thing), e.Associated)
	case *messages.TrustVoided:
		v.restrict(rec.Stream, e, rec.At)
		v.voidedOnRecord.Store(max(v.voidedOnRecord.Load(), e.BeforeMs))
	case *messages.ClockReanchored:
		v.restrict(rec.Stream, e, rec.At)
		v.voidedOnRecord.Store(min(v.voidedOnRecord.Load(), e.AuthenticatedMs))
	default:
		v.restrict(rec.Stream, e, rec.At)
	}
}

// Restrict applies what e takes away, now: it is called before e is durable, and again
// when it is. What e does not take away is left alone.
func (v *Views) Restrict(stream messages.StreamID, e messages.Event, at messages.Instant) {
	v.restricting(stream)
	v.restrict(stream, e, at)
}

func (v *Views) restrict(stream messages.StreamID, e messages.Event, at messages.Instant) {
	switch e := e.(type) {
	case *messages.CertificateRefused:
		if id, ok := stream.Certificate(); ok {
			v.certificateRefused(id, e, at)
		}
	case *messages.AttachmentWithdrawn:
		if name, ok := stream.Device(); ok {
			v.attachmentWithdrawn(name, messages.CertificateID(e.CertificateId), e.Reason)
		}
	case *messages.DeviceForgotten:
		if name, ok := stream.Device(); ok {
			v.forgotten(name, e.Reason)
		}
	case *messages.PendingWithdrawn:
		if name, ok := stream.Device(); ok {
			v.pendingWithdrawn(name, e.Reason)
		}
	case *messages.SessionClosed:
		if len(e.Session) == len(messages.TokenDigest{}) {
			if s := v.table.find(messages.TokenDigest(e.Session)); s != nil {
				v.end(s, e.Reason, e.Detail)
			}
		}
	case *messages.DeviceQuarantined:
		if name, ok := stream.Device(); ok {
			v.quarantined(name, e.Reason)
		}
	case *messages.TrustVoided:
		v.voidBefore(e.BeforeMs)
	case *messages.ClockReanchored:
		v.reanchored(e)
	case *messages.PolicyReplaced:
		v.policyDecided(e)
	case *messages.BrokerRestricted:
		v.brokerRestricted(e)
	case *messages.ComponentWithdrawn:
		v.componentWithdrawn(e)
	}
}

// voidBefore lets no trust from before ms count any more.
func (v *Views) voidBefore(ms int64) {
	for {
		old := v.voidedMs.Load()
		if ms <= old || v.voidedMs.CompareAndSwap(old, ms) {
			return
		}
	}
}

// reanchored voids what was stamped while the clock was wrong, wherever it stands now: it
// must not come to count when the clock gets to its stamp. Nothing is void any more for
// being stamped before a moment that is still to come: that would hit what is confirmed
// from now on.
func (v *Views) reanchored(e *messages.ClockReanchored) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.certificates {
		v.void(&c.basis, e.VoidAfterMs)
		for _, s := range c.sessions {
			v.void(&s.attached.basis, e.VoidAfterMs)
		}
	}
	for _, t := range v.things {
		for _, at := range t.attachments {
			v.void(&at.basis, e.VoidAfterMs)
		}
	}
	for _, p := range v.pending {
		v.void(&p.basis, e.VoidAfterMs)
	}
	for i, ms := range v.admissions { // or they would be of the last hour until the clock gets there
		v.admissions[i] = min(ms, e.AuthenticatedMs)
	}
	v.voidedMs.Store(min(v.voidedMs.Load(), e.AuthenticatedMs))
	v.clockSetBack.Store(true)
}

func (v *Views) void(b *basis, afterMs int64) {
	if ms := b.confirmedMs.Load(); ms != never && ms > afterMs {
		b.confirmedMs.Store(messages.VoidMs)
		v.agenda.changed(b)
	}
}

// Voided reports whether the last confirmation of a certificate, or with a device's
// stream of its attachment, was stamped by a clock that was wrong.
func (v *Views) Voided(stream messages.StreamID, id messages.CertificateID) bool {
	if !v.clockSetBack.Load() {
		return false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if name, ok := stream.Device(); ok {
		if t := v.things[name]; t != nil {
			if at := t.attachment(id); at != nil {
				return at.confirmedMs.Load() == messages.VoidMs
			}
		}
		if p := v.pending[name]; p != nil && p.certificate == id {
			return p.confirmedMs.Load() == messages.VoidMs
		}
		return false
	}
	c := v.certificates[id]
	return c != nil && c.confirmedMs.Load() == messages.VoidMs
}

// Quarantine refuses everything about the entity of stream until the next start. A
// policy whose records cannot be read allows nothing: what the last of them took away is
// not known.
func (v *Views) Quarantine(stream messages.StreamID) {
	v.lasting()
	v.quarantine(stream)
}

func (v *Views) quarantine(stream messages.StreamID) {
	v.poison(stream)
	if name, ok := stream.Device(); ok {
		v.endPending(name)
		v.endAll(v.sessionsOf(name, ""), messages.CloseReason_CLOSE_QUARANTINED, "the device's records cannot be read")
	}
	if id, ok := stream.Certificate(); ok {
		v.distrust(id)
		v.endPendingBy(id, messages.CloseReason_CLOSE_QUARANTINED, "the certificate's records cannot be read")
		v.endAll(v.sessionsWith(id), messages.CloseReason_CLOSE_QUARANTINED, "the certificate's records cannot be read")
	}
	if name, ok := stream.Component(); ok {
		v.endAll(v.sessionsOfComponent(name), messages.CloseReason_CLOSE_QUARANTINED, "the component's records cannot be read")
	}
	if stream == messages.StreamBrokers {
		v.changeBroker(anyBroker, func(BrokerRights) BrokerRights { return BrokerRights{} })
	}
	if stream == messages.StreamBrokers || stream == messages.StreamCA { // whose right was taken back is not known
		v.endAll(v.sessionsOfComponent(""), messages.CloseReason_CLOSE_QUARANTINED, "what operators said of components cannot be read")
	}
	if stream == messages.StreamPolicy {
		v.policy.Store(&policyState{current: emptyPolicy(), seq: v.policy.Load().seq})
	}
}

func (v *Views) poison(stream messages.StreamID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.poisoned[stream] = struct{}{}
}

func (v *Views) refused(stream messages.StreamID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.isPoisoned(stream)
}

// Abandon says that an event Restrict was told of will not be in the log. A policy that
// was about to be in force is not: the former one decides alone again. What other events
// took away stays away until something grants it again.
func (v *Views) Abandon(stream messages.StreamID, e messages.Event) {
	v.abandoned(stream, e)
	if _, ok := e.(*messages.ClockReanchored); ok { // which also lets what is void be so from another moment on
		v.voidBefore(v.voidedOnRecord.Load())
	}
	p, ok := e.(*messages.PolicyReplaced)
	if !ok {
		return
	}
	old := v.policy.Load()
	if old.next != nil && old.next.Revision() == p.Revision {
		v.policy.CompareAndSwap(old, &policyState{current: old.current, seq: old.seq})
	}
}

func (v *Views) policyDecided(e *messages.PolicyReplaced) {
	for {
		old := v.policy.Load()
		if old.current.Revision() == e.Revision || old.next != nil && old.next.Revision() == e.Revision {
			return
		}
		if v.policy.CompareAndSwap(old, &policyState{current: old.current, next: v.compile(e), seq: old.seq}) {
			return
		}
	}
}

func (v *Views) policyReplaced(seq uint64, e *messages.PolicyReplaced) {
	old := v.policy.Load()
	next := old.next
	if next == nil || next.Revision() != e.Revision {
		next = v.compile(e)
	}
	v.policy.Store(&policyState{current: next, seq: seq})
	if h, ok := v.live(); ok && h.PolicyChanged != nil && old.current.Revision() != next.Revision() {
		h.PolicyChanged(seq, next.Revision())
	}
}

// compile reads a policy from the log. It was read before it got there; should this
// program read it otherwise, nothing is allowed.
func (v *Views) compile(e *messages.PolicyReplaced) *policy.Compiled {
	doc, err := policy.Parse(e.Document, policy.Options{})
	if err != nil {
		v.logger.Error("policy in the log cannot be read: everything is denied until another is put in force",
			"policy_revision", e.Revision, "error", err)
		return emptyPolicy()
	}
	return policy.Compile(doc)
}

func (v *Views) configReplaced(e *messages.ConfigReplaced) {
	section, _, err := config.Parse(e.Document, v.section.Load())
	if err != nil {
		v.logger.Error("configuration in the log cannot be read: the former one stays", "error", err)
		return
	}
	v.section.Store(&section)
	v.configured.Store(true)
	if h, ok := v.live(); ok && h.Config != nil {
		h.Config(section)
	}
}

// live returns the hooks, and false during replay.
func (v *Views) live() (Hooks, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.hooks, !v.replaying
}

// Seq is the last record folded in.
func (v *Views) Seq() uint64 { return v.seq.Load() }

// Section is the configuration in force.
func (v *Views) Section() config.Section { return *v.section.Load() }

// Policy is the policy in force.
func (v *Views) Policy() *policy.Compiled { return v.policy.Load().current }

// TrustDurationMs is how long a stored yes counts.
func (v *Views) TrustDurationMs() int64 {
	if ms := v.override.Load(); ms != nil {
		return *ms
	}
	return v.section.Load().Security.TrustDurationMs()
}

// SetTrustDurationMs overrides the configuration's trust duration, whose unit is the
// minute: demonstrations and tests cannot wait that long.
func (v *Views) SetTrustDurationMs(ms int64) { v.override.Store(&ms) }

// CloseOnRevoke reports whether withdrawn trust ends live sessions.
func (v *Views) CloseOnRevoke() bool { return v.section.Load().Sessions.CloseOnRevoke }

// MassRemovalGuard reports whether what a listing would remove must be confirmed by a
// second.
func (v *Views) MassRemovalGuard() bool { return v.section.Load().Refresh.MassRemovalGuard }

// VoidedMs is the moment before which no trust counts; 0: none was voided.
func (v *Views) VoidedMs() int64 { return v.voidedMs.Load() }

// ConnectAllowed says whether the policy in force lets name connect, and which policy.
func (v *Views) ConnectAllowed(name messages.ThingName) (bool, string) {
	p := v.policy.Load()
	allowed := p.current.For(name).ConnectAllowed() && (p.next == nil || p.next.For(name).ConnectAllowed())
	return allowed, p.current.Revision()
}

// String summarises the read models for logs.
func (v *Views) String() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return fmt.Sprintf("%d certificates, %d things, %d sessions at record %d", len(v.certificates), len(v.things), v.table.count(), v.Seq())
}

// HasPolicy reports whether a policy was ever put in force.
func (v *Views) HasPolicy() bool { return v.policy.Load().seq != 0 }

// HasConfig reports whether a configuration was ever put in force.
func (v *Views) HasConfig() bool { return v.configured.Load() }
