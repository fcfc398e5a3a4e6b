package registration

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A template is text with variables, ${subject.commonName}. Nothing else has a meaning: "$"
// that no "{" follows is itself.
type template struct {
	parts []part
}

type part struct {
	text     string // if variable is ""
	variable string
}

// Limits of what a configuration gives.
const (
	templateBytesMax = 1024
	partsMax         = 32
)

// variables are those a template may use.
var variables = func() []string {
	names := []string{"authority.id", "certificate.id", "certificate.serial", "thing.name"}
	for _, a := range attributes {
		names = append(names, "subject."+a.name, "issuer."+a.name)
	}
	slices.Sort(names)
	return names
}()

// VariableNames are the variables of templates, in order.
func VariableNames() []string { return slices.Clone(variables) }

// parseTemplate reads a template. keep says which further variables are left in the text as
// they are, for others to replace; nil: none.
func parseTemplate(text string, bytesMax int, keep func(string) bool) (template, error) {
	var t template
	if len(text) > bytesMax {
		return t, fmt.Errorf("%d bytes, at most %d", len(text), bytesMax)
	}
	for at := 0; at < len(text); {
		begin := strings.Index(text[at:], "${")
		if begin < 0 {
			t.add(part{text: text[at:]})
			break
		}
		begin += at
		end := strings.IndexByte(text[begin:], '}')
		if end < 0 {
			return template{}, fmt.Errorf("at byte %d: ${ without its }", begin)
		}
		end += begin
		name := text[begin+2 : end]
		t.add(part{text: text[at:begin]})
		switch {
		case slices.Contains(variables, name):
			t.add(part{variable: name})
		case keep != nil && keep(name):
			t.add(part{text: text[begin : end+1]})
		default:
			return template{}, fmt.Errorf("at byte %d: unknown variable %.60q: want one of %s", begin, name, strings.Join(variables, ", "))
		}
		at = end + 1
	}
	if len(t.parts) > partsMax {
		return template{}, fmt.Errorf("%d pieces, at most %d", len(t.parts), partsMax)
	}
	return t, nil
}

func (t *template) add(p part) {
	if p.text != "" || p.variable != "" {
		t.parts = append(t.parts, p)
	}
}

// uses says whether the template has a variable for which is says so.
func (t template) uses(is func(string) bool) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.variable != "" && is(p.variable) })
}

// expand puts values in. safe refuses a value for where the text goes.
func (t template) expand(f facts, safe func(string) error) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		value, err := f.value(p.variable)
		if err == nil {
			err = safe(value)
		}
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", p.variable, err)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// value is what stands for a variable: exactly one value, or nothing does.
func (f facts) value(variable string) (string, error) {
	switch variable {
	case "authority.id":
		return string(f.authority), nil
	case "certificate.id":
		return string(f.id), nil
	case "certificate.serial":
		return serialOf(f.leaf), nil
	case "thing.name":
		return string(f.thing), nil
	}
	whose, attribute, _ := strings.Cut(variable, ".")
	name := f.leaf.Subject
	if whose == "issuer" {
		name = f.leaf.Issuer
	}
	values := valuesOf(name, attribute)
	switch {
	case len(values) == 0:
		return "", fmt.Errorf("the certificate's %s gives none", whose)
	case len(values) > 1:
		return "", fmt.Errorf("the certificate's %s gives %d of them: which counts is not guessed", whose, len(values))
	case values[0] == unreadable:
		return "", fmt.Errorf("the certificate's %s gives one that is no text, or longer than %d bytes", whose, valueBytesMax)
	case values[0] == "":
		return "", fmt.Errorf("the certificate's %s gives an empty one", whose)
	}
	return values[0], nil
}

// anyText takes every value: what is made of it is checked as a whole.
func anyText(string) error { return nil }

// safeInResource takes what is one level of a topic and one segment of an ARN, and means
// nothing to a policy or to MQTT: no wildcard (* ? + #), no variable ($ { }), no separator of
// levels (/), nothing that JSON escapes.
func safeInResource(value string) error {
	for _, r := range value {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.:@=, ", r) {
			return fmt.Errorf("%q must not stand in a policy, where it could reach further than its own name", r)
		}
	}
	return nil
}
