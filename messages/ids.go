package messages

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// ErrInvalidID is wrapped by every identifier parser's error.
var ErrInvalidID = errors.New("invalid identifier")

// Limits of identifiers, in bytes.
const (
	thingNameMaxBytes = 128 // client-device-auth spec 5.2, rule 1 (#428)
	brokerIDMaxBytes  = 64  // one NATS subject token
	tokenBytes        = 32  // random bytes behind a token: 256 bits
)

// ThingName names a client device, as the cloud spells it, and is its MQTT client
// id: 1–128 of [A-Za-z0-9:_-] (client-device-auth spec 5.2, rule 3).
type ThingName string

// ParseThingName checks s and returns it as a ThingName.
func ParseThingName(s string) (ThingName, error) {
	if s == "" || len(s) > thingNameMaxBytes {
		return "", fmt.Errorf("thing name: %w: %d bytes, want 1 to %d", ErrInvalidID, len(s), thingNameMaxBytes)
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != ':' && c != '_' && c != '-' {
			return "", fmt.Errorf("thing name: %w: byte %d is %q, want a letter, a digit, ':', '_' or '-'", ErrInvalidID, i, c)
		}
	}
	return ThingName(s), nil
}

// componentNameMaxBytes is RFC 5280's bound of a common name (appendix A.1).
const componentNameMaxBytes = 64

// ComponentName names an internal component, such as the MQTT bridge: the common name of
// the client certificate that the local authority issued to it, 1–64 of [A-Za-z0-9._:-],
// beginning with a letter or a digit (client-device-auth spec 4.1).
type ComponentName string

// ParseComponentName checks s and returns it as a ComponentName.
func ParseComponentName(s string) (ComponentName, error) {
	if s == "" || len(s) > componentNameMaxBytes {
		return "", fmt.Errorf("component name: %w: %d bytes, want 1 to %d", ErrInvalidID, len(s), componentNameMaxBytes)
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || c != '.' && c != '_' && c != ':' && c != '-') {
			return "", fmt.Errorf("component name: %w: byte %d is %q, want a letter, a digit, '.', '_', ':' or '-'", ErrInvalidID, i, c)
		}
	}
	return ComponentName(s), nil
}

// CertificateID is the lower-case hex SHA-256 of a certificate's DER
// (client-device-auth spec 5).
type CertificateID string

// ParseCertificateID checks s and returns it as a CertificateID.
func ParseCertificateID(s string) (CertificateID, error) {
	if len(s) != 2*sha256.Size {
		return "", fmt.Errorf("certificate id: %w: %d characters, want %d", ErrInvalidID, len(s), 2*sha256.Size)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("certificate id: %w: character %d is %q, want lower-case hex", ErrInvalidID, i, c)
		}
	}
	return CertificateID(s), nil
}

// CertificateIDOf derives the id of the certificate whose DER encoding is der.
func CertificateIDOf(der []byte) CertificateID {
	sum := sha256.Sum256(der)
	var text [2 * len(sum)]byte // on the stack: one copy becomes the id
	hex.Encode(text[:], sum[:])
	return CertificateID(text[:])
}

// BrokerID names a broker: one NATS subject token, 1–64 of [A-Za-z0-9_-].
type BrokerID string

// ParseBrokerID checks s and returns it as a BrokerID.
func ParseBrokerID(s string) (BrokerID, error) {
	if s == "" || len(s) > brokerIDMaxBytes {
		return "", fmt.Errorf("broker id: %w: %d bytes, want 1 to %d", ErrInvalidID, len(s), brokerIDMaxBytes)
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' && c != '-' {
			return "", fmt.Errorf("broker id: %w: byte %d is %q, want a letter, a digit, '_' or '-'", ErrInvalidID, i, c)
		}
	}
	return BrokerID(s), nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// tokenPrefix lets secret scanners find a leaked token.
const tokenPrefix = "gh1_"

// Token is a client device auth token: the bearer's proof of one session. It is a
// secret: it never enters the log, and printing it prints its digest's first bytes.
type Token string

// TokenDigest is the SHA-256 of a token, the form in which the log and the read
// models know it.
type TokenDigest [sha256.Size]byte

// NewToken makes a token from 32 fresh random bytes.
func NewToken() Token {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails: it crashes the program instead.
	return TokenFrom(b)
}

// TokenFrom makes the token whose random part is b: 256 bits that the caller drew
// from a secure source and uses for nothing else.
func TokenFrom(b [tokenBytes]byte) Token {
	var text [len(tokenPrefix) + (tokenBytes*8+5)/6]byte
	copy(text[:], tokenPrefix)
	base64.RawURLEncoding.Encode(text[len(tokenPrefix):], b[:])
	return Token(text[:])
}

