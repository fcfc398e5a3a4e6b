package authapi

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// CertificateType is what a certificate is for.
type CertificateType string

// The types. A broker may ask for the first; the others let their holder act as an internal
// component, or as server and client at once, and are an operator's to grant.
const (
	CertificateServer          CertificateType = "SERVER"
	CertificateClient          CertificateType = "CLIENT"
	CertificateClientAndServer CertificateType = "CLIENT_AND_SERVER"
)

// CertificateTypes lists every type.
func CertificateTypes() []CertificateType {
	return []CertificateType{CertificateServer, CertificateClient, CertificateClientAndServer}
}

// ParseCertificateType reads a type as the wire spells it.
func ParseCertificateType(s string) (CertificateType, error) {
	switch t := CertificateType(s); t {
	case CertificateServer, CertificateClient, CertificateClientAndServer:
		return t, nil
	}
	return "", fmt.Errorf("certificate type %.40q, want SERVER, CLIENT or CLIENT_AND_SERVER", s)
}

const (
	// MaxAuthorities is how many certificates a list of authorities holds at most.
	MaxAuthorities = 64
	// serialDigits is the length of a serial number: 20 bytes in hex, the first bit 0.
	serialDigits = 40
	// curveKeyBytes is the length of a public nkeys curve key, which begins with X.
	curveKeyBytes = 56
)

// CertificatesRequest asks for the broker's current certificate of one type, and says
// which it has in use. Exactly one of CertificateSigningRequest and SealTo says whose key
// the certificate is for.
type CertificatesRequest struct {
	CertificateOptions CertificateOptions `json:"certificateOptions"`
	// CertificateSigningRequest is a PKCS #10 request in PEM, at most MaxCertificateBytes.
	// What counts in it is the key, and the proof that the broker holds its other half.
	CertificateSigningRequest string `json:"certificateSigningRequest,omitempty"`
	// SealTo is a public nkeys curve key ("X…"): the daemon makes the key and sends it
	// sealed to that one.
	SealTo string `json:"sealTo,omitempty"`
	// Held is the serial number of the certificate in use; empty: none.
	Held string `json:"held,omitempty"`
}

// CertificateOptions says what kind of certificate is wanted.
type CertificateOptions struct {
	CertificateType CertificateType `json:"certificateType"`
}

// ParseCertificatesRequest reads the body of a certificates request.
func ParseCertificatesRequest(body []byte) (CertificatesRequest, error) {
	var q CertificatesRequest
	kind := ""
	err := decode(body,
		field{"certificateOptions", object(field{"certificateType", text(&kind)})},
		field{"certificateSigningRequest", text(&q.CertificateSigningRequest)},
		field{"sealTo", text(&q.SealTo)},
		field{"held", text(&q.Held)},
	)
	if err != nil {
		return CertificatesRequest{}, invalid(err)
	}
	if err := require("certificateOptions.certificateType", kind); err != nil {
		return CertificatesRequest{}, err
	}
	if q.CertificateOptions.CertificateType, err = ParseCertificateType(kind); err == nil {
		err = q.check()
	}
	if err != nil {
		return CertificatesRequest{}, invalid(err)
	}
	return q, nil
}

func (q CertificatesRequest) check() error {
	switch {
	case (q.CertificateSigningRequest == "") == (q.SealTo == ""):
		return errors.New("want either certificateSigningRequest or sealTo")
	case len(q.CertificateSigningRequest) > MaxCertificateBytes:
		return fmt.Errorf("certificateSigningRequest is %d bytes, want at most %d", len(q.CertificateSigningRequest), MaxCertificateBytes)
	case q.SealTo != "" && !isCurveKey(q.SealTo):
		return fmt.Errorf("sealTo %.60q, want a public nkeys curve key: %d characters that begin with X", q.SealTo, curveKeyBytes)
	case q.Held != "" && !isSerial(q.Held):
		return fmt.Errorf("held %.60q, want a serial number: %d lower-case hex digits", q.Held, serialDigits)
	}
	return nil
}

