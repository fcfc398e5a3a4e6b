package authapi

import (
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// MaxCertificateBytes is the longest text of a certificate, PEM or base64.
const MaxCertificateBytes = 16 << 10

// ErrBadCertificate says that a text is well formed as a request but holds no
// certificate. To verify that is a plain "no", to token and authenticate
// InvalidCredential (client-device-auth spec 7.2: "a bad certificate body is false,
// not an error").
var ErrBadCertificate = errors.New("not a certificate")

const (
	pemHeader = "-----BEGIN CERTIFICATE-----"
	pemBegin  = "-----BEGIN "
)

// CertificateDER returns the DER of the one certificate in text: PEM, or the base64
// of the DER without a header, as EMQX sends it. The DER is one complete ASN.1
// sequence with nothing after it; whether it is an X.509 certificate is for the judge
// to say, who has to parse it anyway.
//
// The error is an InvalidArguments refusal where the request is at fault (too long,
// several certificates, undecodable base64) or wraps ErrBadCertificate where the
// certificate is.
func CertificateDER(text string) ([]byte, error) {
	if len(text) > MaxCertificateBytes {
		return nil, invalid(fmt.Errorf("certificate is %d bytes, want at most %d", len(text), MaxCertificateBytes))
	}
	text = strings.TrimSpace(text)
	var der []byte
	var err error
	if strings.HasPrefix(text, pemHeader) {
		der, err = fromPEM(text)
	} else {
		der, err = lenientBase64(text)
	}
	if err != nil {
		return nil, err
	}
	var whole asn1.RawValue
	rest, err := asn1.Unmarshal(der, &whole)
	if err != nil || len(rest) != 0 || whole.Class != asn1.ClassUniversal || whole.Tag != asn1.TagSequence || !whole.IsCompound {
		return nil, fmt.Errorf("%w: want one complete DER sequence", ErrBadCertificate)
	}
	return der, nil
}

// fromPEM takes exactly one block: the leaf. A broker that sends a chain would have
// the core judge a certificate that may not be the one its TLS layer checked.
func fromPEM(text string) ([]byte, error) {
	if n := strings.Count(text, pemBegin); n > 1 {
		return nil, invalid(fmt.Errorf("certificate holds %d PEM blocks, want the client's own certificate alone", n))
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(block.Headers) != 0 {
		return nil, fmt.Errorf("%w: bad PEM block", ErrBadCertificate)
	}
	if len(strings.TrimSpace(string(rest))) != 0 {
		return nil, invalid(errors.New("certificate is followed by other text"))
	}
	return block.Bytes, nil
}

// lenientBase64 decodes as Java's MIME decoder does: characters outside the alphabet
// are skipped and padding may be missing, but a rest of one character, wrong padding
// and text after it are errors (client-device-auth spec 7.2).
func lenientBase64(text string) ([]byte, error) {
	if der, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && len(der) > 0 {
		return der, nil // as it should be, without a look at each character
	}
	kept := make([]byte, 0, len(text))
	pads, afterPad := 0, false
	for i := range len(text) {
		c := text[i]
		switch {
		case c == '=':
			pads++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/':
			afterPad = afterPad || pads > 0
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 || len(kept)%4 == 1 || afterPad || (pads > 0 && pads != (4-len(kept)%4)%4) {
		return nil, invalid(errors.New("certificate is neither PEM nor base64"))
	}
	der, err := base64.RawStdEncoding.DecodeString(string(kept))
	if err != nil {
		return nil, invalid(errors.New("certificate is neither PEM nor base64"))
	}
	return der, nil
}