// Digest returns the form of t that may be stored.
func (t Token) Digest() TokenDigest {
	var text [64]byte // longer than a token
	return sha256.Sum256(append(text[:0], t...))
}

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.Digest().Short()) }

// String keeps the secret out of error texts; convert with string(t) to spell it.
func (t Token) String() string { return "token " + t.Digest().Short() }

// Format keeps the secret out of what fmt prints, whatever the verb: %#v and a wrong
// verb (%d) would spell a mere Stringer's value. What no method can keep is a Token in
// an unexported field of a struct that is printed whole.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText keeps the secret out of JSON, above all out of structs that a JSON log
// handler spells. The wire's types (authapi) carry tokens as plain strings.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Short names the digest in twelve hex digits, for people.
func (d TokenDigest) Short() string { return hex.EncodeToString(d[:6]) }

// String returns the digest in lower-case hex.
func (d TokenDigest) String() string { return hex.EncodeToString(d[:]) }

// StreamID names an entity's stream: "certificate/<id>", "device/<thing>",
// "component/<name>" or "core/<name>" with one of the core names below.
type StreamID string

// The core's own streams.
const (
	StreamPolicy      StreamID = "core/policy"
	StreamConfig      StreamID = "core/config"
	StreamCA          StreamID = "core/ca"
	StreamSync        StreamID = "core/sync"
	StreamClock       StreamID = "core/clock"
	StreamCredentials StreamID = "core/credentials"
	StreamLifecycle   StreamID = "core/lifecycle"
	// StreamStrangers holds sampled denials of those who have no entity of their own: a
	// certificate that was never trusted leaves no stream (design.md, section 4).
	StreamStrangers StreamID = "core/strangers"
	StreamBrokers   StreamID = "core/brokers"
)

// The families of streams that have one member per name.
const (
	certificatePrefix = "certificate/"
	devicePrefix      = "device/"
	componentPrefix   = "component/"
)

// CertificateStream names the stream of certificate id.
func CertificateStream(id CertificateID) StreamID { return StreamID(certificatePrefix + string(id)) }

// DeviceStream names the stream of thing.
func DeviceStream(thing ThingName) StreamID { return StreamID(devicePrefix + string(thing)) }

// ComponentStream names the stream of an internal component.
func ComponentStream(name ComponentName) StreamID { return StreamID(componentPrefix + string(name)) }

// Certificate returns the certificate whose stream s is.
func (s StreamID) Certificate() (CertificateID, bool) {
	rest, ok := strings.CutPrefix(string(s), certificatePrefix)
	return CertificateID(rest), ok
}

// Device returns the thing whose stream s is.
func (s StreamID) Device() (ThingName, bool) {
	rest, ok := strings.CutPrefix(string(s), devicePrefix)
	return ThingName(rest), ok
}

// Component returns the internal component whose stream s is.
func (s StreamID) Component() (ComponentName, bool) {
	rest, ok := strings.CutPrefix(string(s), componentPrefix)
	return ComponentName(rest), ok
}

// ParseStreamID checks s and returns it as a StreamID.
func ParseStreamID(s string) (StreamID, error) {
	if rest, ok := strings.CutPrefix(s, certificatePrefix); ok {
		if _, err := ParseCertificateID(rest); err != nil {
			return "", fmt.Errorf("stream %.80q: %w", s, err)
		}
		return StreamID(s), nil
	}
	if rest, ok := strings.CutPrefix(s, devicePrefix); ok {
		if _, err := ParseThingName(rest); err != nil {
			return "", fmt.Errorf("stream %.80q: %w", s, err)
		}
		return StreamID(s), nil
	}
	if rest, ok := strings.CutPrefix(s, componentPrefix); ok {
		if _, err := ParseComponentName(rest); err != nil {
			return "", fmt.Errorf("stream %.80q: %w", s, err)
		}
		return StreamID(s), nil
	}
	switch id := StreamID(s); id {
	case StreamPolicy, StreamConfig, StreamCA, StreamSync, StreamClock, StreamCredentials, StreamLifecycle, StreamStrangers, StreamBrokers:
		return id, nil
	}
	return "", fmt.Errorf("stream %.80q: %w: want certificate/<id>, device/<thing>, component/<name> or core/<name>", s, ErrInvalidID)
}

// DigestOf is the digest of a token as it came over the wire: any bytes.
func DigestOf(token []byte) TokenDigest { return sha256.Sum256(token) }
