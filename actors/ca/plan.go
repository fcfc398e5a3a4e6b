package ca

import (
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// RenewAt is when a certificate is due to be renewed: 24 hours before its end or at
// half of its life, whichever is later (design section 9). The reference renews one of
// a day or less at every look (client-device-auth spec 6.3).
func RenewAt(notBefore, notAfter time.Time) time.Time {
	return latest(notAfter.Add(-24*time.Hour), notBefore.Add(notAfter.Sub(notBefore)/2))
}

// The managed authority's own renewal.
const (
	// authorityRenewBefore is how long before its end the managed authority gets a
	// successor: devices that come online rarely must have learnt of it by then.
	authorityRenewBefore = 90 * 24 * time.Hour

	// announceMin is how long a successor is published before it issues, at least;
	// announceMax is when it issues even if not everybody acknowledged it
	// (reliability spec C-I1).
	announceMin = 10 * time.Minute
	announceMax = 7 * 24 * time.Hour
)

// State is what the plan follows from: a fold of stream core/ca and the configuration
// in force.
type State struct {
	Authorities   []Standing // that are not retired, oldest first
	Subscriptions []Subscription
	Settings      Settings
}

// A Standing is an authority and how far it is known.
type Standing struct {
	ID             messages.CertificateID
	Type           string // TypeRSA2048 or TypeECDSAP256; "" for a custom one
	Custom         bool
	NotBefore      time.Time
	NotAfter       time.Time
	Since          time.Time // when it was created or imported
	Acknowledged   bool      // everybody who must trust it has it: uploaded, or an operator says so …
	AcknowledgedAt time.Time // … since then; zero: since it is there
	SignedUntil    time.Time // when the last certificate that it signed ends
	Unusable       bool      // its key is not at hand, so that it cannot issue
}

// A Subscription is a holder of certificates and the last one it got.
type Subscription struct {
	Subscriber string
	Usage      Usage
	Issued     bool // there is a last one, and the fields below say which
	Authority  messages.CertificateID
	NotBefore  time.Time
	NotAfter   time.Time
	Hosts      []Host // it was issued for
}

// Settings is the part of the configuration that the plan needs.
type Settings struct {
	Type              string // of a managed authority's key
	Custom            bool   // the operator brings the authority; it is imported, never made
	RotationDisabled  bool   // certificates.disableCertificateRotation
	Hosts             []Host // names and addresses in force
	CloudConfigured   bool   // authorities are uploaded
	AuthoritiesFrozen bool   // no new authority now, such as while the trusted time is uncertain
}

// Step is one thing that is due.
type Step struct {
	Do         Action
	Authority  messages.CertificateID // retire: which; issue: by which
	Subscriber string                 // issue: to whom
	Usage      Usage                  // issue: for what
	Reason     string                 // as the log holds it
}

// Action is a kind of step.
type Action uint8

// The actions, in the order in which they are done when several are due.
const (
	CreateAuthority  Action = iota + 1 // make a managed authority of the configured type
	IssueCertificate                   // order a certificate for a subscriber
	RetireAuthority                    // nothing it signed is valid any more
)

// Reasons to issue, as CertificateOrdered holds them.
const (
	ReasonFirst     = "first"
	ReasonRotation  = "rotation"
	ReasonAuthority = "authority changed"
	ReasonHosts     = "addresses changed"
)

// Plan says what is due at now, and when to look again if nothing happens before: the
// zero time if never. Doing a step and folding its events removes it from the plan;
// doing none of them loses nothing.
func Plan(s State, now time.Time) (due []Step, next time.Time) {
	p := plan{State: s, now: now}
	p.authorities()
	p.certificates()
	p.retirements()
	slices.SortStableFunc(p.due, func(a, b Step) int { return int(a.Do) - int(b.Do) })
	return p.due, p.next
}

// Issuer returns the authority that issues at now: the newest that was published long
// enough, else the oldest that is still valid, so that what is issued is trusted by
// those who have not heard of the successor. False: there is none.
func (s State) Issuer(now time.Time) (Standing, bool) {
	valid := slices.DeleteFunc(slices.Clone(s.Authorities), func(a Standing) bool {
		return a.Unusable || now.Before(a.NotBefore) || !now.Before(a.NotAfter)
	})
	if len(valid) == 0 {
		return Standing{}, false
	}
	for _, candidate := range slices.Backward(valid) {
		if !now.Before(s.issuesFrom(candidate)) {
			return candidate, true
		}
	}
	return valid[0], true
}

// Waiting returns the newest authority if it is a managed one that will issue, and when it
// will, unless it may already. False: nothing waits.
func (s State) Waiting(now time.Time) (newest Standing, from time.Time, ok bool) {
	if len(s.Authorities) == 0 {
		return Standing{}, time.Time{}, false
	}
	newest = s.Authorities[len(s.Authorities)-1]
	from = s.issuesFrom(newest)
	return newest, from, !newest.Custom && !newest.Unusable && newest.Type == s.Settings.Type && now.Before(from)
}

// issuesFrom is when a was published long enough to issue.
func (s State) issuesFrom(a Standing) time.Time {
	switch {
	case len(s.Authorities) > 0 && s.Authorities[0].ID == a.ID:
		return a.NotBefore // there was none before it
	case a.Acknowledged:
		return earliest(latest(a.Since.Add(announceMin), a.AcknowledgedAt), a.Since.Add(announceMax))
	default:
		return a.Since.Add(announceMax)
	}
}

type plan struct {
	State
	now  time.Time
	due  []Step
	next time.Time
}

// at notes a moment to look again.
func (p *plan) at(moment time.Time) {
	if moment.After(p.now) && (p.next.IsZero() || moment.Before(p.next)) {
		p.next = moment
	}
}

func (p *plan) add(step Step) { p.due = append(p.due, step) }

// authorities plans new ones. They are uploaded by what the book says, beside the plan.
func (p *plan) authorities() {
	if reason := p.newAuthority(); reason != "" && !p.Settings.AuthoritiesFrozen {
		p.add(Step{Do: CreateAuthority, Reason: reason})
	}
	for _, a := range p.Authorities {
		p.at(p.issuesFrom(a))
		p.at(a.NotAfter)
	}
}

// newAuthority says why a managed authority must be made, "" if none must.
func (p *plan) newAuthority() string {
	if p.Settings.Custom {
		return "" // its file says when there is a new one
	}
	if len(p.Authorities) == 0 {
		return ReasonFirst
	}
	newest := p.Authorities[len(p.Authorities)-1]
	renewal := newest.NotAfter.Add(-authorityRenewBefore)
	switch {
	case newest.Custom:
		return "back to a managed authority"
	case newest.Type != p.Settings.Type:
		return "caType changed"
	case p.now.Before(newest.NotBefore):
		return "the former one was made by a clock that was ahead"
	case !p.now.Before(renewal):
		return "the former one ends"
	}
	p.at(renewal)
	return ""
}

// certificates plans what subscribers need.
func (p *plan) certificates() {
	issuer, ok := p.Issuer(p.now)
	if !ok {
		return // first an authority; the fold of its event brings us back
	}
	for _, s := range p.Subscriptions {
		if reason := p.reissue(s, issuer); reason != "" {
			p.add(Step{Do: IssueCertificate, Authority: issuer.ID, Subscriber: s.Subscriber, Usage: s.Usage, Reason: reason})
		}
	}
}

// reissue says why s needs a certificate now, "" if it does not.
func (p *plan) reissue(s Subscription, issuer Standing) string {
	if !s.Issued {
		return ReasonFirst
	}
	if p.Settings.RotationDisabled {
		return "" // client-device-auth spec 1.1: nothing once there is a first one
	}
	// A certificate cut short by the authority's end cannot be renewed into a longer
	// one by the same authority: half of ever shorter lives would be ever more often.
	if p.now.Before(s.NotBefore) { // the clock was ahead, and has been set right
		return ReasonRotation
	}
	if s.Authority == issuer.ID && !s.NotAfter.Before(issuer.NotAfter) {
		p.at(issuer.NotAfter)
	} else if renewal := RenewAt(s.NotBefore, s.NotAfter); !p.now.Before(renewal) {
		return ReasonRotation
	} else {
		p.at(renewal)
	}
	switch {
	case s.Authority != issuer.ID:
		return ReasonAuthority
	case s.Usage.Serves() && !sameHosts(s.Hosts, p.Settings.Hosts):
		return ReasonHosts // client types do not follow addresses (vectors, triggers)
	}
	return ""
}

// retirements plans the end of authorities that have a successor: when the last
// certificate they can have signed has ended (reliability spec C-I1), or they have.
func (p *plan) retirements() {
	issuer, ok := p.Issuer(p.now)
	for i, a := range p.Authorities {
		if i == len(p.Authorities)-1 || ok && a.ID == issuer.ID {
			continue // the newest stays, and so does who issues
		}
		end := earliest(a.NotAfter, p.lastSigned(i))
		if !p.now.Before(end) {
			p.add(Step{Do: RetireAuthority, Authority: a.ID, Reason: "everything it signed has ended"})
			continue
		}
		p.at(end)
	}
}

// lastSigned is when the last certificate that authority i can have signed ends.
func (p *plan) lastSigned(i int) time.Time {
	return latest(p.issuesFrom(p.Authorities[i+1]).Add(ValidityMax), p.Authorities[i].SignedUntil)
}

// sameHosts compares what certificates for a and b would hold.
func sameHosts(a, b []Host) bool {
	left, right := withLocalhost(a), withLocalhost(b)
	return len(left) == len(right) && !slices.ContainsFunc(left, func(h Host) bool { return !slices.Contains(right, h) })
}
