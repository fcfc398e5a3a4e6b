package projections

import (
	"container/heap"
	"math"
	"slices"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// never is a confirmation that was not given, or was taken back.
const never = math.MinInt64

// basis is something that sessions rest on: a certificate, or its attachment to a
// thing. Authorization reads when it was last confirmed; the keeper is told when that is
// too long ago.
type basis struct {
	confirmedMs atomic.Int64 // trust time; never: nobody vouches for it
	watch       *watch       // guarded by Views.mu; nil: no live session rests on it
}

// endMs is when trust in b ends; never if it does not count now.
func (b *basis) endMs(trust messages.Trust) int64 {
	ms := b.confirmedMs.Load()
	if ms == never || ms < trust.SinceMs {
		return never
	}
	return ms + trust.DurationMs
}

// watch is a basis on the agenda: live sessions rest on it. Guarded by Views.mu.
type watch struct {
	basis       *basis
	thing       messages.ThingName // empty: the basis is the certificate itself
	certificate messages.CertificateID
	notAfterMs  *atomic.Int64
	pending     *pending // whose basis it is; nil: a certificate's or an attachment's
	sessions    int      // that rest on it
	askedMs     int64    // when it was last handed out to be asked about
	toldMs      int64    // when it was last handed out to be closed
	renew, end  entry[watch]
}

// agenda says what is due about live sessions without looking at all of them: every
// basis waits in two queues, for the moment to ask the cloud again and for the moment its
// trust ends. Guarded by Views.mu.
type agenda struct {
	rules                           rules
	nowMs                           int64  // of the last Due
	watches                         uint32 // so far; numbers them
	certificates, attachments, ends queue[watch]
}

// rules are what the moments follow from. When they change, all are worked out again.
type rules struct {
	trust         messages.Trust
	ageMs         int64
	closeOnRevoke bool
}

const (
	// tellAgainMs is how long a closing that was handed out may take before it is handed
	// out again.
	tellAgainMs = 1000
	// lapsedMax bounds one list of what to close.
	lapsedMax = 1024
)

// retryMs is how long after asking to ask again when no confirmation came of it: four
// times before trust ends, unless rechecks are to be more frequent anyway.
func (r *rules) retryMs() int64 { return max(min(r.trust.DurationMs/8, r.ageMs), 1) }

func (r *rules) renewMs(w *watch) int64 {
	ms := w.basis.confirmedMs.Load()
	switch {
	case ms == never, w.pending != nil:
		return math.MaxInt64 // no entity holds it, or the registrar's business: there is nothing to renew
	case ms < r.trust.SinceMs:
		return w.askedMs + r.retryMs() // it does not count: renew it now
	default:
		return max(ms+r.ageMs, w.askedMs+r.retryMs())
	}
}

func (r *rules) endMs(w *watch) int64 {
	end := w.notAfterMs.Load() + 1 // notAfter itself is still valid
	switch {
	case w.pending != nil:
		end = w.pending.pendingEndMs(r.trust)
	case r.closeOnRevoke:
		end = min(end, w.basis.endMs(r.trust))
	}
	return max(end, w.toldMs+tellAgainMs)
}

// use puts the rules of the moment in force.
func (a *agenda) use(r rules) {
	if r == a.rules {
		return
	}
	a.rules = r
	for _, e := range a.ends {
		e.of.renew.at, e.of.end.at = r.renewMs(e.of), r.endMs(e.of)
	}
	heap.Init(&a.certificates)
	heap.Init(&a.attachments)
	heap.Init(&a.ends)
}

// forgetTimes forgets when things were handed out, in a time that is still to come: what
// is due would wait for it.
func (a *agenda) forgetTimes() {
	for _, e := range a.ends {
		e.of.askedMs, e.of.toldMs = never, never
	}
	a.rules = rules{} // so that use works all moments out again
}

func (a *agenda) renewals(w *watch) *queue[watch] {
	if w.thing == "" {
		return &a.certificates
	}
	return &a.attachments
}

// rest counts a session that rests on b.
func (a *agenda) rest(b *basis, thing messages.ThingName, id messages.CertificateID, notAfterMs *atomic.Int64) {
	if b.watch == nil {
		w := &watch{basis: b, thing: thing, certificate: id, notAfterMs: notAfterMs, askedMs: never, toldMs: never}
		a.watches++
		w.renew = entry[watch]{of: w, at: a.rules.renewMs(w), number: a.watches}
		w.end = entry[watch]{of: w, at: a.rules.endMs(w), number: a.watches}
		b.watch = w
		heap.Push(a.renewals(w), &w.renew)
		heap.Push(&a.ends, &w.end)
	}
	b.watch.sessions++
}

// restPending counts a session that rests on the admission p.
func (a *agenda) restPending(p *pending) {
	a.rest(&p.basis, p.thing, p.certificate, &p.notAfterMs)
	if w := p.watch; w.pending == nil {
		w.pending = p
		a.changed(&p.basis)
	}
}

// leave counts a session off.
func (a *agenda) leave(b *basis) {
	w := b.watch
	if w.sessions--; w.sessions == 0 {
		heap.Remove(a.renewals(w), int(w.renew.place))
		heap.Remove(&a.ends, int(w.end.place))
		b.watch = nil
	}
}

// changed works out b's moments again.
func (a *agenda) changed(b *basis) {
	w := b.watch
	if w == nil {
		return
	}
	w.renew.at, w.end.at = a.rules.renewMs(w), a.rules.endMs(w)
	heap.Fix(a.renewals(w), int(w.renew.place))
	heap.Fix(&a.ends, int(w.end.place))
}

// Due lists what there is to do about live sessions: whose trust is older than ageMs or
// does not count, the longest due first and at most limit of each kind, and whose trust
// has ended. What it listed it lists again only after a while. It costs what it lists,
// not what is live.
func (v *Views) Due(trust messages.Trust, nowMs, ageMs int64, limit int) messages.DueWork {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.agenda
	if nowMs < a.nowMs {
		a.forgetTimes() // the clock was set back
	}
	a.nowMs = nowMs
	a.use(rules{trust: trust, ageMs: ageMs, closeOnRevoke: v.CloseOnRevoke()})
	var due messages.DueWork
	for _, w := range a.ask(&a.certificates, nowMs, limit) {
		due.Certificates = append(due.Certificates, messages.RecheckCertificate{Certificate: w.certificate})
	}
	for _, w := range a.ask(&a.attachments, nowMs, limit) {
		due.Attachments = append(due.Attachments, messages.RecheckAttachment{Thing: w.thing, Certificate: w.certificate})
	}
	for len(due.Lapsed) < lapsedMax && len(a.ends) > 0 && a.ends[0].at <= nowMs {
		w := a.ends[0].of
		if a.rules.endMs(w) > nowMs { // its moment moved on
			a.changed(w.basis)
			continue
		}
		w.toldMs = nowMs
		a.changed(w.basis)
		due.Lapsed = v.closings(due.Lapsed, w, nowMs)
	}
	due.Lapsed = v.expiredComponents(due.Lapsed, nowMs)
	return due
}

// NextDueMs is when, by the rules of the last Due, there is something for the next one to list
// (trust time, ms); in a time far away if nothing is. What changes in between may be due sooner.
func (v *Views) NextDueMs() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	next := int64(math.MaxInt64)
	for _, q := range []queue[watch]{v.agenda.certificates, v.agenda.attachments, v.agenda.ends} {
		if len(q) > 0 {
			next = min(next, q[0].at)
		}
	}
	return next
}

