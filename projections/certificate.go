package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// CertificateExplanation says why a certificate of the core's authority was issued.
type CertificateExplanation struct {
	Question   string                 `json:"question"`
	Answer     string                 `json:"answer"`
	Subscriber string                 `json:"subscriber"`
	Usage      string                 `json:"usage"`
	Serial     string                 `json:"serial"`
	Former     string                 `json:"former,omitempty"` // serial number of the one before
	Reason     string                 `json:"reason"`           // as it is on record
	AskedBy    string                 `json:"askedBy"`
	Authority  messages.CertificateID `json:"authority"`
	Added      []string               `json:"namesAdded,omitempty"` // since the one before
	Removed    []string               `json:"namesRemoved,omitempty"`
	When       time.Time              `json:"when"`
	Facts      []string               `json:"facts"` // a sentence each
	Advice     string                 `json:"advice,omitempty"`
	Events     []EventRef             `json:"events"` // the records it rests on, oldest first
}

// ErrNoCertificate is wrapped where nothing on record fits the question.
var ErrNoCertificate = errors.New("no such certificate")

// serialDigitsMin is how much of a serial number must be given.
const serialDigitsMin = 6

// StreamReader reads a stream of the log.
type StreamReader interface {
	Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error]
}

// ExplainCertificate explains why a certificate was issued: the one whose serial number
// begins with which, as Gatehouse or OpenSSL spells it, or the latest of the subscriber
// called which.
func ExplainCertificate(ctx context.Context, log StreamReader, which string) (CertificateExplanation, error) {
	target, err := findCertificate(ctx, log, which)
	if err != nil {
		return CertificateExplanation{}, err
	}
	s := story{target: target}
	if err := streamEvents(ctx, log, messages.StreamCA, s.tell); err != nil {
		return CertificateExplanation{}, err
	}
	if usageOf(target) == clientType {
		rights := BrokerRights{Certificates: DefaultCertificates()}
		if err := streamEvents(ctx, log, messages.StreamBrokers, func(e messages.Event, ref EventRef) { s.tellRights(&rights, e, ref) }); err != nil {
			return CertificateExplanation{}, err
		}
	}
	return s.explain(), nil
}

// streamEvents calls f with each event of a stream that this version knows.
func streamEvents(ctx context.Context, log StreamReader, stream messages.StreamID, f func(messages.Event, EventRef)) error {
	for rec, err := range log.Read(ctx, stream, 1) {
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		e, err := messages.FoldEvent(&rec)
		if err != nil {
			return fmt.Errorf("record %d: %w", rec.Seq, err)
		}
		if e != nil {
			f(e, EventRef{Seq: rec.Seq, Kind: rec.Kind.String(), Time: rec.At.Wall()})
		}
	}
	return nil
}

