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
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
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

// Administrator may do everything.
var Administrator = Role{Name: "administrator", Policies: map[string]string{
	"AdministratorAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
}}

// TokenExchangeRole may do what a core needs of the control planes (cloud spec 7.11), and
// trusts the credentials provider, as what AWS's installer makes does.
var TokenExchangeRole = Role{
	Name:  "GatehouseTokenExchangeRole",
	Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`,
	Policies: map[string]string{"GatehouseTokenExchangeRoleAccess": `{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":["greengrass:ListClientDevicesAssociatedWithCoreDevice","iot:DescribeCertificate","iot:ListThingPrincipals","iot:ListThingPrincipalsV2"],"Resource":"*"}]}`},
}

const (
	identitiesMax    = 10_000 // temporary ones; beyond, the oldest is forgotten
	credentialTTLMax = 12 * time.Hour
)

// identity is who has signed a request.
type identity struct {
	Credentials
	arn    string
	userID string
	names  []string // how trust policies may name it
	// permissions are the documents of what it may do, as they are now.
	permissions func() []*iampolicy.Document
	// bounds, if there are any, have to allow what permissions do, too.
	bounds  []*iampolicy.Document
	context iampolicy.Context // what its policies may ask about; a request adds to it
}

// account keeps the identities. It is safe for use by many goroutines at once.
type account struct {
	mu         sync.RWMutex
	identities map[string]*identity // by access key id; guarded by mu
	temporary  []string             // access key ids, oldest first; guarded by mu
}

func newAccount() *account { return &account{identities: map[string]*identity{}} }

// principal is how trust policies see it.
func (i *identity) principal() iampolicy.Principal {
	return iampolicy.Principal{Kind: iampolicy.KindAWS, Names: i.names, Account: []string{"arn:aws:iam::" + AccountID + ":root", AccountID}}
}

// user is an identity with long-term keys that may do what role says.
func user(c Credentials, role Role) (*identity, error) {
	read, err := role.read()
	if err != nil {
		return nil, err
	}
	arn := "arn:aws:iam::" + AccountID + ":user/" + role.Name
	i := &identity{Credentials: c, arn: arn, userID: "AIDA" + read.id[len("AROA"):], names: []string{arn}, permissions: read.permissions}
	i.setContext("User", arn)
	i.context.Set("aws:username", role.Name)
	return i, nil
}

// session is an identity that has assumed a role under a name.
func session(c Credentials, role *role, name string, permissions func() []*iampolicy.Document) *identity {
	arn := "arn:aws:sts::" + AccountID + ":assumed-role/" + role.name + "/" + name
	i := &identity{Credentials: c, arn: arn, userID: role.id + ":" + name, names: []string{arn, role.arn()}, permissions: permissions}
	i.setContext("AssumedRole", role.arn())
	return i
}

// permissions are the documents of the inline policies alone.
func (r *role) permissions() (all []*iampolicy.Document) {
	for _, p := range r.inline {
		all = append(all, p.read)
	}
	return all
}

func (i *identity) setContext(kind, arn string) {
	i.context = iampolicy.Context{}
	i.context.Set("aws:PrincipalType", kind)
	i.context.Set("aws:PrincipalArn", arn)
	i.context.Set("aws:PrincipalAccount", AccountID)
	i.context.Set("aws:userid", i.userID)
}

// add makes an identity known. temporary ones are forgotten one day.
func (a *account) add(who *identity, temporary bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[who.AccessKeyID] = who
	if !temporary {
		return
	}
	a.temporary = append(a.temporary, who.AccessKeyID)
	if len(a.temporary) > identitiesMax {
		delete(a.identities, a.temporary[0])
		a.temporary = a.temporary[1:]
	}
}

// issue makes temporary credentials for what a role may do that need not be the account's.
func (a *account) issue(made Role, ttl time.Duration, now time.Time) (Credentials, error) {
	role, err := made.read()
	if err != nil {
		return Credentials{}, fmt.Errorf("issue credentials: %w", err)
	}
	if ttl > credentialTTLMax {
		return Credentials{}, fmt.Errorf("issue credentials: %v, at most %v", ttl, credentialTTLMax)
	}
	c := temporaryCredentials(now.Add(ttl))
	a.add(session(c, role, "gatehouse", role.permissions), true)
	return c, nil
}

// temporaryCredentials are good until expiration.
func temporaryCredentials(expiration time.Time) Credentials {
	c := newCredentials("ASIA")
	c.SessionToken = base64.StdEncoding.EncodeToString(random(180))
	c.Expiration = toSecond(expiration)
	return c
}

// iamID makes an id of IAM's form, such as AROA… for a role.
func iamID(prefix string) string { return prefix + base32.StdEncoding.EncodeToString(random(10)) }

// newCredentials makes keys of AWS's form: AKIA… for long-term ones, ASIA… for others.
func newCredentials(prefix string) Credentials {
	return Credentials{
		AccessKeyID:     iamID(prefix),
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
// the header's form, the key and its token, the scope, the time, the signature. called
// says what that may be.
func (a *account) authenticate(r *http.Request, query url.Values, body []byte, called *service, now time.Time) (*identity, *apiError) {
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
		func() *apiError { return auth.checkScope(called) },
		func() *apiError { return auth.checkTime(strings.Join(r.Header.Values("X-Amz-Date"), ","), now) },
		func() *apiError { return auth.checkSigned(r) },
		func() *apiError { return auth.checkSignature(r, query, body, who.SecretAccessKey) },
	} {
		if refused := check(); refused != nil {
			return nil, refused
		}
	}
	return who.asking(r, auth.region, now), nil
}

// asking is who with what r adds to the context of its policies.
func (i *identity) asking(r *http.Request, region string, now time.Time) *identity {
	who := *i
	who.context = maps.Clone(i.context)
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		who.context.Set("aws:SourceIp", host)
	}
	state, ok := connState(r)
	who.context.Set("aws:SecureTransport", strconv.FormatBool(ok && state.HandshakeComplete))
	who.context.Set("aws:CurrentTime", now.UTC().Format(time.RFC3339))
	who.context.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	who.context.Set("aws:RequestedRegion", region)
	who.context.Set("aws:UserAgent", r.UserAgent())
	return &who
}

// judge says what the identity's policies say of an action.
func (i *identity) judge(action, resource string, more iampolicy.Context) iampolicy.Decision {
	ctx := maps.Clone(i.context)
	maps.Copy(ctx, more)
	r := iampolicy.Request{Action: action, Resource: resource, Context: ctx}
	decision, _ := iampolicy.Evaluate(r, i.permissions()...)
	if decision != iampolicy.Allowed || len(i.bounds) == 0 {
		return decision
	}
	decision, _ = iampolicy.Evaluate(r, i.bounds...)
	return decision
}

// authorize refuses, in AWS's words, what the identity may not do.
func (i *identity) authorize(action, resource string) *apiError {
	return i.authorizeIn(action, resource, nil)
}

// authorizeIn is authorize with more that policies may ask about.
func (i *identity) authorizeIn(action, resource string, more iampolicy.Context) *apiError {
	why := fmt.Sprintf("because no identity-based policy allows the %s action", action)
	switch i.judge(action, resource, more) {
	case iampolicy.Allowed:
		return nil
	case iampolicy.ExplicitDeny:
		why = "with an explicit deny in an identity-based policy"
	}
	return &apiError{
		status: http.StatusForbidden, name: "AccessDeniedException",
		message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", i.arn, action, resource, why),
	}
}
