package awsemu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The IoT control plane's operations on policies (cloud spec 4.1, 8.1).

const (
	policiesPage    = 25 // of a listing, unless it is asked for more
	policiesPageMax = 250
)

var policyRoutes = []route{
	newRoute("CreatePolicy", iot, "POST", "policies/*", policyARNOf, (*Emulator).createPolicy),
	newRoute("GetPolicy", iot, "GET", "policies/*", policyARNOf, (*Emulator).getPolicy),
	newRoute("ListPolicies", iot, "GET", "policies", anything, (*Emulator).listPolicies),
	newRoute("DeletePolicy", iot, "DELETE", "policies/*", policyARNOf, (*Emulator).deletePolicy),
	newRoute("CreatePolicyVersion", iot, "POST", "policies/*/version", policyARNOf, (*Emulator).createPolicyVersion),
	newRoute("GetPolicyVersion", iot, "GET", "policies/*/version/*", policyARNOf, (*Emulator).getPolicyVersion),
	newRoute("ListPolicyVersions", iot, "GET", "policies/*/version", policyARNOf, (*Emulator).listPolicyVersions),
	newRoute("SetDefaultPolicyVersion", iot, "PATCH", "policies/*/version/*", policyARNOf, (*Emulator).setDefaultPolicyVersion),
	newRoute("DeletePolicyVersion", iot, "DELETE", "policies/*/version/*", policyARNOf, (*Emulator).deletePolicyVersion),
	newRoute("AttachPolicy", iot, "PUT", "target-policies/*", anything, (*Emulator).attachPolicy),
	newRoute("DetachPolicy", iot, "POST", "target-policies/*", anything, (*Emulator).detachPolicy),
	newRoute("AttachPrincipalPolicy", iot, "PUT", "principal-policies/*", anything, (*Emulator).attachPolicy),
	newRoute("DetachPrincipalPolicy", iot, "DELETE", "principal-policies/*", anything, (*Emulator).detachPolicy),
	newRoute("ListAttachedPolicies", iot, "POST", "attached-policies/*", anything, (*Emulator).listAttachedPolicies),
	newRoute("ListPrincipalPolicies", iot, "GET", "principal-policies", anything, (*Emulator).listPrincipalPolicies),
	newRoute("ListPolicyPrincipals", iot, "GET", "policy-principals", anything, (*Emulator).listPolicyPrincipals),
	newRoute("ListTargetsForPolicy", iot, "POST", "policy-targets/*", policyARNOf, (*Emulator).listTargetsForPolicy),
	newRoute("GetEffectivePolicies", iot, "POST", "effective-policies", anything, (*Emulator).getEffectivePolicies),
	newRoute("TestAuthorization", iot, "POST", "test-authorization", anything, (*Emulator).testAuthorization),
}

func policyARNOf(parameters []string) string { return policyARN(parameters[0]) }

// since is a time that may be unknown.
func since(at time.Time) *epoch {
	if at.IsZero() {
		return nil
	}
	e := epoch(at)
	return &e
}

type documentRequest struct {
	Document string `json:"policyDocument"`
}

func readDocumentRequest(c *call) (string, *apiError) {
	var request documentRequest
	if refused := readIoT(c, &request); refused != nil {
		return "", refused
	}
	if request.Document == "" {
		return "", constraint("policyDocument", "Member must not be null")
	}
	return request.Document, nil
}

func (e *Emulator) createPolicy(c *call) (any, *apiError) {
	name := c.parameters[0]
	document, refused := readDocumentRequest(c)
	if refused == nil {
		refused = e.change(func(b *Batch) *apiError { return b.createPolicy(name, document, e.now()) })
	}
	return map[string]string{"policyName": name, "policyArn": policyARN(name), "policyDocument": document, "policyVersionId": "1"}, refused
}

// lookAtPolicy finds the policy that the path names.
func (e *Emulator) lookAtPolicy(c *call) (known *iotPolicy, refused *apiError) {
	refused = e.look(func(r *Registry) *apiError {
		if known = r.policies[c.parameters[0]]; known == nil {
			return noPolicy(c.parameters[0])
		}
		return nil
	})
	return known, refused
}

func (e *Emulator) getPolicy(c *call) (any, *apiError) {
	p, refused := e.lookAtPolicy(c)
	if refused != nil {
		return nil, refused
	}
	return struct {
		Name       string `json:"policyName"`
		ARN        string `json:"policyArn"`
		Document   string `json:"policyDocument"`
		Default    string `json:"defaultVersionId"`
		Created    *epoch `json:"creationDate,omitempty"`
		Modified   *epoch `json:"lastModifiedDate,omitempty"`
		Generation string `json:"generationId"`
	}{c.parameters[0], policyARN(c.parameters[0]), p.document().String(), strconv.Itoa(p.current), since(p.created), since(p.modified), p.generation}, nil
}

func (e *Emulator) deletePolicy(c *call) (any, *apiError) {
	return none{}, e.change(func(b *Batch) *apiError { return b.deletePolicy(c.parameters[0]) })
}

