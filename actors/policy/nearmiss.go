package policy

import (
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// How near a miss is: what a person would most likely mend comes first.
const (
	scoreMQTTWildcard = 900
	scoreCase         = 800
	scoreType         = 700
	scoreOperation    = 600
	scoreOtherGroup   = 500
	scoreResource     = 100 // plus up to 99 for a common beginning
)

// compare says why p does not cover r; a score of 0 means that they have too little in
// common to tell.
func compare(p permission.Permission, r permission.Request, thing string) (why string, score int) {
	operation, resource := coversOperation(p.Operation, r), coversResource(p.Resource, r, thing)
	switch {
	case operation && resource:
		return "", 0 // it does cover r
	case resource && strings.EqualFold(p.Operation, r.Operation()):
		return fmt.Sprintf("the operation is written %q; case counts", p.Operation), scoreCase
	case resource && !strings.HasPrefix(p.Operation, r.Service()+":"):
		return "", 0 // another service: of no interest
	case resource:
		return fmt.Sprintf("the resource matches, but the statement allows %s and not %s", p.Operation, r.Operation()), scoreOperation
	case operation:
		return compareResource(substitute(p.Resource, thing), r.Resource())
	}
	return "", 0
}

// covers restates for one permission what a Set decides for many; a test holds the two
// together.
func covers(p permission.Permission, r permission.Request, thing string) bool {
	return coversOperation(p.Operation, r) && coversResource(p.Resource, r, thing)
}

func coversOperation(operation string, r permission.Request) bool {
	return operation == "*" || operation == r.Operation() || operation == r.Service()+":*"
}

func coversResource(resource string, r permission.Request, thing string) bool {
	return permission.Matches(substitute(resource, thing), r.Resource())
}

// substitute puts the thing's name in place of the variable. A thing name holds no '*'.
func substitute(resource, thing string) string {
	return strings.ReplaceAll(resource, permission.ThingNameVariable, thing)
}

// compareResource says why the permission's resource, with the thing's name in it, does
// not match the request's.
func compareResource(written, requested string) (why string, score int) {
	if permission.Matches(strings.ToLower(written), strings.ToLower(requested)) {
		return fmt.Sprintf("the resource is written %q; case counts", written), scoreCase
	}
	writtenType, writtenName := cutResource(written)
	requestedType, requestedName := cutResource(requested)
	switch {
	case mqttMatches(writtenName, requestedName) && writtenType == requestedType:
		return fmt.Sprintf("%q would match as an MQTT filter, but format %s compares '+' and '#' as text; use '*'", written, FormatVersion2021), scoreMQTTWildcard
	case writtenType != requestedType && permission.Matches(writtenName, requestedName):
		return fmt.Sprintf("the statement is about %s, the request about %s; publishing is on mqtt:topic, subscribing on mqtt:topicfilter, connecting on mqtt:clientId",
			writtenType, requestedType), scoreType
	case writtenType == requestedType && strings.ContainsAny(requestedName, "+#") && mqttMatches(requestedName, writtenName):
		return fmt.Sprintf("the filter asks for more than %q, which is allowed; only that same text is", written), scoreMQTTWildcard
	}
	common := 0
	for common < min(len(written), len(requested)) && written[common] == requested[common] {
		common++
	}
	if common == 0 {
		return "", 0
	}
	return fmt.Sprintf("the operation matches, but %q does not match the resource", written), scoreResource + min(common, 99)
}

// cutResource splits "service:type:name" into "service:type" and "name".
func cutResource(s string) (kind, name string) {
	i := strings.IndexByte(s, ':')
	if i < 0 {
		return "", s
	}
	j := strings.IndexByte(s[i+1:], ':')
	if j < 0 {
		return "", s
	}
	return s[:i+1+j], s[i+j+2:]
}

// mqttMatches says whether an MQTT filter with a wildcard covers a topic
// (MQTT 5, section 4.7). It only serves hints and never allows anything.
func mqttMatches(filter, topic string) bool {
	if !strings.ContainsAny(filter, "+#") || strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		level, filterRest, moreFilter := strings.Cut(filter, "/")
		if level == "#" {
			return !moreFilter
		}
		name, topicRest, moreTopic := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		if !moreTopic {
			return !moreFilter || filterRest == "#"
		}
		if !moreFilter {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
