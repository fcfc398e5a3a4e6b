package registration

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Limits of rules.
const (
	rulesMax        = 100
	patternsMax     = 256 // of one condition
	patternBytesMax = 256
	perHourMax      = 10000
	attributesMax   = 50 // of a thing with a type; 3 without (cloud spec 4.6)
	untypedMax      = 3
	ruleNameMax     = 64
)

// Compile checks cfg and makes Rules of it; an error is Errors.
func Compile(cfg Config) (Rules, error) {
	var e Errors
	r := Rules{perHour: cfg.PerHour, onDenied: cfg.OnDenied}
	if r.perHour == 0 {
		r.perHour = DefaultPerHour
	}
	if cfg.PerHour < 0 || cfg.PerHour > perHourMax {
		e.add("perHour", "", "%d: want 1 to %d", cfg.PerHour, perHourMax)
	}
	switch cfg.OnDenied {
	case "", DeniedLeave, DeniedInactivate, DeniedRevoke:
	default:
		e.add("onDenied", "", "%.40q: want %s, %s or %s", cfg.OnDenied, DeniedLeave, DeniedInactivate, DeniedRevoke)
	}
	if cfg.Core != "" {
		r.reserved = []messages.ThingName{cfg.Core, cfg.Core + "-gci", cfg.Core + "-registrar"}
	}
	if cfg.ClientID != "" {
		r.reserved = append(r.reserved, cfg.ClientID)
	}
	if len(cfg.Rules) > rulesMax {
		e.add("rules", "", "%d rules, at most %d", len(cfg.Rules), rulesMax)
		return Rules{}, e
	}
	names := map[string]bool{}
	for i := range cfg.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		rule := cfg.Rules[i].compile(path, &e)
		if names[rule.name] {
			e.add(path+".name", "outcomes tell the rule by its name", "%q is another rule's name", rule.name)
		}
		names[rule.name] = true
		r.rules = append(r.rules, rule)
	}
	if len(e) > 0 {
		return Rules{}, e
	}
	return r, nil
}

func (in *Rule) compile(path string, e *Errors) rule {
	r := rule{name: in.Name, validity: in.Match.ValidityMax}
	if in.Name == "" || len(in.Name) > ruleNameMax || strings.ContainsFunc(in.Name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		e.add(path+".name", "", "%.80q: want 1 to %d printable characters", in.Name, ruleNameMax)
	}
	switch in.Effect {
	case "", EffectAllow:
	case EffectDeny:
		r.deny = true
	default:
		e.add(path+".effect", "", "%.40q: want %s or %s", in.Effect, EffectAllow, EffectDeny)
	}
	r.conditions = in.Match.compile(path+".match", e)
	switch {
	case in.Match.ValidityMax < 0:
		e.add(path+".match.validityMax", "", "%s: want a time that is not negative", in.Match.ValidityMax)
	case in.Match.ValidityMax > 0 && r.deny:
		e.add(path+".match.validityMax", "give it to the rule that allows: a longer one is then denied", "a deny rule has none")
	}
	if r.deny {
		if in.Thing.Name != "" || in.Thing.ClientID || in.Thing.Type != "" || in.Thing.Group != "" || in.Thing.Takeover || len(in.Thing.Attributes) > 0 {
			e.add(path+".thing", "remove it, or let the rule allow", "a deny rule makes no thing")
		}
		if in.Policy != (Policy{}) {
			e.add(path+".policy", "remove it, or let the rule allow", "a deny rule attaches no policy")
		}
		if in.Associate {
			e.add(path+".associate", "remove it, or let the rule allow", "a deny rule associates nothing")
		}
		return r
	}
	in.Thing.compile(&r, path+".thing", e)
	in.Policy.compile(&r, path+".policy", e)
	r.associate = in.Associate
	return r
}

