package policy

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A vectorFile is the union of the shapes that RunVectors knows.
type vectorFile struct {
	Configs      map[string]json.RawMessage `json:"configs"`
	Vectors      []vector                   `json:"vectors"`
	DeviceGroups []sectionVector            `json:"deviceGroups"`
}

// A vector is one of selection-rules.json (it has a rule) or of policy-eval.json.
type vector struct {
	// Of both.
	ThingName messages.ThingName `json:"thingName"`
	Error     string             `json:"error"` // the kind of error that is wanted, or empty
	// Of selection rules.
	Rule  *string `json:"rule"`
	Match *bool   `json:"match"`
	// Of policy evaluation.
	Config    json.RawMessage `json:"config"` // a section, or the name of one in configs
	Session   string          `json:"session"`
	Operation *string         `json:"operation"`
	Resource  *string         `json:"resource"`
	Allowed   *bool           `json:"allowed"`
}

// A sectionVector is one of config-validation.json's deviceGroups.
type sectionVector struct {
	Name         string          `json:"name"`
	DeviceGroups json.RawMessage `json:"deviceGroups"`
	Valid        *bool           `json:"valid"`
	ErrorKind    Kind            `json:"errorKind"`
}

// The outcomes of a policy vector beside allowed and denied, as the files spell them.
const (
	outcomeServiceError = "service-error"
	outcomeInvalidToken = "invalid-auth-token"
)

// RunVectors runs a file of expected outcomes: selection rules, policy evaluation, or
// the sections of a configuration file that are to be accepted or refused. It returns
// how many held, how many did not, and a line for each of those. The error says that the
// file itself cannot be used.
func RunVectors(name string, data []byte) (passed, failed int, failures []string, err error) {
	var file vectorFile
	if err := json.Unmarshal(data, &file); err != nil {
		return 0, 0, nil, fmt.Errorf("policy vectors %s: %w", name, err)
	}
	if len(file.Vectors)+len(file.DeviceGroups) == 0 {
		return 0, 0, nil, fmt.Errorf(`policy vectors %s: no vectors; want an object with a list "vectors" or "deviceGroups"`, name)
	}
	report := func(where, problem string) {
		if problem == "" {
			passed++
			return
		}
		failed++
		failures = append(failures, fmt.Sprintf("%s: %s: %s", name, where, problem))
	}
	compiled := make(map[string]*Compiled)
	for i, v := range file.Vectors {
		where, problem := fmt.Sprintf("vectors[%d]", i), ""
		switch {
		case v.Rule != nil:
			problem = v.runRule()
		case v.Operation != nil && v.Resource != nil:
			problem = v.runPolicy(file.Configs, compiled)
		default:
			problem = `neither a "rule" nor an "operation" and a "resource"`
		}
		report(where, problem)
	}
	for i, v := range file.DeviceGroups {
		report(fmt.Sprintf("deviceGroups[%d] (%s)", i, v.Name), v.run())
	}
	return passed, failed, failures, nil
}

// runRule returns what is wrong, or nothing.
func (v *vector) runRule() string {
	rule, err := ParseRule(*v.Rule)
	got := ""
	if bad, ok := errors.AsType[*RuleError](err); ok {
		if got = "syntax"; bad.Lexical {
			got = "lexical"
		}
	}
	switch {
	case v.Error != got:
		return fmt.Sprintf("rule %q: error %q (%v), want %q", *v.Rule, got, err, v.Error)
	case v.Error != "":
		return ""
	case v.Match == nil:
		return fmt.Sprintf(`rule %q: neither "match" nor "error" says what is wanted`, *v.Rule)
	case rule.Matches(string(v.ThingName)) != *v.Match:
		return fmt.Sprintf("rule %q on thing %q: match %t, want %t", *v.Rule, v.ThingName, !*v.Match, *v.Match)
	}
	return ""
}

// runPolicy returns what is wrong, or nothing.
func (v *vector) runPolicy(configs map[string]json.RawMessage, compiled map[string]*Compiled) string {
	section := v.Config
	var name string
	if json.Unmarshal(section, &name) == nil {
		if section = configs[name]; section == nil {
			return fmt.Sprintf("there is no config %q", name)
		}
	}
	c := compiled[string(section)]
	if c == nil {
		doc, err := Parse(section, Options{})
		if err != nil {
			return "config: " + err.Error()
		}
		c = Compile(doc)
		compiled[string(section)] = c
	}
	outcome := v.outcome(c)
	request := fmt.Sprintf("thing %q %s %s", v.ThingName, *v.Operation, *v.Resource)
	if v.Session != "" {
		request = fmt.Sprintf("session %s %s %s", v.Session, *v.Operation, *v.Resource)
	}
	want := v.Error
	if want == "" {
		if v.Allowed == nil {
			return fmt.Sprintf(`%s: neither "allowed" nor "error" says what is wanted`, request)
		}
		want = map[bool]string{true: "allowed", false: "denied"}[*v.Allowed]
		// An unknown token is refused outright, which is more than a deny.
		if !*v.Allowed && outcome == outcomeInvalidToken {
			return ""
		}
	}
	if outcome != want {
		return fmt.Sprintf("%s: %s, want %s", request, outcome, want)
	}
	return ""
}

// outcome asks as the caller with the vector's session would. The sessions that a vector
// can name are "internal-component" and "no-thing-attribute"; any other, such as
// "token:ALLOW_ALL", is one that nobody opened, and is refused whatever its text.
func (v *vector) outcome(c *Compiled) string {
	var t *ThingPolicy
	switch v.Session {
	case "":
		t = c.For(v.ThingName)
	case "internal-component":
		t = Component()
	case "no-thing-attribute":
		t = c.For("")
	default:
		return outcomeInvalidToken
	}
	d := t.Evaluate(*v.Operation, *v.Resource)
	switch {
	case d.Err != nil:
		return outcomeServiceError
	case d.Allowed:
		return "allowed"
	default:
		return "denied"
	}
}

func (v *sectionVector) run() string {
	_, err := Parse(v.DeviceGroups, Options{})
	switch {
	case v.Valid == nil:
		return `"valid" does not say what is wanted`
	case *v.Valid && err != nil:
		return "refused, want accepted: " + err.Error()
	case *v.Valid:
		return ""
	case err == nil:
		return "accepted, want refused"
	}
	for _, e := range ErrorsOf(err) {
		if v.ErrorKind == "" || e.Kind == v.ErrorKind {
			return ""
		}
	}
	return fmt.Sprintf("refused, want a problem of kind %q: %v", v.ErrorKind, err)
}
