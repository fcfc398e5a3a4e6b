package awsemu

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	authInfosMax     = 10 // of a request, as with AWS
	authResourcesMax = 100
)

type authInfo struct {
	Type      string   `json:"actionType"`
	Resources []string `json:"resources"`
}

type authRequest struct {
	Principal string     `json:"principal"`
	Pool      string     `json:"cognitoIdentityPoolId"`
	Infos     []authInfo `json:"authInfos"`
	Add       []string   `json:"policyNamesToAdd"`
	Skip      []string   `json:"policyNamesToSkip"`
}

type policyNames struct {
	Policies []policyEntry `json:"policies"`
}

type denied struct {
	Implicit policyNames `json:"implicitDeny"`
	Explicit policyNames `json:"explicitDeny"`
}

type authResult struct {
	Info     authInfo           `json:"authInfo"`
	Allowed  policyNames        `json:"allowed"`
	Denied   denied             `json:"denied"`
	Decision iotpolicy.Decision `json:"authDecision"`
	Missing  []string           `json:"missingContextValues"`
}

// testAuthorization says what a principal might do if it connected under the client id of
// the query, whatever its certificate's status, and once all changes count.
func (e *Emulator) testAuthorization(c *call) (any, *apiError) {
	var request authRequest
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	if refused := request.check(); refused != nil {
		return nil, refused
	}
	arn := request.Principal
	id := messages.CertificateID(strings.TrimPrefix(arn, certificateARN("")))
	asker := e.authorizer(Bearer{Certificate: id, ClientID: c.query.Get("clientId")})
	policies, context, _, _ := asker.attached(e.now())
	if refused := e.look(func(r *Registry) (refused *apiError) {
		if arn != "" {
			if t, refused := r.knownTarget(arn); refused != nil {
				return refused
			} else if !strings.HasPrefix(t.arn, certificateARN("")) {
				return badRequest(fmt.Sprintf("Invalid principal %.200q: want the ARN of a certificate", arn))
			}
		}
		policies, refused = r.adjusted(policies, request)
		return refused
	}); refused != nil {
		return nil, refused
	}
	results := make([]authResult, len(request.Infos))
	for i, info := range request.Infos {
		action, refused := authAction(info.Type)
		if refused != nil {
			return nil, refused
		}
		results[i] = judgeInfo(policies, info, action, context)
	}
	return map[string]any{"authResults": results}, nil
}

func (q *authRequest) check() *apiError {
	switch {
	case q.Pool != "":
		return badRequest("Cognito identities are not emulated")
	case len(q.Infos) < 1 || len(q.Infos) > authInfosMax:
		return constraint("authInfos", fmt.Sprintf("Member must have length between 1 and %d", authInfosMax))
	case q.Principal == "" && len(q.Add) == 0:
		return badRequest("principal or policyNamesToAdd is needed")
	}
	for _, info := range q.Infos {
		if n := len(info.Resources); n < 1 || n > authResourcesMax || slices.Contains(info.Resources, "") {
			return constraint("authInfos.resources", fmt.Sprintf("Member must have length between 1 and %d, and no resource that is empty", authResourcesMax))
		}
	}
	return nil
}

// adjusted adds and leaves out policies as it is asked for. The caller holds mu.
func (r *Registry) adjusted(policies []iotpolicy.Policy, q authRequest) ([]iotpolicy.Policy, *apiError) {
	for _, name := range slices.Concat(q.Add, q.Skip) {
		if r.policies[name] == nil {
			return nil, noPolicy(name)
		}
	}
	policies = slices.DeleteFunc(slices.Clone(policies), func(p iotpolicy.Policy) bool { return slices.Contains(q.Skip, p.Name) })
	for _, name := range q.Add {
		if !slices.ContainsFunc(policies, func(p iotpolicy.Policy) bool { return p.Name == name }) {
			policies = append(policies, iotpolicy.Policy{Name: name, Document: r.policies[name].document()})
		}
	}
	return policies, nil
}

// judgeInfo judges an action on several resources: all must be allowed.
func judgeInfo(policies []iotpolicy.Policy, info authInfo, action string, context *iotpolicy.Context) authResult {
	var allowing, denying []iotpolicy.Match
	decision, missing := iotpolicy.Allowed, map[string]bool{}
	for _, resource := range info.Resources {
		result := iotpolicy.Evaluate(policies, iotpolicy.Request{Action: action, Resource: resource, Context: context})
		allowing, denying = append(allowing, result.Allowing...), append(denying, result.Denying...)
		for _, key := range result.Missing {
			missing[key] = true
		}
		if result.Decision == iotpolicy.ExplicitDeny || decision == iotpolicy.Allowed {
			decision = result.Decision
		}
	}
	answer := authResult{
		Info: info, Decision: decision, Missing: append([]string{}, slices.Sorted(maps.Keys(missing))...),
		Allowed: policyNames{policyEntries(iotpolicy.Names(allowing))},
		Denied:  denied{policyNames{[]policyEntry{}}, policyNames{policyEntries(iotpolicy.Names(denying))}},
	}
	if decision == iotpolicy.ImplicitDeny { // all that were asked in vain
		for _, p := range policies {
			answer.Denied.Implicit.Policies = append(answer.Denied.Implicit.Policies, policyEntry{p.Name, policyARN(p.Name)})
		}
	}
	return answer
}
