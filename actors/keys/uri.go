package keys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ErrURI is wrapped by every error about a URI that cannot be read.
var ErrURI = errors.New("unusable URI")

const uriBytesMax = 4096

// URIs name an operator's own authority (client-device-auth spec 6.5).
type URIs struct {
	Certificate string // file: or pkcs11:
	PrivateKey  string // file: or pkcs11:
	Chain       string // file:, what is above Certificate; empty: only what Certificate's file holds
}

// Redacted returns u without PIN, for logs and people.
func (u URIs) Redacted() URIs {
	return URIs{redact(u.Certificate), redact(u.PrivateKey), redact(u.Chain)}
}

// pinValue is a PIN as a URI holds it, also one that cannot be parsed.
var pinValue = regexp.MustCompile(`(?i)(pin-value)[^;&]*`)

// redact takes the PIN out of a URI.
func redact(uri string) string { return pinValue.ReplaceAllString(uri, "$1=…") }

// filePath reads a URI file:///path.
func filePath(uri string) (string, error) {
	u, err := parseURI(uri)
	if err != nil {
		return "", err
	}
	path := u.Path
	if u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || !filepath.IsAbs(path) {
		return "", fmt.Errorf("%w: %s: want file:///path, with the whole path", ErrURI, redact(uri))
	}
	return path, nil
}

func parseURI(uri string) (*url.URL, error) {
	if len(uri) > uriBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrURI, len(uri), uriBytesMax)
	}
	u, err := url.Parse(uri)
	if err != nil { // its text holds the URI, and so the PIN
		return nil, fmt.Errorf("%w: %s: it is malformed", ErrURI, redact(uri))
	}
	return u, nil
}

func isPKCS11(uri string) bool {
	return len(uri) >= 7 && strings.EqualFold(uri[:7], "pkcs11:")
}

// token says which PKCS#11 token holds an object.
type token struct {
	Module string `json:"module"`           // path of the PKCS#11 library
	Label  string `json:"token,omitempty"`  // the token's name, or
	Serial string `json:"serial,omitempty"` // its serial number, or
	Slot   string `json:"slot,omitempty"`   // the number of its slot
	PIN    string `json:"pin,omitempty"`
}

// digest tells logins apart.
func (t token) digest() [sha256.Size]byte { return sha256.Sum256(fmt.Appendf(nil, "%q", t)) }

// object is a key or a certificate in a token.
type object struct {
	Token token  `json:"token"`
	Label string `json:"object,omitempty"`
	ID    []byte `json:"id,omitempty"` // any bytes, while the others are UTF-8
}

func (o object) digest() [sha256.Size]byte { return sha256.Sum256(fmt.Appendf(nil, "%q", o)) }

// parsePKCS11 reads a URI of RFC 7512: pkcs11:token=…;object=…;id=…?module-path=…&pin-source=…
// The attributes may stand on either side of the question mark, as go.step.sm/crypto takes
// them; but an id is its bytes, percent-encoded as RFC 7512 section 2.3 has it (id=%01), and never
// hex. pinFile is the file that pin-source names, empty if there is none.
func parsePKCS11(uri string) (o object, pinFile string, err error) {
	u, err := parseURI(uri)
	if err != nil {
		return object{}, "", err
	}
	var id string
	into := map[string]*string{
		"module-path": &o.Token.Module, "token": &o.Token.Label, "serial": &o.Token.Serial, "slot-id": &o.Token.Slot,
		"pin-value": &o.Token.PIN, "pin-source": &pinFile, "object": &o.Label, "id": &id,
	}
	attributes := append(strings.Split(u.Opaque, ";"), strings.Split(u.RawQuery, "&")...)
	for _, attribute := range attributes {
		name, value, _ := strings.Cut(attribute, "=")
		at := into[name]
		if at == nil {
			continue // RFC 7512 section 2.3: what is not known is passed by
		}
		text, err := url.PathUnescape(value)
		if err != nil || *at != "" {
			return object{}, "", fmt.Errorf("%w: %s: attribute %s is malformed or given twice", ErrURI, redact(uri), name)
		}
		if at != &id && !utf8.ValidString(text) { // as PKCS#11 has it, and JSON would change it
			return object{}, "", fmt.Errorf("%w: %s: attribute %s is no UTF-8", ErrURI, redact(uri), name)
		}
		*at = text
	}
	o.ID = []byte(id)
	if !isPKCS11(uri) || o.Label == "" && id == "" {
		return object{}, "", fmt.Errorf("%w: %s: want pkcs11: with object or id", ErrURI, redact(uri))
	}
	if strings.HasPrefix(pinFile, "file:") {
		if pinFile, err = filePath(pinFile); err != nil {
			return object{}, "", err
		}
	}
	return o, pinFile, nil
}
