package authapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// VerifyRequest asks whether a certificate is a client device's that the core trusts.
type VerifyRequest struct {
	Credential VerifyCredential `json:"credential"`
}

// VerifyCredential holds the certificate: PEM, or the base64 of its DER.
type VerifyCredential struct {
	ClientDeviceCertificate string `json:"clientDeviceCertificate"`
}

// ParseVerifyRequest reads the body of a verify request. Errors are
// InvalidArguments refusals, as those of all request parsers.
func ParseVerifyRequest(body []byte) (VerifyRequest, error) {
	var q VerifyRequest
	err := decode(body, field{"credential", object(
		field{"clientDeviceCertificate", text(&q.Credential.ClientDeviceCertificate)},
	)})
	if err != nil {
		return VerifyRequest{}, invalid(err)
	}
	return q, require("credential.clientDeviceCertificate", q.Credential.ClientDeviceCertificate)
}

// TokenRequest asks for a token for a connected client device.
type TokenRequest struct {
	Credential TokenCredential `json:"credential"`
}

// TokenCredential is the kind of credential; MQTT is the only one.
type TokenCredential struct {
	MQTT *MQTTCredential `json:"mqttCredential"`
}

// MQTTCredential is what an MQTT client presented. Username and Password are taken
// for compatibility and never looked at.
type MQTTCredential struct {
	ClientID       string `json:"clientId"`
	CertificatePEM string `json:"certificatePem"`
	Username       string `json:"username,omitempty"`
	Password       string `json:"password,omitempty"`
}

// LogValue keeps the certificate and the password out of logs.
func (c MQTTCredential) LogValue() slog.Value { return slog.StringValue(c.ClientID) }

// ParseTokenRequest reads the body of a token request.
func ParseTokenRequest(body []byte) (TokenRequest, error) {
	var q TokenRequest
	var c MQTTCredential
	mqtt := func(r *reader) error {
		if r.null() {
			return nil
		}
		q.Credential.MQTT = &c
		return object(
			field{"clientId", text(&c.ClientID)},
			field{"certificatePem", text(&c.CertificatePEM)},
			field{"username", text(&c.Username)},
			field{"password", text(&c.Password)},
		)(r)
	}
	err := decode(body, field{"credential", object(field{"mqttCredential", mqtt})})
	if err != nil {
		return TokenRequest{}, invalid(err)
	}
	if q.Credential.MQTT == nil {
		return q, missing("credential.mqttCredential")
	}
	if err := require("credential.mqttCredential.clientId", c.ClientID); err != nil {
		return q, err
	}
	return q, require("credential.mqttCredential.certificatePem", c.CertificatePEM)
}

// AuthenticateRequest asks everything a broker needs at CONNECT in one call: is the
// certificate trusted, is it the client's, may it connect, and what may it do.
type AuthenticateRequest struct {
	ClientID       string `json:"clientId"`
	CertificatePEM string `json:"certificatePem"` // empty: the client presented none, which is refused and on record
}

// ParseAuthenticateRequest reads the body of an authenticate request.
func ParseAuthenticateRequest(body []byte) (AuthenticateRequest, error) {
	var clientID, certificate []byte
	r := reader{in: body}
	err := r.texts(func(name []byte) *[]byte {
		switch string(name) {
		case "clientId":
			return &clientID
		case "certificatePem":
			return &certificate
		}
		return nil
	})
	if err != nil {
		return AuthenticateRequest{}, invalid(err)
	}
	q := AuthenticateRequest{ClientID: string(clientID), CertificatePEM: string(certificate)}
	return q, require("clientId", q.ClientID)
}

// TokenOnlyRequest is the body of permissions and of close.
type TokenOnlyRequest struct {
	ClientDeviceAuthToken string `json:"clientDeviceAuthToken"`
}

// ParseTokenOnlyRequest reads the body of a permissions or close request.
func ParseTokenOnlyRequest(body []byte) (TokenOnlyRequest, error) {
	var q TokenOnlyRequest
	err := decode(body, field{"clientDeviceAuthToken", text(&q.ClientDeviceAuthToken)})
	if err != nil {
		return TokenOnlyRequest{}, invalid(err)
	}
	return q, require("clientDeviceAuthToken", q.ClientDeviceAuthToken)
}

// AuthorizeRequest asks whether a session may do one thing. Reusing one for many
// requests costs no allocation; it is not safe for use by two goroutines at once.
type AuthorizeRequest struct {
	Token, Operation, Resource []byte // views, see Parse
	scratch                    []byte
}

// Parse reads body. The fields are views into body or into memory that the next Parse
// overwrites.
func (q *AuthorizeRequest) Parse(body []byte) error {
	q.Token, q.Operation, q.Resource = nil, nil, nil
	r := reader{in: body, scratch: q.scratch[:0]}
	err := r.texts(func(name []byte) *[]byte {
		switch string(name) {
		case "clientDeviceAuthToken":
			return &q.Token
		case "operation":
			return &q.Operation
		case "resource":
			return &q.Resource
		}
		return nil
	})
	if cap(r.scratch) <= 4<<10 { // one strange request must not hold memory for ever
		q.scratch = r.scratch
	}
	if err != nil {
		q.Token, q.Operation, q.Resource = nil, nil, nil
		return invalid(err)
	}
	switch {
	case len(q.Token) == 0:
		return missing("clientDeviceAuthToken")
	case len(q.Operation) == 0:
		return missing("operation")
	case len(q.Resource) == 0:
		return missing("resource")
	}
	return nil
}

// texts reads a document that is one object of strings: into says where the string of that
// name goes, as a view; nil: it is of no interest.
func (r *reader) texts(into func(name []byte) *[]byte) error {
	if len(r.in) > MaxMessageBytes {
		return errTooLong(len(r.in))
	}
	r.space()
	err := r.object(func(name []byte) error {
		p := into(name)
		if p == nil {
			return r.skip()
		}
		if r.null() {
			return nil
		}
		b, err := r.string()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*p = b
		return nil
	})
	if err != nil {
		return fmt.Errorf("message, byte %d: %w", r.at, err)
	}
	return r.end()
}

// AppendAuthorizeRequest appends the body of an authorize request to dst.
func AppendAuthorizeRequest(dst []byte, token, operation, resource string) []byte {
	dst = append(dst, `{"clientDeviceAuthToken":`...)
	dst = appendString(dst, token)
	dst = append(dst, `,"operation":`...)
	dst = appendString(dst, operation)
	dst = append(dst, `,"resource":`...)
	dst = appendString(dst, resource)
	return append(dst, '}')
}

// Encode returns the JSON of any other message of this package.
func Encode(message any) ([]byte, error) {
	b, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", message, err)
	}
	if len(b) > MaxMessageBytes {
		return nil, fmt.Errorf("encode %T: %d bytes, want at most %d", message, len(b), MaxMessageBytes)
	}
	return b, nil
}

// appendString appends s as a JSON string. Invalid UTF-8 is kept as it is: the other
// side must refuse it rather than judge a text that nobody sent.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0 // so much of s is in dst
	for i := range len(s) {
		c := s[i]
		if plain[c] || c >= utf8.RuneSelf {
			continue
		}
		dst = append(dst, s[done:i]...)
		if done = i + 1; c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
	}
	return append(append(dst, s[done:]...), '"')
}

func invalid(err error) error {
	return messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
}

func missing(name string) error {
	return messages.Refuse(messages.RefusedInvalidArguments, "%s is missing or empty", name)
}

func require(name, value string) error {
	if value == "" {
		return missing(name)
	}
	return nil
}