func (e *Emulator) createPolicyVersion(c *call) (any, *apiError) {
	name := c.parameters[0]
	document, refused := readDocumentRequest(c)
	if refused != nil {
		return nil, refused
	}
	asDefault, refused := c.flag("setAsDefault")
	if refused != nil {
		return nil, refused
	}
	var made policyVersion
	refused = e.change(func(b *Batch) (refused *apiError) {
		made, refused = b.createPolicyVersion(name, document, asDefault, e.now())
		return refused
	})
	return struct {
		ARN      string `json:"policyArn"`
		Document string `json:"policyDocument"`
		Number   string `json:"policyVersionId"`
		Default  bool   `json:"isDefaultVersion"`
	}{policyARN(name), document, strconv.Itoa(made.number), asDefault}, refused
}

// versionParameter reads the path's second parameter.
func versionParameter(c *call) (int, *apiError) {
	number, err := strconv.Atoi(c.parameters[1])
	if err != nil || number < 1 {
		return 0, constraint("policyVersionId", "Member must satisfy regular expression pattern: [0-9]+")
	}
	return number, nil
}

func (e *Emulator) getPolicyVersion(c *call) (any, *apiError) {
	number, refused := versionParameter(c)
	if refused != nil {
		return nil, refused
	}
	p, refused := e.lookAtPolicy(c)
	if refused != nil {
		return nil, refused
	}
	v, ok := p.version(number)
	if !ok {
		return nil, noPolicyVersion(c.parameters[0], number)
	}
	return struct {
		Name       string `json:"policyName"`
		ARN        string `json:"policyArn"`
		Document   string `json:"policyDocument"`
		Number     string `json:"policyVersionId"`
		Default    bool   `json:"isDefaultVersion"`
		Created    *epoch `json:"creationDate,omitempty"`
		Modified   *epoch `json:"lastModifiedDate,omitempty"`
		Generation string `json:"generationId"`
	}{c.parameters[0], policyARN(c.parameters[0]), v.document.String(), strconv.Itoa(number), number == p.current, since(v.created), since(p.modified), p.generation}, nil
}

type versionEntry struct {
	Number  string `json:"versionId"`
	Default bool   `json:"isDefaultVersion"`
	Created *epoch `json:"createDate,omitempty"`
}

func (e *Emulator) listPolicyVersions(c *call) (any, *apiError) {
	p, refused := e.lookAtPolicy(c)
	if refused != nil {
		return nil, refused
	}
	entries := []versionEntry{}
	for _, v := range slices.Backward(p.versions) {
		entries = append(entries, versionEntry{strconv.Itoa(v.number), v.number == p.current, since(v.created)})
	}
	return map[string]any{"policyVersions": entries}, nil
}

func (e *Emulator) setDefaultPolicyVersion(c *call) (any, *apiError) {
	number, refused := versionParameter(c)
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError { return b.setDefaultPolicyVersion(c.parameters[0], number, e.now()) })
}

func (e *Emulator) deletePolicyVersion(c *call) (any, *apiError) {
	number, refused := versionParameter(c)
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError { return b.deletePolicyVersion(c.parameters[0], number, e.now()) })
}

// targetOfRequest is in the body, or, with older operations, in a header.
func targetOfRequest(c *call) (string, *apiError) {
	arn, member := c.header.Get("X-Amzn-Iot-Principal"), "principal"
	if c.op == "AttachPolicy" || c.op == "DetachPolicy" {
		var request struct {
			Target string `json:"target"`
		}
		if refused := readIoT(c, &request); refused != nil {
			return "", refused
		}
		arn, member = request.Target, "target"
	}
	if arn == "" {
		return "", constraint(member, "Member must not be null")
	}
	return arn, nil
}

func (e *Emulator) attachPolicy(c *call) (any, *apiError) {
	arn, refused := targetOfRequest(c)
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError { return b.attachPolicy(c.parameters[0], arn) })
}

func (e *Emulator) detachPolicy(c *call) (any, *apiError) {
	arn, refused := targetOfRequest(c)
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError { return b.detachPolicy(c.parameters[0], arn) })
}

type policyEntry struct {
	Name string `json:"policyName"`
	ARN  string `json:"policyArn"`
}

func policyEntries(names []string) []policyEntry {
	entries := make([]policyEntry, len(names))
	for i, name := range names {
		entries[i] = policyEntry{name, policyARN(name)}
	}
	return entries
}

type policyListing struct {
	Policies   []policyEntry `json:"policies"`
	NextMarker string        `json:"nextMarker,omitempty"`
}

