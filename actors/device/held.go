package device

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Attachment is a certificate that belongs to the device.
type Attachment struct {
	Certificate messages.CertificateID
	ConfirmedMs int64 // when last confirmed, trust ms
}

// Session is one live session of a device.
type Session struct {
	Digest      messages.TokenDigest
	Certificate messages.CertificateID
	Broker      messages.BrokerID
	OpenedMs    int64 // trust time
	Pending     bool  // the session of a pending device: it has that group's rights alone, for good
}

// A device holds one certificate and one session, most often: a slice of them takes a
// tenth of a map's memory, and less time. None is written to once it is part of a state.

// attachment is when an attachment was last confirmed, and whether it is held at all.
func (s *Device) attachment(id messages.CertificateID) (ms int64, held bool) {
	for i := range s.Attachments {
		if s.Attachments[i].Certificate == id {
			return s.Attachments[i].ConfirmedMs, true
		}
	}
	return 0, false
}

// live reports whether a session is one of the device's.
func (s *Device) live(d messages.TokenDigest) bool {
	return slices.ContainsFunc(s.Sessions, func(x Session) bool { return x.Digest == d })
}

// shared is id in the memory of the attachment of that name, if it is held: an event's own
// copy need not be kept.
func (s *Device) shared(id string) messages.CertificateID {
	for i := range s.Attachments {
		if string(s.Attachments[i].Certificate) == id {
			return s.Attachments[i].Certificate
		}
	}
	return messages.CertificateID(id)
}

// withAttachment is list with a, in the place of an attachment of the same certificate, by name.
func withAttachment(list []Attachment, a Attachment) []Attachment {
	return inserted(withoutAttachment(list, a.Certificate), a, func(x, y Attachment) int { return cmp.Compare(x.Certificate, y.Certificate) })
}

func withoutAttachment(list []Attachment, id messages.CertificateID) []Attachment {
	return without(list, func(a Attachment) bool { return a.Certificate == id })
}

// withSession is list with s, in the place of a session of the same digest, oldest first; the
// digest breaks ties, so that the same events always give the same list.
func withSession(list []Session, s Session) []Session {
	return inserted(withoutSession(list, s.Digest), s, func(x, y Session) int {
		return cmp.Or(cmp.Compare(x.OpenedMs, y.OpenedMs), slices.Compare(x.Digest[:], y.Digest[:]))
	})
}

func withoutSession(list []Session, d messages.TokenDigest) []Session {
	return without(list, func(s Session) bool { return s.Digest == d })
}

// without is list without what is gone: list itself if nothing is.
func without[T any](list []T, gone func(T) bool) []T {
	if !slices.ContainsFunc(list, gone) {
		return list
	}
	if len(list) == 1 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(list), gone)
}

// inserted is a new list, with x in its place.
func inserted[T any](list []T, x T, order func(a, b T) int) []T {
	i, _ := slices.BinarySearchFunc(list, x, order)
	all := make([]T, 0, len(list)+1)
	return append(append(append(all, list[:i]...), x), list[i:]...)
}
