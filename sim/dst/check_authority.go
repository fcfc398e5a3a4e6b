package dst

import (
	"bytes"
	"crypto/x509"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// authorityView is what the observer knows of the core's authority and its certificates.
type authorityView struct {
	ordered map[string]bool   // serial numbers
	issued  map[string][]byte // certificates on record, by serial number
	serves  []servedView      // by broker
}

// servedView is the certificate that a broker shows.
type servedView struct {
	from, to time.Time
	since    time.Duration
}

func newAuthorityView(brokers int) authorityView {
	return authorityView{ordered: map[string]bool{}, issued: map[string][]byte{}, serves: make([]servedView, brokers)}
}

// serialDigitsMin are the hex digits of 64 random bits.
const serialDigitsMin = 16

// issuance takes in what is on record of certificates.
func (o *observer) issuance(rec *messages.Record, e messages.Event) {
	v := &o.authority
	switch e := e.(type) {
	case *messages.CertificateOrdered:
		o.hold("C-I2", !v.ordered[e.Serial] && len(e.Serial) >= serialDigitsMin, "record %d orders a certificate with serial number %q again, or a short one", rec.Seq, e.Serial)
		v.ordered[e.Serial] = true
	case *messages.CertificateIssued:
		former := v.issued[e.Serial]
		o.hold("C-I2", v.ordered[e.Serial] && (former == nil || bytes.Equal(former, e.Der)), "record %d issues serial number %s, which was not ordered, or was issued before", rec.Seq, e.Serial)
		v.issued[e.Serial] = e.Der
	}
}

// Serves implements Witness.
func (o *observer) Serves(broker int, chain, bundle [][]byte) {
	leaf, err := x509.ParseCertificate(chain[0])
	if !o.hold("C-I1", err == nil, "%s shows what is no certificate: %v", BrokerOf(broker), err) {
		return
	}
	o.hold("C-I2", o.onRecord(chain[0]), "%s shows a certificate with serial number %x that is not on record", BrokerOf(broker), leaf.SerialNumber)
	o.hold("C-I1", chains(chain, bundle), "%s shows a certificate whose authority devices were not given", BrokerOf(broker))
	o.authority.serves[broker] = servedView{leaf.NotBefore, leaf.NotAfter, o.now()}
}

func (o *observer) onRecord(der []byte) bool {
	for _, issued := range o.authority.issued {
		if bytes.Equal(issued, der) {
			return true
		}
	}
	return false
}

// chains reports whether a chain leads to a certificate of the bundle.
func chains(chain, bundle [][]byte) bool {
	var below *x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil || below != nil && below.CheckSignatureFrom(c) != nil {
			return false
		}
		below = c
		for _, der := range bundle {
			if root, err := x509.ParseCertificate(der); err == nil && below.CheckSignatureFrom(root) == nil {
				return true
			}
		}
	}
	return false
}

// current holds the certificates that brokers show against the time, once all is well.
func (o *observer) current() {
	now := Beginning.Add(o.now())
	for broker, s := range o.authority.serves {
		if s.to.IsZero() {
			continue
		}
		left, whole := s.to.Sub(now), s.to.Sub(s.from)
		o.hold("L5", left >= whole/10, "%s shows a certificate of %v with %v left", BrokerOf(broker), whole, left)
	}
}
