package awsemu

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

// STS: who somebody is, and taking on a role.

var stsRoutes = []queryRoute{
	{"sts:GetCallerIdentity", sts, nil, "", (*Emulator).getCallerIdentity}, // needs no permission
	{"sts:AssumeRole", sts, nil, "", (*Emulator).assumeRole},               // the role's trust policy has its say
}

const (
	sessionMinSeconds = 900
	chainedMax        = time.Hour // of who has assumed a role already
)

func (e *Emulator) getCallerIdentity(c *call) (any, *apiError) {
	return struct {
		ARN     string `xml:"Arn"`
		UserID  string `xml:"UserId"`
		Account string `xml:"Account"`
	}{c.who.arn, c.who.userID, AccountID}, nil
}

type credentialsXML struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string `xml:"SecretAccessKey"`
	SessionToken    string `xml:"SessionToken"`
	Expiration      string `xml:"Expiration"`
}

type assumedRole struct {
	Credentials credentialsXML `xml:"Credentials"`
	ID          string         `xml:"AssumedRoleUser>AssumedRoleId"`
	ARN         string         `xml:"AssumedRoleUser>Arn"`
}

func (e *Emulator) assumeRole(c *call) (any, *apiError) {
	form := c.query
	if refused := unsupported(form, "SerialNumber", "TokenCode", "SourceIdentity", "Tags", "TransitiveTagKeys", "ProvidedContexts", "PolicyArns"); refused != nil {
		return nil, refused
	}
	name, refused := nameIn(form, "RoleSessionName", 64)
	if refused != nil {
		return nil, refused
	}
	seconds, refused := number(form, "DurationSeconds", int(time.Hour/time.Second), sessionMinSeconds, int(sessionMax/time.Second))
	if refused != nil {
		return nil, refused
	}
	var bounds []*iampolicy.Document
	if form.Has("Policy") {
		bound, refused := readIAMPolicy(form.Get("Policy"), trustCharsMax, iampolicy.ParseIdentity)
		if refused != nil {
			return nil, refused
		}
		bounds = append(bounds, bound.read)
	}
	arn := form.Get("RoleArn")
	role := e.registry.roleOf(arn)
	if role == nil || !c.who.mayAssume(role, name, form.Get("ExternalId")) {
		return nil, &apiError{status: http.StatusForbidden, name: "AccessDenied", message: fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %.200s", c.who.arn, arn)}
	}
	duration := time.Duration(seconds) * time.Second
	switch {
	case c.who.SessionToken != "" && duration > chainedMax:
		return nil, iamError(http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case duration > role.session:
		return nil, iamError(http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	who := e.assume(role, name, duration)
	who.bounds = bounds
	e.account.add(who, true)
	return assumedRole{credentialsXML{who.AccessKeyID, who.SecretAccessKey, who.SessionToken, iamTime(who.Expiration)}, who.userID, who.arn}, nil
}

// assume makes a session of a role, which goes by what the role may do from then on.
func (e *Emulator) assume(role *role, name string, duration time.Duration) *identity {
	now := e.now()
	who := session(temporaryCredentials(now.Add(duration)), role, name, func() []*iampolicy.Document {
		return e.registry.permissions(role.name, role.id)
	})
	who.context.Set("aws:TokenIssueTime", iamTime(toSecond(now)))
	return who
}

// mayAssume says whether the role trusts the caller, and the caller's own policies let it.
// The latter is not needed where the role names the caller itself, but for what a session
// is bound to.
func (i *identity) mayAssume(role *role, sessionName, externalID string) bool {
	more := iampolicy.Context{}
	more.Set("sts:RoleSessionName", sessionName)
	if externalID != "" {
		more.Set("sts:ExternalId", externalID)
	}
	for key, values := range i.context {
		more[key] = values
	}
	trusted, named := role.trust.read.Trusts(iampolicy.Request{Action: "sts:AssumeRole", Principal: i.principal(), Context: more})
	own := i.judge("sts:AssumeRole", role.arn(), more)
	needed := len(i.bounds) > 0 || !named
	return trusted == iampolicy.Allowed && own != iampolicy.ExplicitDeny && (own == iampolicy.Allowed || !needed)
}