// CertificateUpdate is a certificate and what belongs to it, in a certificates reply and
// in a certificate-updated push.
type CertificateUpdate struct {
	CertificateType CertificateType `json:"certificateType"`
	Certificate     string          `json:"certificate"` // PEM, the broker's own alone
	// CACertificates is the chain above it in PEM, the issuing authority first: what the
	// broker sends in its TLS handshakes behind its own.
	CACertificates []string `json:"caCertificates"`
	// TrustBundle is all that clients may have to trust, in PEM: while one authority
	// follows another, both.
	TrustBundle  []string  `json:"trustBundle"`
	SerialNumber string    `json:"serialNumber"` // 40 lower-case hex digits
	NotAfter     time.Time `json:"notAfter"`
	// SealedPrivateKey is the PKCS #8 key in PEM, sealed (nkeys xkv1) by SealedBy to the
	// SealTo of the broker's request, in base64. Empty: the key is the broker's own.
	SealedPrivateKey string `json:"sealedPrivateKey,omitempty"`
	SealedBy         string `json:"sealedBy,omitempty"` // public nkeys curve key, new each time
}

// CertificatesReply answers certificates.
type CertificatesReply struct {
	CertificateUpdate
	// AskAgainSeconds is when to ask again at the latest: a broker that has not asked for
	// five times as long is taken for gone, and gets no further certificates.
	AskAgainSeconds uint64 `json:"askAgainSeconds"`
}

// ParseCertificatesReply reads the body of a certificates reply.
func ParseCertificatesReply(body []byte) (CertificatesReply, error) {
	var a CertificatesReply
	err := decode(body, append(a.fields(), field{"askAgainSeconds", count(&a.AskAgainSeconds)})...)
	if err == nil {
		err = a.CertificateUpdate.check()
	}
	if err == nil && a.AskAgainSeconds == 0 {
		err = errors.New("no askAgainSeconds")
	}
	if err != nil {
		return CertificatesReply{}, fmt.Errorf("certificates reply: %w", err)
	}
	return a, nil
}

func (u *CertificateUpdate) fields() []field {
	return []field{
		{"certificateType", text((*string)(&u.CertificateType))},
		{"certificate", text(&u.Certificate)},
		{"caCertificates", texts(&u.CACertificates, MaxAuthorities)},
		{"trustBundle", texts(&u.TrustBundle, MaxAuthorities)},
		{"serialNumber", text(&u.SerialNumber)},
		{"notAfter", instant(&u.NotAfter)},
		{"sealedPrivateKey", text(&u.SealedPrivateKey)},
		{"sealedBy", text(&u.SealedBy)},
	}
}

func (u *CertificateUpdate) check() error {
	if _, err := ParseCertificateType(string(u.CertificateType)); err != nil {
		return err
	}
	switch {
	case u.Certificate == "":
		return errors.New("no certificate")
	case len(u.CACertificates) == 0 || len(u.TrustBundle) == 0:
		return errors.New("no caCertificates or no trustBundle")
	case !isSerial(u.SerialNumber):
		return fmt.Errorf("serialNumber %.60q, want %d lower-case hex digits", u.SerialNumber, serialDigits)
	case u.NotAfter.IsZero():
		return errors.New("no notAfter")
	case (u.SealedPrivateKey == "") != (u.SealedBy == ""):
		return errors.New("sealedPrivateKey and sealedBy come together")
	}
	return nil
}

// texts returns the sink of a list of at most limit strings, none empty.
func texts(p *[]string, limit int) sink {
	return list(func(r *reader) error {
		var s string
		if err := text(&s)(r); err != nil {
			return err
		}
		switch {
		case s == "":
			return errors.New("want strings that are not empty")
		case len(*p) == limit:
			return fmt.Errorf("more than %d", limit)
		}
		*p = append(*p, s)
		return nil
	})
}

func isSerial(s string) bool {
	return len(s) == serialDigits && strings.Trim(s, "0123456789abcdef") == ""
}

// isCurveKey judges the form; the checksum is judged when something is sealed to it.
func isCurveKey(s string) bool {
	return len(s) == curveKeyBytes && s[0] == 'X' && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
