package tokenexchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// Bounds of what the provider may answer. An honest answer has under 2 KiB; a role's
// credentials last 12 hours at most (cloud spec 2).
const (
	answerBytesMax  = 64 << 10
	keyIDBytesMax   = 128
	secretBytesMax  = 256
	sessionBytesMax = 16 << 10
	lifetimeMax     = 13 * time.Hour
)

// Fetched is a set of credentials, and for how long it was good when the cloud wrote it.
type Fetched struct {
	Credentials Credentials
	Lifetime    time.Duration
}

// parseAnswer reads an answer of the credentials provider (cloud spec 2). What is left of a
// lifetime goes by the Date that the service wrote beside it; by now, where it wrote none.
func parseAnswer(status int, header http.Header, body []byte, now func() time.Time) (Fetched, *Failure) {
	if len(body) > answerBytesMax {
		return Fetched{}, unavailable(0, "the answer is larger than %d KiB", answerBytesMax>>10)
	}
	if wire.Packed(header) {
		return Fetched{}, unavailable(0, "the answer is compressed, which was not asked for")
	}
	if status != http.StatusOK {
		return Fetched{}, parseError(status, header, body)
	}
	credentials, err := parseCredentials(header, body)
	if err != nil {
		return Fetched{}, unavailable(status, "%v", err)
	}
	at := wire.Date(header)
	if at.IsZero() {
		at = now()
	}
	// A date has whole seconds: it may have been written up to one later.
	left := credentials.Expiration.Sub(at) - time.Second
	switch {
	case left <= 0:
		failure := unavailable(status, "the credentials it gave had expired at %s", credentials.Expiration.Format(time.RFC3339))
		failure.passing = true
		return Fetched{}, failure
	case left > lifetimeMax:
		return Fetched{}, unavailable(status, "credentials that are good until %s: no role's last so long", credentials.Expiration.Format(time.RFC3339))
	}
	return Fetched{credentials, left}, nil
}

// parseError says what an answer means that is not 200.
func parseError(status int, header http.Header, body []byte) *Failure {
	if !wire.FromService(status, header) {
		return unavailable(0, "HTTP %d is not of the credentials provider: check the endpoint, and for a proxy or captive portal", status)
	}
	name, err := wire.ErrorName(header)
	if err != nil {
		return unavailable(0, "HTTP %d: %v", status, err)
	}
	text := ""
	if fields, err := wire.Fields(header, body); err == nil {
		for _, f := range fields {
			if f.Name == "message" {
				_ = json.Unmarshal(f.Value, &text) // else there is none
			}
		}
	}
	if name == "" {
		name = fmt.Sprintf("HTTP%d", status)
	}
	said := strings.TrimSuffix(fmt.Sprintf("HTTP %d %s: %s", status, name, text), ": ")
	return &Failure{Status: status, Code: wire.Detail("%s", name), Message: wire.Detail("the IoT credentials provider answered %s%s", said, advice(text))}
}

// advice says what to do about the provider's own words (cloud spec 2).
func advice(message string) string {
	for text, do := range map[string]string{
		"Certificate is invalid on this endpoint": "check that the core's certificate is registered and active, and the endpoint its account's",
		"Invalid thing name passed":               "attach the core's certificate to its thing",
		"Access Denied":                           "attach a policy to the core's certificate that allows iot:AssumeRoleWithCertificate on the role alias",
		"Role alias does not exist":               "check cloud.roleAlias",
		"Unable to assume the role":               "the role must exist and trust credentials.iot.amazonaws.com",
		"The requested CredentialDurationSeconds": "lower the role alias' credentialDurationSeconds, or raise the role's MaxSessionDuration",
	} {
		if strings.HasPrefix(message, text) {
			return "; " + do
		}
	}
	return ""
}

// parseCredentials reads {"credentials": {…}} with each of the four members once. Its errors
// hold nothing of the values.
func parseCredentials(header http.Header, body []byte) (Credentials, error) {
	outer, err := members(header, body, "credentials")
	if err != nil {
		return Credentials{}, err
	}
	inner, err := members(header, outer["credentials"], "accessKeyId", "secretAccessKey", "sessionToken", "expiration")
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: %w", err)
	}
	text := func(name string, most int) string {
		var s *string
		if json.Unmarshal(inner[name], &s) != nil || s == nil || !visible(*s, most) {
			err = errors.Join(err, fmt.Errorf("credentials: %s is not 1 to %d visible characters", name, most))
			return ""
		}
		return *s
	}
	c := Credentials{
		AccessKeyID:     text("accessKeyId", keyIDBytesMax),
		SecretAccessKey: Secret(text("secretAccessKey", secretBytesMax)),
		SessionToken:    Secret(text("sessionToken", sessionBytesMax)),
	}
	at, bad := time.Parse(time.RFC3339, text("expiration", len(time.RFC3339Nano)))
	if bad != nil {
		err = errors.Join(err, errors.New("credentials: expiration is not a time of RFC 3339"))
	}
	if err != nil {
		return Credentials{}, err
	}
	c.Expiration = at.UTC()
	return c, nil
}

// members are the named members of a JSON object, each there once. Others are passed over.
func members(header http.Header, body []byte, names ...string) (map[string]json.RawMessage, error) {
	fields, err := wire.Fields(header, body)
	if err != nil {
		return nil, err
	}
	found := map[string]json.RawMessage{}
	for _, f := range fields {
		if _, twice := found[f.Name]; twice {
			return nil, errors.New("a member is there twice")
		}
		found[f.Name] = f.Value
	}
	for _, name := range names {
		if found[name] == nil {
			return nil, fmt.Errorf("no member %s", name)
		}
	}
	return found, nil
}

// visible says whether s is 1 to most characters of ASCII that are seen.
func visible(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
