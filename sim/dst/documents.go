package dst

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Topics that devices use: their own, one for all of a class, one for everybody, and hostile
// ones.

func ownTopic(i int) string { return "own/" + string(ThingOf(i)) + "/state" }

func topicOf(r *rand.Rand, p *Plan, i int) string {
	switch n := r.IntN(20); {
	case n < 10:
		return ownTopic(i)
	case n < 13:
		return "class/" + classes[i%len(classes)]
	case n < 15:
		return "all"
	case n < 17:
		return ownTopic(r.IntN(p.Devices)) // another's
	default:
		return []string{"own/#", "own/*", "own/+/state", "#", "$SYS/x", "own/" + naiveVariable + "/state", "own", "all/", strings.Repeat("a/", 40)}[r.IntN(9)]
	}
}

func filterOf(r *rand.Rand, p *Plan, i int) string {
	switch n := r.IntN(20); {
	case n < 9:
		return "own/" + string(ThingOf(i)) + "/#"
	case n < 12:
		return "class/" + classes[i%len(classes)]
	case n < 14:
		return "all"
	case n < 16:
		return "own/" + string(ThingOf(r.IntN(p.Devices))) + "/#"
	default:
		return []string{"#", "+/+/state", "own/#", "own/+/state", "$share/g/all", "own/*"}[r.IntN(6)]
	}
}

// statement is one permission of a policy that is being made up.
type statement struct {
	operations, resources []string
}

// rights are what a group of devices may, drawn at random. connect: it may connect.
func rights(r *rand.Rand, connect bool) []statement {
	var list []statement
	if connect {
		resource := []string{"mqtt:clientId:" + naiveVariable, "mqtt:clientId:*", "*"}[pick(r, 6, 3, 1)]
		list = append(list, statement{[]string{"mqtt:connect"}, []string{resource}})
	}
	if r.IntN(10) > 0 {
		list = append(list, statement{[]string{"mqtt:publish", "mqtt:subscribe"}, []string{
			"mqtt:topic:own/" + naiveVariable + "/*", "mqtt:topicfilter:own/" + naiveVariable + "/*",
		}})
	}
	if r.IntN(3) == 0 {
		list = append(list, statement{[]string{[]string{"mqtt:publish", "mqtt:*"}[r.IntN(2)]}, []string{"mqtt:topic:all", "mqtt:topic:class/*"}})
	}
	if r.IntN(3) == 0 {
		list = append(list, statement{[]string{"mqtt:subscribe"}, []string{[]string{"mqtt:topicfilter:*", "mqtt:topicfilter:all", "mqtt:topicfilter:class/*"}[r.IntN(3)]}})
	}
	return list
}

// policyText makes up a deviceGroups document. generous is how likely a class is let in.
func policyText(r *rand.Rand, p *Plan, generous float64) string {
	type m = map[string]any
	definitions, policies := m{}, m{}
	add := func(group, rule string, list []statement) {
		statements := m{}
		for i, s := range list {
			statements["s"+strconv.Itoa(i)] = m{"statementDescription": group, "effect": "ALLOW", "operations": s.operations, "resources": s.resources}
		}
		definitions[group] = m{"selectionRule": rule, "policyName": "p-" + group}
		policies["p-"+group] = statements
	}
	if r.IntN(2) == 0 {
		add("everybody", naiveRule+" *", rights(r, r.Float64() < generous))
	} else {
		for _, class := range classes {
			add(class, naiveRule+" "+class+"-*", rights(r, r.Float64() < generous))
		}
	}
	if r.IntN(4) == 0 {
		add("few", naiveRule+" "+string(ThingOf(r.IntN(p.Devices)))+" OR "+naiveRule+" *-1", rights(r, r.IntN(2) == 0))
	}
	if p.Setup.Offline {
		add(naivePending, naiveRule+" "+[]string{"*", "*", classes[r.IntN(len(classes))] + "-*"}[r.IntN(3)], rights(r, r.Float64() < generous))
	}
	text, err := json.Marshal(m{"formatVersion": naiveVersion, "definitions": definitions, "policies": policies})
	if err != nil {
		panic(err) // maps of strings
	}
	return string(text)
}

// badPolicy makes up a document that must not be taken.
func badPolicy(r *rand.Rand, p *Plan) string {
	good := policyText(r, p, 1)
	switch r.IntN(6) {
	case 0:
		return good[:len(good)*2/3]
	case 1:
		return strings.ReplaceAll(good, naiveVersion, "2021-03-06")
	case 2:
		return strings.ReplaceAll(good, "ALLOW", "DENY")
	case 3:
		return strings.ReplaceAll(good, `"policyName":"`, `"policyName":"x`)
	case 4:
		return strings.ReplaceAll(good, `"selectionRule":"`, `"selectionRule":"(`)
	default:
		return strings.ReplaceAll(good, `"resources":["`, `"resources":["${iot:Odd}`)
	}
}

// rotationsMax is how often a broker's certificate is replaced in a run, about: each time takes
// as long as a thousand steps.
const rotationsMax = 20

// sectionText makes up a clientDeviceAuth document.
func sectionText(r *rand.Rand, p *Plan) string {
	minutes := []int{1, 2, 5, 15, 60, 600, 1440, 43200}[r.IntN(8)]
	sessions := 2500
	if r.IntN(8) == 0 {
		sessions = 1 + r.IntN(2*p.Devices+2)
	}
	validity := []int{60, 300, 3600, 86400, 604800}[pick(r, 1, 2, 3, 3, 3)]
	validity = max(validity, int(p.Duration.Seconds())/rotationsMax)
	return fmt.Sprintf(`{"security":{"clientDeviceTrustDurationMinutes":%d},"sessions":{"closeOnRevoke":%t},`+
		`"performance":{"maxActiveAuthTokens":%d,"maxConcurrentCloudRequests":%d,"cloudRequestQueueSize":%d},`+
		`"certificateAuthority":{"caType":"ECDSA_P256"},"certificates":{"serverCertificateValiditySeconds":%d},"refresh":{"massRemovalGuard":%t}}`,
		minutes, r.IntN(7) > 0, sessions, 1+r.IntN(8), []int{100, 100, 1000, 4}[r.IntN(4)], validity, r.IntN(5) > 0)
}

// pick draws an index by weights.
func pick(r *rand.Rand, weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := r.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	panic("dst: weights that do not add up")
}
