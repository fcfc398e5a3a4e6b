package config

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// sectionKey is where the live part of gatehouse.yaml stands.
const sectionKey = "clientDeviceAuth"

// NeedRestart lists the keys outside clientDeviceAuth whose values differ between was and
// is, as "mqtt.listen", sorted: they are read at the start only.
func NeedRestart(was, is File) []string {
	before, after := leaves(was), leaves(is)
	var changed []string
	for key := range union(before, after) {
		if !bytes.Equal(before[key], after[key]) {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed
}

func union(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// leaves are a file's values by their keys, without the section. What is printed decides:
// a key that is not printed is none of the file's.
func leaves(f File) map[string]json.RawMessage {
	f.ClientDeviceAuth = Section{}
	found := map[string]json.RawMessage{}
	var walk func(path string, value json.RawMessage)
	walk = func(path string, value json.RawMessage) {
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil || object == nil {
			found[path] = value
			return
		}
		for key, below := range object {
			if path == "" && key == sectionKey {
				continue
			}
			walk(strings.TrimPrefix(path+"."+key, "."), below)
		}
	}
	doc, err := json.Marshal(f)
	if err != nil {
		panic("config: a file's values cannot be printed: " + err.Error())
	}
	walk("", doc)
	return found
}

// InSection reports whether all problems are inside clientDeviceAuth: then the rest of
// the file can be used.
func InSection(problems Errors) bool {
	return len(problems) > 0 && !slices.ContainsFunc(problems, func(e *Error) bool {
		return e.Path != sectionKey && !strings.HasPrefix(e.Path, sectionKey+".") && !strings.HasPrefix(e.Path, sectionKey+"[")
	})
}

// Reconfigures reports whether a change from c to next sets the authority up anew. A
// default that is spelled out changes nothing (client-device-auth spec 6.5).
func (c CertificateAuthority) Reconfigures(next CertificateAuthority) bool { return c != next }
