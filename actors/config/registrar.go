package config

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Registrar says which devices are registered in AWS IoT, and as what.
type Registrar struct {
	registration.Config
	// ClientID is the MQTT client id by which registrations are heard of. Empty: the core's
	// thing name and "-registrar".
	ClientID string `json:"clientId,omitempty"`
}

const (
	rulesMax    = 100
	perHourMax  = 10000
	validityMax = 100 * 365 * 24 * time.Hour
)

// registrar reads the rules; nil if there are none.
func (r *reader) registrar(registration object, cloud *Cloud) *Registrar {
	n, path := registration.get("registrar")
	if n == nil {
		return nil
	}
	o := registration.child("registrar", "perHour", "onDenied", "clientId", "rules")
	c := &Registrar{Config: defaultRegistrar(cloud)}
	o.within("perHour", &c.PerHour, 1, perHourMax)
	o.choice("onDenied", &c.OnDenied, deniedWords...)
	o.string("clientId", &c.ClientID)
	if id, err := messages.ParseThingName(c.ClientID); err == nil { // any other text is no device's
		c.Config.ClientID = id
	}
	before := len(r.problems)
	c.Rules = r.rules(o)
	authorities, missing := registration.get("authorities")
	if authorities == nil {
		r.fail(policy.KindMissing, registration.node, missing, "missing", "a value, since registration.registrar is set", "it names whose devices are registered")
	}
	if cloud.Control.Credentials == "" {
		r.fail(KindConflict, n, path, "the registrar has no credentials", "cloud.control.credentials", "or remove the key")
	}
	if len(r.problems) == before {
		r.compileRules(n, path, c.Config)
	}
	return c
}

var deniedWords = []string{registration.DeniedLeave, registration.DeniedInactivate, registration.DeniedRevoke}

func defaultRegistrar(cloud *Cloud) registration.Config {
	return registration.Config{PerHour: registration.DefaultPerHour, OnDenied: registration.DeniedLeave, Core: messages.ThingName(cloud.ThingName)}
}

func (r *reader) rules(o object) []registration.Rule {
	n, path := o.get("rules")
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) > rulesMax {
		r.fail(policy.KindType, n, path, quoted(n)+" stands where rules are expected", "a list of at most "+strconv.Itoa(rulesMax), "begin each rule with a dash")
		return nil
	}
	var rules []registration.Rule
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		if item.Kind != yaml.MappingNode {
			r.fail(policy.KindType, item, at, quoted(item)+" stands where a rule is expected", "a mapping", "")
			continue
		}
		rules = append(rules, r.rule(r.object(item, at, strict, "name", "effect", "match", "thing", "policy", "associate")))
	}
	return rules
}

func (r *reader) rule(o object) registration.Rule {
	var rule registration.Rule
	o.string("name", &rule.Name)
	o.choice("effect", &rule.Effect, registration.EffectAllow, registration.EffectDeny)
	r.match(o.child("match", "authority", "subject", "issuer", "serial", "dns", "email", "uri", "ip", "certificate", "key", "validityMax"), &rule.Match)
	thing := o.child("thing", "name", "clientId", "type", "attributes", "group", "takeover")
	thing.string("name", &rule.Thing.Name)
	thing.flag("clientId", &rule.Thing.ClientID)
	thing.string("type", &rule.Thing.Type)
	thing.string("group", &rule.Thing.Group)
	thing.flag("takeover", &rule.Thing.Takeover)
	thing.texts("attributes", &rule.Thing.Attributes)
	document := o.child("policy", "name", "document")
	document.string("name", &rule.Policy.Name)
	rule.Policy.Document = document.text("document")
	o.flag("associate", &rule.Associate)
	return rule
}

func (r *reader) match(o object, m *registration.Match) {
	o.durationWithin("validityMax", &m.ValidityMax, time.Second, validityMax)
	for key, patterns := range map[string]*[]string{
		"authority": &m.Authority, "serial": &m.Serial, "dns": &m.DNS, "email": &m.Email, "uri": &m.URI, "ip": &m.IP, "certificate": &m.Certificate, "key": &m.Key,
	} {
		*patterns = o.patterns(key)
	}
	for key, attributes := range map[string]*map[string][]string{"subject": &m.Subject, "issuer": &m.Issuer} {
		name := o.child(key, registration.AttributeNames()...)
		for _, attribute := range registration.AttributeNames() {
			if list := name.patterns(attribute); list != nil {
				if *attributes == nil {
					*attributes = map[string][]string{}
				}
				(*attributes)[attribute] = list
			}
		}
	}
}

// patterns reads a list of texts, in which blanks count; one text is a list of one. nil: the
// key is absent.
func (o object) patterns(key string) []string {
	n, path := o.get(key)
	if n == nil {
		return nil
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	list := []string{}
	for i, item := range items {
		if item.Kind != yaml.ScalarNode {
			o.r.fail(policy.KindType, item, path+"["+strconv.Itoa(i)+"]", quoted(item)+" stands where a pattern is expected", "text", "")
			continue
		}
		list = append(list, item.Value)
	}
	return list
}

// texts reads a mapping of texts by names of the writer's.
func (o object) texts(key string, values *map[string]string) {
	n, path := o.get(key)
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		o.r.fail(policy.KindType, n, path, quoted(n)+" stands where names with texts are expected", "a mapping", "")
		return
	}
	var names []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		names = append(names, n.Content[i].Value)
	}
	inner := o.r.object(n, path, strict, names...)
	*values = map[string]string{}
	for _, name := range names {
		(*values)[name] = inner.text(name)
	}
}

// compileRules finds what the rules' own reader has to say, with its places.
func (r *reader) compileRules(n *yaml.Node, path string, c registration.Config) {
	_, err := registration.Compile(c)
	list, _ := errors.AsType[registration.Errors](err)
	for _, e := range list {
		r.fail(KindValue, nodeAt(n, e.Path), path+"."+e.Path, e.Msg, "", e.Hint)
	}
}

// nodeAt is what stands at a path below n, or as much of the way as there is.
func nodeAt(n *yaml.Node, path string) *yaml.Node {
	for _, step := range strings.FieldsFunc(path, func(c rune) bool { return c == '.' || c == '[' || c == ']' }) {
		next := (*yaml.Node)(nil)
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next = n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
				next = n.Content[i]
			}
		}
		if next == nil || absent(next) {
			return n
		}
		n = next
	}
	return n
}
