package projections

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// pair is a thing and a certificate it is connected with, and when one of its two
// answers was last given.
type pair struct {
	thing       messages.ThingName
	certificate messages.CertificateID
	ms          int64
}

func older(a, b pair) int {
	return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.thing, b.thing), cmp.Compare(a.certificate, b.certificate))
}

// Due lists the live sessions whose trust is older than ageMs, oldest first and at most
// limit of each kind, and those whose trust has ended.
func (v *Views) Due(trust messages.Trust, nowMs, ageMs int64, limit int) messages.DueWork {
	var certificates, attachments, lapsed []pair
	for _, s := range v.table.all() {
		if ms := s.cert.verifiedMs.Load(); nowMs-ms >= ageMs {
			certificates = append(certificates, pair{certificate: s.Certificate, ms: ms})
		}
		if ms := s.attachedMs.Load(); nowMs-ms >= ageMs {
			attachments = append(attachments, pair{s.Thing, s.Certificate, ms})
		}
		if !v.trusted(s, trust, nowMs) {
			lapsed = append(lapsed, pair{s.Thing, s.Certificate, 0})
		}
	}
	var due messages.DueWork
	for _, p := range firsts(certificates, limit) {
		due.Certificates = append(due.Certificates, messages.RecheckCertificate{Certificate: p.certificate})
	}
	for _, p := range firsts(attachments, limit) {
		due.Attachments = append(due.Attachments, messages.RecheckAttachment{Thing: p.thing, Certificate: p.certificate})
	}
	for _, p := range firsts(lapsed, len(lapsed)) {
		due.Lapsed = append(due.Lapsed, v.closeLapsed(p, nowMs))
	}
	return due
}

func (v *Views) closeLapsed(p pair, nowMs int64) messages.CloseSessions {
	c := messages.CloseSessions{
		Thing: p.thing, Certificate: p.certificate,
		Reason: messages.CloseReason_CLOSE_TRUST_LAPSED, Detail: "trust lapsed while the cloud was away",
	}
	if nowMs >= v.CertificateTrust(p.certificate).NotAfterMs {
		c.Reason, c.Detail = messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED, "the certificate has expired"
	}
	return c
}

// firsts sorts the pairs, oldest first, and returns the first limit different ones.
func firsts(pairs []pair, limit int) []pair {
	slices.SortFunc(pairs, older)
	pairs = slices.Compact(pairs)
	return pairs[:min(limit, len(pairs))]
}