// ask takes what is due from q.
func (a *agenda) ask(q *queue[watch], nowMs int64, limit int) []*watch {
	var list []*watch
	for len(list) < limit && len(*q) > 0 && (*q)[0].at <= nowMs {
		w := (*q)[0].of
		w.askedMs = nowMs
		a.changed(w.basis)
		list = append(list, w)
	}
	return list
}

// closings lists the orders that end the sessions resting on w; mu is held.
func (v *Views) closings(list []messages.CloseSessions, w *watch, nowMs int64) []messages.CloseSessions {
	c := messages.CloseSessions{
		Thing: w.thing, Certificate: w.certificate,
		Reason: messages.CloseReason_CLOSE_TRUST_LAPSED, Detail: "trust lapsed while the cloud was away",
	}
	if w.pending != nil {
		c.Reason, c.Detail = messages.CloseReason_CLOSE_PENDING_ENDED, w.pending.why(v.agenda.rules.trust, nowMs)
		return append(list, c)
	}
	switch confirmed := w.basis.confirmedMs.Load(); {
	case nowMs > w.notAfterMs.Load():
		c.Reason, c.Detail = messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED, "the certificate has expired"
	case confirmed == never && w.thing == "":
		c.Reason, c.Detail = messages.CloseReason_CLOSE_CERTIFICATE_REFUSED, "the certificate was refused"
	case confirmed == never:
		c.Reason, c.Detail = messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN, "the certificate no longer belongs to the thing"
	}
	if w.thing != "" {
		return append(list, c)
	}
	names := make([]messages.ThingName, 0, 1)
	for _, s := range v.certificates[w.certificate].sessions {
		names = append(names, s.Thing)
	}
	slices.Sort(names)
	for _, c.Thing = range slices.Compact(names) {
		list = append(list, c)
	}
	return list
}
