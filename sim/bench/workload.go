package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// statementCount is what design.md, section 13, counts.
const statementCount = 1000

// A statement allows one operation on the resources of one pattern.
type statement struct {
	operation string
	pattern   string // of resources; '*' only at the end
}

const (
	publish   = "mqtt:publish"
	subscribe = "mqtt:subscribe"
	connect   = "mqtt:connect"
)

// statements makes n of them: of five, two are exact topics, two are everything under a
// place, one is under the thing's own place.
func statements(n int) []statement {
	all := make([]statement, n)
	for i := range all {
		site := fmt.Sprintf("site-%02d/line-%03d", i%20, i)
		switch i % 5 {
		case 0, 2:
			all[i] = statement{publish, "mqtt:topic:plants/" + site + "/temperature"}
		case 1:
			all[i] = statement{publish, "mqtt:topic:plants/" + site + "/*"}
		case 3:
			all[i] = statement{subscribe, "mqtt:topicfilter:plants/" + site + "/*"}
		default:
			all[i] = statement{publish, "mqtt:topic:things/" + permission.ThingNameVariable + "/" + site + "/*"}
		}
	}
	return all
}

// policyDocument is list as a deviceGroups section for all things, which may connect.
func policyDocument(list []statement) ([]byte, error) {
	type written struct {
		Operations []string `json:"operations"`
		Resources  []string `json:"resources"`
	}
	policy := map[string]written{"connect": {[]string{connect}, []string{"mqtt:clientId:" + permission.ThingNameVariable}}}
	for i, s := range list {
		policy[fmt.Sprintf("s%04d", i)] = written{[]string{s.operation}, []string{s.pattern}}
	}
	return json.Marshal(map[string]any{
		"formatVersion": "2021-03-05",
		"definitions":   map[string]any{"all": map[string]string{"selectionRule": "thingName: *", "policyName": "plants"}},
		"policies":      map[string]any{"plants": policy},
	})
}

// A question is one request to be decided, and the right answer.
type question struct {
	operation, resource string
	allowed             bool
}

// questions makes one for each statement of list, for thing. Of five, one is to be
// denied: another operation, another line, another thing.
func questions(list []statement, thing messages.ThingName) []question {
	all := make([]question, len(list))
	for i, s := range list {
		q := question{operation: s.operation, resource: fill(s.pattern, thing), allowed: true}
		if n := len(q.resource) - 1; q.resource[n] == '*' {
			q.resource = q.resource[:n] + fmt.Sprintf("cell-%d/value", i%7)
		}
		if i%25/5 == 0 { // all of one group of five in five
			q = wrong(q, i%5)
		}
		all[i] = q
	}
	return all
}

// wrong makes q one that nothing allows.
func wrong(q question, way int) question {
	q.allowed = false
	switch way {
	case 0:
		q.operation = subscribe // of a topic: no statement allows that
	case 4:
		q.resource = "mqtt:topic:things/another" + q.resource[len("mqtt:topic:things/"):]
	default:
		q.resource = insert(q.resource, "plants/", "gardens/")
	}
	return q
}

// insert puts text after the first occurrence of mark.
func insert(s, mark, text string) string {
	before, after, _ := strings.Cut(s, mark)
	return before + mark + text + after
}

// fill puts thing's name in the place of the variable.
func fill(pattern string, thing messages.ThingName) string {
	return strings.ReplaceAll(pattern, permission.ThingNameVariable, string(thing))
}
