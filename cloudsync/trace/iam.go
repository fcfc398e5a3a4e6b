package trace

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

const (
	assumeRole         = "sts:AssumeRole"
	credentialsService = "credentials.iot.amazonaws.com"
)

// answer is yes, no, or perhaps, where something decides that is not known here.
type answer int

const (
	no answer = iota
	perhaps
	yes
)

// trusts says whether a trust policy lets the credentials provider assume the role for the
// alias of that ARN, in account; why says what stands in the way, or what is not known.
func trusts(document, alias, account string) (can answer, why string) {
	d, err := iampolicy.ParseTrust(document)
	if err != nil {
		return perhaps, "it cannot be understood: " + err.Error()
	}
	// AWS advises the two conditions against the confused deputy; others are not known here.
	known := iampolicy.Context{}
	known.Set("aws:SourceArn", alias)
	known.Set("aws:SourceAccount", account)
	decision, by := iampolicy.Evaluate(iampolicy.Request{
		Action: assumeRole, Principal: iampolicy.Principal{Kind: iampolicy.KindService, Names: []string{credentialsService}}, Context: known,
	}, d)
	foreign := slices.DeleteFunc(conditionKeys(document), func(k string) bool { _, ok := known[strings.ToLower(k)]; return ok })
	switch {
	case len(foreign) > 0:
		return perhaps, "it depends on conditions that are not judged here: " + strings.Join(foreign, ", ")
	case decision == iampolicy.Allowed:
		return yes, ""
	case decision == iampolicy.ExplicitDeny:
		return no, fmt.Sprintf("statement %d denies it", by.Statement+1)
	}
	return no, fmt.Sprintf("no statement allows %s to the service %s for this alias", assumeRole, credentialsService)
}

// conditionKeys are those of a document that was understood.
func conditionKeys(document string) (keys []string) {
	var outer struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(document), &outer) != nil {
		return nil
	}
	type conditioned struct {
		Condition map[string]map[string]any
	}
	var list []conditioned
	if json.Unmarshal(outer.Statement, &list) != nil {
		list = make([]conditioned, 1)
		if json.Unmarshal(outer.Statement, &list[0]) != nil {
			return nil
		}
	}
	for _, s := range list {
		for _, operator := range s.Condition {
			for key := range operator {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// permits says whether a role's policies allow action on resource. Perhaps: on another one,
// or under conditions.
func permits(policies []RolePolicy, action, resource string) (can answer, why string) {
	documents := make([]*iampolicy.Document, len(policies))
	var err error
	mentioned := ""
	for i, p := range policies {
		if documents[i], err = iampolicy.ParseIdentity(p.Document); err != nil {
			return perhaps, fmt.Sprintf("policy %s cannot be understood: %v", p.Name, err)
		}
		if allows, _ := documents[i].Mentions(action); allows {
			mentioned = p.Name
		}
	}
	decision, by := iampolicy.Evaluate(iampolicy.Request{Action: action, Resource: resource}, documents...)
	switch {
	case decision == iampolicy.Allowed:
		return yes, "by policy " + policies[by.Document].Name
	case decision == iampolicy.ExplicitDeny:
		return no, "policy " + policies[by.Document].Name + " denies it"
	case mentioned != "":
		return perhaps, "by policy " + mentioned + " for other resources, or under conditions"
	}
	return no, "no policy of the role allows it"
}
