package awsemu

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The emulated account.
const (
	Region    = "eu-central-1"
	AccountID = "123456789012"
)

// Credentials are an identity's access keys. They are secrets: printing them prints the
// access key id alone.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // empty with long-term keys
	Expiration      time.Time // zero: never
}

// Format keeps the secrets out of what fmt prints, whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "credentials "+c.AccessKeyID)
}

// LogValue keeps the secrets out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.AccessKeyID) }

// Role is what an identity may do in the emulated account.
type Role struct {
	// Name is shown in the identity's ARN.
	Name string
	// Allow lists actions such as "iot:DescribeCertificate"; a '*' at the end stands for
	// anything.
	Allow []string
}

// Administrator may do everything.
var Administrator = Role{Name: "administrator", Allow: []string{"*"}}

// TokenExchangeRole may do what a core needs of the control planes (cloud spec 7.11).
var TokenExchangeRole = Role{Name: "GatehouseTokenExchangeRole", Allow: []string{
	"greengrass:ListClientDevicesAssociatedWithCoreDevice", "iot:DescribeCertificate", "iot:ListThingPrincipals", "iot:ListThingPrincipalsV2",
}}

const (
	identitiesMax    = 10_000 // temporary ones; beyond, the oldest is forgotten
	credentialTTLMax = 12 * time.Hour
	permissionsMax   = 100
)

// identity is who has signed a request.
type identity struct {
	Credentials
	arn   string
	allow []string
}

// account keeps the identities. It is safe for use by many goroutines at once.
type account struct {
	mu         sync.RWMutex
	identities map[string]*identity // by access key id; guarded by mu
	temporary  []string             // access key ids, oldest first; guarded by mu
}

func newAccount() *account { return &account{identities: map[string]*identity{}} }

// add makes c an identity of role. temporary ones are forgotten one day.
func (a *account) add(c Credentials, role Role, temporary bool) {
	arn := "arn:aws:iam::" + AccountID + ":user/" + role.Name
	if c.SessionToken != "" {
		arn = "arn:aws:sts::" + AccountID + ":assumed-role/" + role.Name + "/gatehouse"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[c.AccessKeyID] = &identity{Credentials: c, arn: arn, allow: role.Allow}
	if !temporary {
		return
	}
	a.temporary = append(a.temporary, c.AccessKeyID)
	if len(a.temporary) > identitiesMax {
		delete(a.identities, a.temporary[0])
		a.temporary = a.temporary[1:]
	}
}

// issue makes temporary credentials.
func (a *account) issue(role Role, ttl time.Duration, now time.Time) (Credentials, error) {
	switch {
	case ttl > credentialTTLMax:
		return Credentials{}, fmt.Errorf("issue credentials: %v, at most %v", ttl, credentialTTLMax)
	case role.Name == "" || len(role.Name) > 64 || len(role.Allow) > permissionsMax:
		return Credentials{}, fmt.Errorf("issue credentials: a role has a name of at most 64 bytes and at most %d permissions", permissionsMax)
	}
	c := newCredentials("ASIA")
	c.SessionToken = base64.StdEncoding.EncodeToString(random(180))
	c.Expiration = now.Add(ttl).UTC().Truncate(time.Second)
	a.add(c, role, true)
	return c, nil
}

// newCredentials makes keys of AWS's form: AKIA… for long-term ones, ASIA… for others.
func newCredentials(prefix string) Credentials {
	return Credentials{
		AccessKeyID:     prefix + base32.StdEncoding.EncodeToString(random(10)),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random(30)),
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// check refuses keys that cannot be told from others or cannot be sent.
func (c Credentials) check() error {
	if c.AccessKeyID == "" || strings.ContainsAny(c.AccessKeyID, "/, =") || c.SecretAccessKey == "" {
		return errors.New("an access key needs an id without '/', ',', '=' and blanks, and a secret")
	}
	return nil
}

func unrecognized() *apiError {
	return &apiError{status: http.StatusForbidden, name: "UnrecognizedClientException", message: "The security token included in the request is invalid."}
}

// authenticate finds out who has signed r, with AWS's order of checks (cloud spec 7.10):
// the header's form, the key and its token, the scope, the time, the signature. services
// are the names that the service called is signed for.
func (a *account) authenticate(r *http.Request, query url.Values, body []byte, services []string, now time.Time) (*identity, *apiError) {
	auth, refused := parseAuthorization(r.Header.Values("Authorization"))
	if refused != nil {
		return nil, refused
	}
	a.mu.RLock()
	who := a.identities[auth.accessKey]
	a.mu.RUnlock()
	token := strings.Join(r.Header.Values("X-Amz-Security-Token"), ",")
	switch {
	case who == nil || !hmac.Equal([]byte(token), []byte(who.SessionToken)):
		return nil, unrecognized()
	case !who.Expiration.IsZero() && !now.Before(who.Expiration):
		return nil, &apiError{status: http.StatusForbidden, name: "ExpiredTokenException", message: "The security token included in the request is expired"}
	}
	for _, check := range []func() *apiError{
		func() *apiError { return auth.checkScope(services) },
		func() *apiError { return auth.checkTime(strings.Join(r.Header.Values("X-Amz-Date"), ","), now) },
		func() *apiError { return auth.checkSigned(r) },
		func() *apiError { return auth.checkSignature(r, query, body, who.SecretAccessKey) },
	} {
		if refused := check(); refused != nil {
			return nil, refused
		}
	}
	return who, nil
}

// authorize refuses, in AWS's words, what the identity may not do.
func (i *identity) authorize(action, resource string) *apiError {
	for _, allowed := range i.allow {
		prefix, open := strings.CutSuffix(allowed, "*")
		if strings.EqualFold(allowed, action) || open && len(action) >= len(prefix) && strings.EqualFold(action[:len(prefix)], prefix) {
			return nil
		}
	}
	return &apiError{
		status: http.StatusForbidden, name: "AccessDeniedException",
		message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %[2]s action", i.arn, action, resource),
	}
}
