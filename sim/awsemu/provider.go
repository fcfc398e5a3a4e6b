package awsemu

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// The credentials provider of AWS IoT: who shows a certificate gets the keys of a role, by
// an alias (cloud spec 2).

// OpAssumeRole is the provider's operation, called as IoT policies do.
const OpAssumeRole = fault.AssumeRole

// credentialsService is the principal that roles for aliases trust.
const credentialsService = "credentials.iot.amazonaws.com"

// thingHeader names the thing that a caller comes as.
const thingHeader = "X-Amzn-Iot-Thingname"

type providedCredentials struct {
	Credentials struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
		SessionToken    string `json:"sessionToken"`
		Expiration      string `json:"expiration"`
	} `json:"credentials"`
}

// serveCredentials answers one request of the credentials provider.
func (e *Emulator) serveCredentials(w http.ResponseWriter, r *http.Request) {
	state, ok := connState(r)
	if !ok || len(state.PeerCertificates) == 0 {
		panic(http.ErrAbortHandler)
	}
	op := cloudsync.Operation("")
	alias, found := aliasIn(r)
	if found {
		op = OpAssumeRole
	}
	e.exchange(w, r, fault.Credentials, op, func([]byte, fault.Page) (any, *apiError) {
		leaf := state.PeerCertificates[0]
		switch named, refused := e.comesAs(leaf, state.ServerName, r.Header.Values(thingHeader)); {
		case refused != nil:
			return nil, refused
		case !found:
			return nil, unknownOperation()
		default:
			return e.provide(Bearer{Certificate: messages.CertificateIDOf(leaf.Raw), Thing: named, Address: r.RemoteAddr}, alias)
		}
	})
}

// aliasIn returns the alias that a request asks by: GET /role-aliases/{alias}/credentials.
func aliasIn(r *http.Request) (alias string, ok bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/role-aliases/")
	rest, ends := strings.CutSuffix(rest, "/credentials")
	alias, err := url.PathUnescape(rest)
	return alias, ok && ends && err == nil && alias != "" && !strings.Contains(rest, "/") && r.Method == http.MethodGet
}

func notProvided(status int, name, message string) *apiError {
	return &apiError{status: status, name: name, message: message}
}

// comesAs checks a caller's certificate and the thing that it names, which it need not.
func (e *Emulator) comesAs(leaf *x509.Certificate, serverName string, named []string) (messages.ThingName, *apiError) {
	now := e.now()
	usable, attached := !now.Before(leaf.NotBefore) && !now.After(leaf.NotAfter), len(named) == 0
	refused := e.look(func(r *Registry) *apiError {
		known := r.certificates[messages.CertificateIDOf(leaf.Raw)]
		if !usable || known == nil || known.status != StatusActive || !known.modeOf().finds(serverName != "") {
			return notProvided(http.StatusForbidden, "AccessDeniedException", "Certificate is invalid on this endpoint")
		}
		if attached = attached || len(named) == 1 && known.things[messages.ThingName(named[0])]; !attached {
			return notProvided(http.StatusForbidden, "AccessDeniedException", "Invalid thing name passed")
		}
		return nil
	})
	if refused != nil || len(named) == 0 {
		return "", refused
	}
	return messages.ThingName(named[0]), nil
}

// provide checks in AWS's order, by which who may not learns nothing of aliases, and makes
// a session of the alias's role that is named by the certificate.
func (e *Emulator) provide(who Bearer, alias string) (any, *apiError) {
	if e.Authorize(who, "iot:"+string(OpAssumeRole), RoleAliasARN(alias)).Decision != iotpolicy.Allowed {
		return nil, notProvided(http.StatusForbidden, "AccessDeniedException", "Access Denied")
	}
	found, ok := e.registry.alias(alias)
	if !ok {
		return nil, notProvided(http.StatusNotFound, "ResourceNotFoundException", "Role alias does not exist")
	}
	role := e.registry.roleOf(found.role)
	if role == nil || !role.trustsAlias(alias) {
		return nil, notProvided(http.StatusBadRequest, "InvalidRequestException", "Unable to assume the role, or the role to assume does not exist")
	}
	duration := time.Duration(found.duration) * time.Second
	if duration > role.session {
		return nil, notProvided(http.StatusBadRequest, "InvalidRequestException", "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role")
	}
	session := e.assume(role, string(who.Certificate), duration)
	session.context.Set("credentials-iot:AwsCertificateId", string(who.Certificate))
	if who.Thing != "" {
		session.context.Set("credentials-iot:ThingName", string(who.Thing))
		if kind := e.registry.typeOf(who.Thing); kind != "" {
			session.context.Set("credentials-iot:ThingTypeName", kind)
		}
	}
	e.account.add(session, true)
	var answer providedCredentials
	c := &answer.Credentials
	c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration = session.AccessKeyID, session.SecretAccessKey, session.SessionToken, iamTime(session.Expiration)
	return answer, nil
}

// trustsAlias says whether the role lets the provider assume it for an alias.
func (r *role) trustsAlias(alias string) bool {
	ctx := iampolicy.Context{}
	ctx.Set("aws:SourceArn", RoleAliasARN(alias)) // AWS's guard against confused deputies
	ctx.Set("aws:SourceAccount", AccountID)
	decision, _ := r.trust.read.Trusts(iampolicy.Request{
		Action: "sts:AssumeRole", Principal: iampolicy.Principal{Kind: iampolicy.KindService, Names: []string{credentialsService}}, Context: ctx,
	})
	return decision == iampolicy.Allowed
}

// typeOf is a thing's type; empty: it has none.
func (r *Registry) typeOf(name messages.ThingName) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t := r.things[name]; t != nil {
		return t.typeName
	}
	return ""
}