func (in *Match) compile(path string, e *Errors) []condition {
	var list []condition
	add := func(key string, patterns []string, values func(facts) []string) {
		if patterns == nil {
			return
		}
		at := path + "." + key
		checkPatterns(at, patterns, e)
		list = append(list, condition{at, slices.Clone(patterns), values})
	}
	add("authority", in.Authority, func(f facts) []string { return []string{string(f.authority)} })
	names := func(key string, attributes map[string][]string, values func(f facts, attribute string) []string) {
		for _, attribute := range slices.Sorted(maps.Keys(attributes)) {
			if !slices.Contains(AttributeNames(), attribute) {
				e.add(path+"."+key+"."+attribute, "", "unknown attribute: want one of %s", strings.Join(AttributeNames(), ", "))
				continue
			}
			add(key+"."+attribute, attributes[attribute], func(f facts) []string { return values(f, attribute) })
		}
	}
	names("subject", in.Subject, func(f facts, attribute string) []string { return valuesOf(f.leaf.Subject, attribute) })
	names("issuer", in.Issuer, func(f facts, attribute string) []string { return valuesOf(f.leaf.Issuer, attribute) })
	add("serial", in.Serial, func(f facts) []string { return []string{serialOf(f.leaf)} })
	add("dns", in.DNS, func(f facts) []string { return bounded(f.leaf.DNSNames) })
	add("email", in.Email, func(f facts) []string { return bounded(f.leaf.EmailAddresses) })
	add("uri", in.URI, func(f facts) []string { return bounded(urisOf(f.leaf)) })
	add("ip", in.IP, func(f facts) []string { return ipsOf(f.leaf) })
	add("certificate", in.Certificate, func(f facts) []string { return []string{string(f.id)} })
	add("key", in.Key, func(f facts) []string {
		if kind, err := KeyType(f.leaf.PublicKey); err == nil {
			return []string{kind}
		}
		return []string{unreadable}
	})
	return list
}

func urisOf(leaf *x509.Certificate) []string {
	var list []string
	for _, uri := range leaf.URIs {
		list = append(list, uri.String())
	}
	return list
}

func ipsOf(leaf *x509.Certificate) []string {
	var list []string
	for _, ip := range leaf.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

func checkPatterns(path string, patterns []string, e *Errors) {
	if len(patterns) == 0 || len(patterns) > patternsMax {
		e.add(path, "leave it out if it does not matter", "%d patterns, want 1 to %d", len(patterns), patternsMax)
	}
	for i, pattern := range patterns {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case pattern == "":
			e.add(at, "", "an empty pattern")
		case len(pattern) > patternBytesMax:
			e.add(at, "", "a pattern of %d bytes, at most %d", len(pattern), patternBytesMax)
		case strings.Contains(pattern, "${"):
			e.add(at, "patterns are compared as they are", "a variable in a pattern")
		}
	}
}

func (in *Thing) compile(r *rule, path string, e *Errors) {
	var err error
	switch r.thing, err = parseTemplate(in.Name, templateBytesMax, nil); {
	case err != nil:
		e.add(path+".name", "", "%v", err)
	case in.Name == "":
		e.add(path+".name", "for example ${subject.commonName}", "an allow rule without a thing name")
	case r.thing.uses(func(v string) bool { return v == "thing.name" }):
		e.add(path+".name", "", "${thing.name} is what this says")
	case !r.thing.uses(func(v string) bool { return strings.HasPrefix(v, "subject.") || strings.HasPrefix(v, "certificate.") }):
		e.add(path+".name", "for example ${subject.commonName}", "the same name for every device")
	}
	for _, name := range []struct{ key, value string }{{"type", in.Type}, {"group", in.Group}} {
		if name.value != "" && !groupNamePattern.MatchString(name.value) {
			e.add(path+"."+name.key, "", "%.140q: want 1 to 128 letters, digits and :_-", name.value)
		}
	}
	if most := attributesMax; len(in.Attributes) > most || in.Type == "" && len(in.Attributes) > untypedMax {
		e.add(path+".attributes", "", "%d attributes: at most %d, and %d of a thing without a type", len(in.Attributes), most, untypedMax)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		value, err := parseTemplate(in.Attributes[name], templateBytesMax, nil)
		if err != nil {
			e.add(path+".attributes."+name, "", "%v", err)
		}
		if !attributeNamePattern.MatchString(name) {
			e.add(path+".attributes."+name, "", "%.140q: want 1 to 128 letters, digits and _.,@/:#-", name)
		}
		r.attributes = append(r.attributes, attribute{name, value})
	}
	r.clientID, r.thingType, r.group, r.takeover = in.ClientID, in.Type, in.Group, in.Takeover
}

func (in *Policy) compile(r *rule, path string, e *Errors) {
	var err error
	if r.policyName, err = parseTemplate(in.Name, templateBytesMax, nil); err != nil {
		e.add(path+".name", "", "%v", err)
	}
	if in.Document == "" {
		return
	}
	if in.Name == "" {
		e.add(path+".name", "", "a policy document without a name")
	}
	d, own, err := parseDocument(in.Document)
	if err != nil {
		e.add(path+".document", "", "%v", err)
		return
	}
	if own && !r.policyName.uses(func(v string) bool { return v == "thing.name" || v == "certificate.id" }) {
		e.add(path+".name", "add ${thing.name}, or let AWS replace ${iot:Connection.Thing.ThingName} in a document for all", "the document is another one for each device, its name is not")
	}
	r.document = d
}