// findCertificate finds the order of the certificate in question.
func findCertificate(ctx context.Context, log StreamReader, which string) (*messages.CertificateOrdered, error) {
	digits := strings.ToLower(strings.ReplaceAll(which, ":", ""))
	serial := len(digits) >= serialDigitsMin && strings.Trim(digits, "0123456789abcdef") == ""
	var ordered, named *messages.CertificateOrdered // the last order; the last issued to a subscriber called which
	var fits []*messages.CertificateOrdered
	err := streamEvents(ctx, log, messages.StreamCA, func(e messages.Event, _ EventRef) {
		switch e := e.(type) {
		case *messages.CertificateOrdered:
			ordered = e
			if serial && (strings.HasPrefix(e.Serial, digits) || strings.HasPrefix(strings.TrimLeft(e.Serial, "0"), strings.TrimLeft(digits, "0"))) && len(fits) < 2 {
				fits = append(fits, e)
			}
		case *messages.CertificateIssued:
			if ordered != nil && ordered.Serial == e.Serial && ordered.Subscriber == which {
				named = ordered
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case named != nil:
		return named, nil
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return nil, fmt.Errorf("%w: more than one begins with %.80q, such as %s and %s; give more digits", ErrNoCertificate, which, fits[0].Serial, fits[1].Serial)
	}
	return nil, fmt.Errorf("%w: on record is neither a subscriber called %.80q nor a serial number that begins so (at least %d digits); see `gatehouse cert list`", ErrNoCertificate, which, serialDigitsMin)
}

// issuance is a certificate with the records of its life.
type issuance struct {
	order                      *messages.CertificateOrdered
	ordered, issued, delivered EventRef
}

// story is what of the log concerns one certificate.
type story struct {
	target    *messages.CertificateOrdered
	it        issuance
	former    issuance // of the same holder
	replaced  EventRef // the next certificate of the same holder, once it was issued
	next      string
	begun     EventRef // its authority was created or imported …
	beginning string   // … why
	known     EventRef // and devices, as far as is known, had it
	addresses EventRef // last changed before
	change    string
	pending   issuance // the holder's last order
	withdrawn EventRef // when an operator took back that it makes an internal component
	right     EventRef // … and when a broker's right to client certificates, unless it has it again
}

func (s *story) sameHolder(o *messages.CertificateOrdered) bool {
	return o.Subscriber == s.target.Subscriber && usageOf(o) == usageOf(s.target)
}

// usageOf is the usage an order is for; those of 0.1.0 do not say.
func usageOf(o *messages.CertificateOrdered) string { return cmp.Or(o.Usage, "SERVER") }

// tell takes the next event in.
func (s *story) tell(e messages.Event, ref EventRef) {
	switch e := e.(type) {
	case *messages.AuthorityCreated:
		s.began(e.Der, ref, "made, reason: "+cmp.Or(e.Reason, "not recorded"))
	case *messages.AuthorityImported:
		if len(e.Chain) > 0 {
			s.began(e.Chain[0], ref, "imported from "+e.CertificateUri)
		}
	case *messages.AuthorityAnnounced:
		s.heard(e.AuthorityId, ref, "an operator said that devices have it: "+e.By)
	case *messages.AuthorityUploaded:
		s.heard(e.AuthorityId, ref, "the cloud has it")
	case *messages.HostAddressesChanged:
		if s.it.ordered.Seq == 0 {
			s.addresses, s.change = ref, fmt.Sprintf("%s: %s", e.Source, cmp.Or(strings.Join(e.Addresses, ", "), "none"))
		}
	case *messages.CertificateOrdered:
		if s.sameHolder(e) {
			s.pending = issuance{order: e, ordered: ref}
			if e.Serial == s.target.Serial {
				s.it = s.pending
			}
		}
	case *messages.CertificateIssued:
		s.issued(e, ref)
	case *messages.ComponentWithdrawn:
		if e.Component == s.target.Subscriber && usageOf(s.target) == clientType && s.it.issued.Seq != 0 && s.withdrawn.Seq == 0 {
			ref.Note = e.Reason
			s.withdrawn = ref
		}
	case *messages.CertificateDelivered:
		if e.Subscriber == s.target.Subscriber && e.Serial == s.target.Serial && s.it.delivered.Seq == 0 {
			s.it.delivered = ref
		}
	}
}

// tellRights takes in what was said of a broker's rights.
func (s *story) tellRights(rights *BrokerRights, e messages.Event, ref EventRef) {
	switch e := e.(type) {
	case *messages.BrokerPermitted:
		if e.Broker == s.target.Subscriber {
			*rights = rights.permitted(e)
		}
	case *messages.BrokerRestricted:
		if e.Broker != s.target.Subscriber {
			return
		}
		*rights = rights.restricted(e)
		if s.right.Seq == 0 && s.it.issued.Seq != 0 && rights.withdraws(e) {
			ref.Note = "the right to client certificates was taken back"
			s.right = ref
		}
	}
}

func (s *story) began(der []byte, ref EventRef, why string) {
	if string(messages.CertificateIDOf(der)) == s.target.AuthorityId && s.it.ordered.Seq == 0 {
		ref.Note = why
		s.begun, s.beginning = ref, why
	}
}

func (s *story) heard(id string, ref EventRef, how string) {
	if id == s.target.AuthorityId && s.it.ordered.Seq == 0 && s.known.Seq == 0 {
		ref.Note = how
		s.known = ref
	}
}

func (s *story) issued(e *messages.CertificateIssued, ref EventRef) {
	if s.pending.order == nil || e.Serial != s.pending.order.Serial || e.Subscriber != s.target.Subscriber {
		return
	}
	s.pending.issued = ref
	switch {
	case e.Serial == s.target.Serial:
		s.it.issued = ref
	case s.it.ordered.Seq == 0:
		s.former = s.pending
	case s.replaced.Seq == 0:
		s.replaced, s.next = ref, e.Serial
	}
}

// explain puts it into words.
func (s *story) explain() CertificateExplanation {
	o := s.target
	x := CertificateExplanation{
		Question:   fmt.Sprintf("why was certificate %.12s… issued to %s (%s)?", o.Serial, o.Subscriber, usageOf(o)),
		Subscriber: o.Subscriber, Usage: usageOf(o), Serial: o.Serial, Reason: o.Reason, Authority: messages.CertificateID(o.AuthorityId), When: s.it.ordered.Time,
	}
	if f := s.former.order; f != nil {
		x.Former = f.Serial
		x.Added, x.Removed = missing(f.Names, o.Names), missing(o.Names, f.Names)
	}
	x.Answer, x.AskedBy = s.why(x)
	x.Facts = s.facts(x)
	switch {
	case s.it.issued.Seq == 0:
		x.Advice = "nothing: an order that is not fulfilled, as after a crash, is replaced by another"
	case s.withdrawn.Seq != 0 || s.right.Seq != 0: // it is of no use any more
	case s.it.delivered.Seq == 0 && s.replaced.Seq == 0:
		x.Advice = "see that its subscriber is connected and takes certificates; it is offered again each minute"
	}
	x.Events = s.events()
	return x
}

// why says why it was issued, and who asked.
func (s *story) why(x CertificateExplanation) (answer, asked string) {
	const plan = "the plan"
	former := s.former.order
	switch words, operator := strings.CutPrefix(x.Reason, "operator: "); {
	case operator:
		return "an operator asked for it: " + words, "an operator"
	case x.Reason == "first" && former == nil:
		return "it is the first on record for this subscriber", "the subscriber"
	case x.Reason == "first":
		return "the subscriber came anew and the former one was not for its key: it has another, or the daemon was restarted, which keeps keys that it made in memory only", "the subscriber"
	case x.Reason == "rotation" && former != nil:
		return fmt.Sprintf("the former one was to end at %s: certificates are renewed 24 hours before their end, or at half of their life if that is later", stamp(former.NotAfterMs)), plan
	case x.Reason == "authority changed":
		return fmt.Sprintf("authority %.12s… issues in place of %.12s…: %s", x.Authority, s.formerAuthority(), s.beginning), plan
	case x.Reason == "addresses changed":
		return fmt.Sprintf("the names and addresses of this core changed: added %s; removed %s", listed(x.Added), listed(x.Removed)), "the plan, since addresses changed (" + s.change + ")"
	}
	return "the reason on record is: " + x.Reason, plan
}

func (s *story) formerAuthority() string {
	if s.former.order == nil {
		return "none"
	}
	return s.former.order.AuthorityId
}

// facts are sentences about it.
func (s *story) facts(x CertificateExplanation) []string {
	o := s.target
	list := []string{
		fmt.Sprintf("serial number %s, valid from %s to %s", o.Serial, stamp(o.NotBeforeMs), stamp(o.NotAfterMs)),
		fmt.Sprintf("signed by authority %.12s… (%s)", x.Authority, s.beginning),
	}
	if usageOf(o) != clientType {
		list = append(list, "names: "+strings.Join(missing([]string{"localhost"}, o.Names), ", ")+" and localhost")
	}
	if f := s.former.order; f != nil {
		list = append(list, fmt.Sprintf("the one before: %s, valid to %s, issued for: %s", f.Serial, stamp(f.NotAfterMs), f.Reason))
	}
	switch {
	case s.it.issued.Seq == 0:
		list = append(list, "it was ordered and never issued")
	case s.it.delivered.Seq == 0:
		list = append(list, "its subscriber has not said that it has it")
	default:
		list = append(list, fmt.Sprintf("its subscriber has it since %s", s.it.delivered.Time.Format("2006-01-02 15:04:05Z")))
	}
	for _, taken := range []EventRef{s.withdrawn, s.right} {
		if taken.Seq != 0 {
			list = append(list, fmt.Sprintf("it makes nobody an internal component since %s: %s", taken.Time.Format("2006-01-02 15:04:05Z"), taken.Note))
		}
	}
	if s.replaced.Seq != 0 {
		list = append(list, fmt.Sprintf("replaced by %s at %s", s.next, s.replaced.Time.Format("2006-01-02 15:04:05Z")))
	}
	return list
}

// events are the records it rests on.
func (s *story) events() []EventRef {
	note := func(r EventRef, text string) EventRef {
		if r.Note == "" {
			r.Note = text
		}
		return r
	}
	all := []EventRef{
		s.begun, s.known, note(s.former.issued, "the one before"), note(s.it.ordered, s.target.Reason),
		s.it.issued, s.it.delivered, note(s.replaced, "the next"), s.withdrawn, s.right,
	}
	if s.target.Reason == "addresses changed" {
		all = append(all, note(s.addresses, s.change))
	}
	all = slices.DeleteFunc(all, func(r EventRef) bool { return r.Seq == 0 })
	slices.SortFunc(all, func(a, b EventRef) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}

// missing lists what of all is not in some.
func missing(some, all []string) (list []string) {
	for _, one := range all {
		if !slices.Contains(some, one) {
			list = append(list, one)
		}
	}
	return list
}

func listed(names []string) string { return cmp.Or(strings.Join(names, ", "), "none") }