// markedNames is a page of what list names, in the older style of paging. of tells
// listings apart beside the path's parameters. They come by name.
func (e *Emulator) markedNames(c *call, of string, list func(*Registry) ([]string, *apiError)) (names []string, next string, refused *apiError) {
	c.of = of
	p, refused := e.markedPageOf(c, policiesPage, policiesPageMax)
	if refused != nil {
		return nil, "", refused
	}
	more := false
	refused = e.look(func(r *Registry) *apiError {
		all, refused := list(r)
		if refused != nil {
			return refused
		}
		all = slices.Clone(all)
		slices.Sort(all)
		names, more = behind(slices.Compact(all), p.after, p.limit)
		return nil
	})
	if refused != nil {
		return nil, "", refused
	}
	names, next = turn(e, p, names, more, func(name string) string { return name })
	return names, next, nil
}

func (e *Emulator) listPolicies(c *call) (any, *apiError) {
	names, next, refused := e.markedNames(c, "", func(r *Registry) ([]string, *apiError) { return sortedKeys(r.policies), nil })
	return policyListing{policyEntries(names), next}, refused
}

// listAttachedPolicies has, if asked to, what a target comes under as well: a group's
// groups above it, a certificate's things' groups.
func (e *Emulator) listAttachedPolicies(c *call) (any, *apiError) {
	recursive, refused := c.flag("recursive")
	if refused != nil {
		return nil, refused
	}
	names, next, refused := e.markedNames(c, strconv.FormatBool(recursive), func(r *Registry) (names []string, refused *apiError) {
		if _, refused = r.knownTarget(c.parameters[0]); refused != nil {
			return nil, refused
		}
		targets := []string{c.parameters[0]}
		if recursive {
			targets = append(targets, r.above(c.parameters[0])...)
		}
		for _, target := range targets {
			names = append(names, r.attached[target]...)
		}
		return names, nil
	})
	return policyListing{policyEntries(names), next}, refused
}

func (e *Emulator) listPrincipalPolicies(c *call) (any, *apiError) {
	arn, refused := targetOfRequest(c)
	if refused != nil {
		return nil, refused
	}
	names, next, refused := e.markedNames(c, arn, func(r *Registry) ([]string, *apiError) {
		_, refused := r.knownTarget(arn)
		return r.attached[arn], refused
	})
	return policyListing{policyEntries(names), next}, refused
}

func (e *Emulator) listTargetsForPolicy(c *call) (any, *apiError) {
	targets, next, refused := e.markedNames(c, "", func(r *Registry) ([]string, *apiError) {
		if r.policies[c.parameters[0]] == nil {
			return nil, noPolicy(c.parameters[0])
		}
		return r.targetsOf(c.parameters[0]), nil
	})
	return struct {
		Targets    []string `json:"targets"`
		NextMarker string   `json:"nextMarker,omitempty"`
	}{append([]string{}, targets...), next}, refused
}

// listPolicyPrincipals is the older form, which knows certificates alone.
func (e *Emulator) listPolicyPrincipals(c *call) (any, *apiError) {
	name := c.header.Get("X-Amzn-Iot-Policy")
	principals, next, refused := e.markedNames(c, name, func(r *Registry) ([]string, *apiError) {
		if r.policies[name] == nil {
			return nil, noPolicy(name)
		}
		return slices.DeleteFunc(r.targetsOf(name), func(arn string) bool { return !strings.HasPrefix(arn, certificateARN("")) }), nil
	})
	return struct {
		Principals []string `json:"principals"`
		NextMarker string   `json:"nextMarker,omitempty"`
	}{append([]string{}, principals...), next}, refused
}

type effectivePolicy struct {
	policyEntry
	Document string `json:"policyDocument"`
}

// getEffectivePolicies: a principal's, and those of the groups that a thing is in.
func (e *Emulator) getEffectivePolicies(c *call) (any, *apiError) {
	var request struct {
		Principal string `json:"principal"`
		Pool      string `json:"cognitoIdentityPoolId"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	thing := c.query.Get("thingName")
	switch {
	case request.Pool != "":
		return nil, badRequest("Cognito identities are not emulated")
	case request.Principal == "" && thing == "":
		return nil, badRequest("principal or thingName is needed")
	}
	answer := []effectivePolicy{}
	refused := e.look(func(r *Registry) *apiError {
		targets, refused := r.effectiveTargets(request.Principal, thing)
		if refused != nil {
			return refused
		}
		for _, p := range r.documents(targets...) {
			answer = append(answer, effectivePolicy{policyEntry{p.Name, policyARN(p.Name)}, p.Document.String()})
		}
		return nil
	})
	return map[string]any{"effectivePolicies": answer}, refused
}

// authTypes are the actions that TestAuthorization knows, and whether they are about
// topics.
var authTypes = map[string]string{"PUBLISH": "iot:Publish", "SUBSCRIBE": "iot:Subscribe", "RECEIVE": "iot:Receive", "CONNECT": "iot:Connect"}

func authAction(actionType string) (string, *apiError) {
	action, ok := authTypes[actionType]
	if !ok {
		return "", constraint("authInfos.actionType", fmt.Sprintf("Member must satisfy enum value set: %s", []string{"PUBLISH", "SUBSCRIBE", "RECEIVE", "CONNECT"}))
	}
	return action, nil
}
