package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// crossCheck looks at definitions and policies together: each policy named must be
// there, and what the named ones hold must be understood (client-device-auth spec 1.3).
func (p *parser) crossCheck(used map[string]usedPolicy, policies map[string]policyNode) {
	for _, name := range slices.Sorted(maps.Keys(used)) {
		u := used[name]
		if policy, ok := policies[name]; ok {
			p.checkVariables(policy)
			continue
		}
		e := p.fail(KindMissingPolicy, u.at, u.path, "there is no policy %.80q", name)
		e.Hint = "add it under policies, or name one that is there; case counts"
		if near := nearest(name, slices.Sorted(maps.Keys(policies))); near != "" {
			e.Hint = "did you mean " + strconv.Quote(near) + "?"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		if _, ok := used[name]; !ok {
			policy := policies[name]
			p.warn(policy.at, policy.path, "name it in a definition, or remove it", "no definition uses this policy, so it gives nobody anything")
		}
	}
}

// checkVariables refuses variables that cannot be resolved. A statement without
// operations grants nothing and is not looked at.
func (p *parser) checkVariables(policy policyNode) {
	for _, s := range policy.statements {
		if len(s.statement.Operations) == 0 {
			continue
		}
		for _, n := range s.resources {
			if bad, ok := unknownVariable(n.text); ok {
				p.fail(KindUnknownVariable, n, s.path+".resources["+strconv.Itoa(n.index)+"]", "the variable %.80q is not known", bad).Hint =
					"the only one is " + permission.ThingNameVariable
			}
		}
	}
}

// unknownVariable returns the first "${...}" that is not the thing's name. It reads from
// "${" to the next "}"; without one, the rest is plain text.
func unknownVariable(s string) (string, bool) {
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			return "", false
		}
		s = s[i:]
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", false
		}
		if s[:end+1] != permission.ThingNameVariable {
			return s[:end+1], true
		}
		s = s[end+1:]
	}
}

// checkOperation warns of an operation that no request can match.
func (p *parser) checkOperation(n *node, path string) {
	if !operationCanMatch(n.text) {
		p.warn(n, path, `write an operation such as "mqtt:publish", or "mqtt:*", or "*"`, "no request can match the operation %.80q", n.text)
		return
	}
	if action, ok := strings.CutPrefix(n.text, "mqtt:"); ok && action != "*" && !slices.Contains(mqttActions, action) {
		p.warn(n, path, `MQTT brokers ask for "mqtt:connect", "mqtt:publish" and "mqtt:subscribe"`, "no MQTT broker asks for the operation %.80q", n.text)
	}
}

// mqttActions are those that brokers ask for (client-device-auth spec 3).
var mqttActions = []string{"connect", "publish", "subscribe"}

func operationCanMatch(operation string) bool {
	if operation == "*" {
		return true
	}
	if service, ok := strings.CutSuffix(operation, ":*"); ok {
		return permission.CheckOperation(service+":x") == nil
	}
	return permission.CheckOperation(operation) == nil
}

// checkResource warns of a plain resource that no request can match. Of those with '*'
// or a variable only the length is looked at.
func (p *parser) checkResource(n *node, path string) {
	if !resourceCanMatch(n.text) {
		p.warn(n, path, `write a resource such as "mqtt:topic:plants/*"`, "no request can match the resource %.80q", n.text)
	}
}

func resourceCanMatch(resource string) bool {
	if len(resource) > permission.MaxResourceBytes {
		return false
	}
	if strings.Contains(resource, "*") || strings.Contains(resource, permission.ThingNameVariable) {
		return true
	}
	return permission.CheckResource(resource) == nil
}

// properties returns the values of an object's known properties. Names match without
// regard to case; unknown ones are accepted with a warning, those that begin with '_'
// are dropped (client-device-auth spec 1).
func (p *parser) properties(n *node, path string, known ...string) map[string]*node {
	values := make(map[string]*node, len(known))
	for _, e := range p.names(n, path) {
		name := ""
		for _, k := range known {
			if fold(k) == fold(e.key.text) {
				name = k
			}
		}
		if name != "" {
			values[name] = e.value
			continue
		}
		hint := "remove it; the properties are " + strings.Join(known, ", ")
		if near := nearest(e.key.text, known); near != "" {
			hint = "did you mean " + strconv.Quote(near) + "?"
		}
		p.warn(e.key, path, hint, "the property %.80q is not known and has no effect", e.key.text)
	}
	return values
}

// names returns an object's entries without those that begin with '_'. Nothing is an
// empty object. Two names that differ only in case are one (spec 1), and so an error.
func (p *parser) names(n *node, path string) []entry {
	if n == nil || n.kind == nodeNull {
		return nil
	}
	if n.kind != nodeMapping {
		p.fail(KindType, n, path, "an object is expected, found %s", n.kind)
		return nil
	}
	seen := make(map[string]string, len(n.entries))
	kept := make([]entry, 0, len(n.entries))
	for _, e := range n.entries {
		folded := fold(e.key.text)
		if first, dup := seen[folded]; dup {
			p.fail(KindDuplicate, e.key, join(path, e.key.text), "%.80q is given twice (case does not count; the first is %.80q)", e.key.text, first).Hint =
				"rename or remove one"
			continue
		}
		seen[folded] = e.key.text
		if !strings.HasPrefix(e.key.text, "_") {
			kept = append(kept, e)
		}
	}
	return kept
}

// text returns a scalar's text. Numbers and the like are taken as they are written: YAML
// takes an unquoted 2021-03-05 for a date.
func (p *parser) text(n *node, path string) (string, bool) {
	if n.kind != nodeScalar {
		p.fail(KindType, n, path, "a text is expected, found %s", n.kind)
		return "", false
	}
	return n.text, true
}

// list returns a list's texts, without empty ones, and their places.
func (p *parser) list(n *node, path string) ([]string, []*node) {
	texts := []string{}
	if n == nil || n.kind == nodeNull {
		return texts, nil
	}
	if n.kind != nodeSequence {
		p.fail(KindType, n, path, "a list is expected, found %s", n.kind).Hint = `put it in brackets: ["..."]`
		return texts, nil
	}
	var places []*node
	for i, item := range n.items {
		if item.kind == nodeNull {
			continue
		}
		if text, ok := p.text(item, path+"["+strconv.Itoa(i)+"]"); ok && text != "" {
			item.index = i
			texts, places = append(texts, text), append(places, item)
		}
	}
	return texts, places
}

// fold makes names comparable without regard to case.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// join appends a name to a path; one that would be misread is quoted.
func join(path, name string) string {
	if name == "" || strings.ContainsAny(name, ". []\"\n\t") {
		name = strconv.Quote(name)
	}
	return path + "." + name
}

// nearest returns the name that was probably meant: one that differs in case or in two
// letters at most.
func nearest(name string, known []string) string {
	best, bestDistance := "", 3
	for _, k := range known {
		if strings.EqualFold(name, k) {
			return k
		}
		if d := distance(name, k); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements between a and b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
