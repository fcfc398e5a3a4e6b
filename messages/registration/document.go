package registration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of a policy document's template. AWS takes 2,048 characters of the result.
const (
	documentBytesMax = 8 << 10
	documentDepthMax = 8
)

// A document is a policy with variables in its resources. It is kept as values, not as text:
// what a variable stands for becomes part of a string of JSON and of nothing else.
type document struct {
	value any // map[string]any, []any, template, or what JSON has beside
}

// left says which variables AWS IoT replaces itself.
func left(name string) bool {
	for _, prefix := range []string{"iot:", "aws:", "credentials-iot:"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// parseDocument reads a policy document. own: it has variables.
func parseDocument(text string) (d *document, own bool, err error) {
	if len(text) > documentBytesMax {
		return nil, false, fmt.Errorf("%d bytes, at most %d", len(text), documentBytesMax)
	}
	if err := oneMeaning(text); err != nil {
		return nil, false, err
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var root map[string]any
	if err := decoder.Decode(&root); err != nil || root == nil {
		return nil, false, fmt.Errorf("no JSON object: %v", err)
	}
	if _, ok := root["Statement"]; !ok {
		return nil, false, errors.New("it has no Statement")
	}
	value, own, err := compileValue(root, "", false)
	return &document{value}, own, err
}

// oneMeaning refuses what JSON decoders read in several ways: a name twice, something behind
// the end, and nesting without end.
func oneMeaning(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	names := []map[string]bool{} // of the objects one is in; nil for lists
	wantName := false
	for {
		token, err := d.Token()
		if err == io.EOF && len(names) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("at byte %d: not JSON: %v", d.InputOffset(), err)
		}
		switch delim, _ := token.(json.Delim); {
		case delim == '{':
			names = append(names, map[string]bool{})
		case delim == '[':
			names = append(names, nil)
		case delim != 0:
			names = names[:len(names)-1]
		case wantName:
			name := token.(string)
			if last := names[len(names)-1]; last[name] {
				return fmt.Errorf("at byte %d: %.60q is given twice", d.InputOffset(), name)
			} else {
				last[name] = true
			}
			wantName = false
			continue
		}
		if len(names) > documentDepthMax {
			return fmt.Errorf("at byte %d: more than %d deep", d.InputOffset(), documentDepthMax)
		}
		if len(names) == 0 {
			if _, err := d.Token(); err != io.EOF {
				return fmt.Errorf("at byte %d: something follows the document", d.InputOffset())
			}
			return nil
		}
		wantName = names[len(names)-1] != nil && d.More()
	}
}

// compileValue makes templates of texts. Variables may stand in resources alone: in an
// action or an effect a certificate would say what its owner may do.
func compileValue(value any, path string, resource bool) (any, bool, error) {
	switch value := value.(type) {
	case map[string]any:
		own := false
		for name, inner := range value {
			at := strings.TrimPrefix(path+"."+name, ".")
			if strings.Contains(name, "${") && !left(strings.TrimPrefix(name, "${")) {
				return nil, false, fmt.Errorf("%.60q: a variable in a name", at)
			}
			compiled, used, err := compileValue(inner, at, name == "Resource" && strings.HasPrefix(path, "Statement"))
			if err != nil {
				return nil, false, err
			}
			value[name], own = compiled, own || used
		}
		return value, own, nil
	case []any:
		own := false
		for i, inner := range value {
			compiled, used, err := compileValue(inner, fmt.Sprintf("%s[%d]", path, i), resource)
			if err != nil {
				return nil, false, err
			}
			value[i], own = compiled, own || used
		}
		return value, own, nil
	case string:
		t, err := parseTemplate(value, documentBytesMax, left)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", path, err)
		}
		own := t.uses(func(string) bool { return true })
		if own && !resource {
			return nil, false, fmt.Errorf("%s: a variable outside of a Resource: in %s a certificate would say what its owner may do", path, path)
		}
		return t, own, nil
	}
	return value, false, nil
}

// expand makes the document of a device: canonical JSON, the same for the same values.
func (d *document) expand(f facts) (string, error) {
	value, err := expandValue(d.value, f)
	if err != nil {
		return "", err
	}
	return canonical(value)
}

func expandValue(value any, f facts) (any, error) {
	var err error
	switch value := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(value))
		for name, inner := range value {
			if made[name], err = expandValue(inner, f); err != nil {
				return nil, err
			}
		}
		return made, nil
	case []any:
		made := slices.Clone(value)
		for i, inner := range value {
			if made[i], err = expandValue(inner, f); err != nil {
				return nil, err
			}
		}
		return made, nil
	case template:
		return value.expand(f, safeInResource)
	}
	return value, nil
}

func canonical(value any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the same text, shorter: AWS counts characters
	if err := e.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// SamePolicy says whether two policy documents are the same JSON. What cannot be read in one
// way is the same as nothing.
func SamePolicy(a, b string) bool {
	var texts [2]string
	for i, text := range []string{a, b} {
		if len(text) > policyBytesMax || oneMeaning(text) != nil {
			return false
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var value any
		if d.Decode(&value) != nil {
			return false
		}
		var err error
		if texts[i], err = canonical(value); err != nil {
			return false
		}
	}
	return texts[0] == texts[1]
}

// policyBytesMax is the API's own bound of a document (cloud spec 4.6).
const policyBytesMax = 404600
