package mochi

import "strings"

// A view is the set of filters from which messages may be delivered to a client, and the
// version of the permissions under which each was authorised. It never changes.
type view struct {
	version uint64
	plain   map[string]struct{} // without wildcards
	wild    []string            // with wildcards, "$share/group/" taken off
}

func newView(version uint64, filters map[string]struct{}) *view {
	v := &view{version: version, plain: make(map[string]struct{}, len(filters))}
	for f := range filters {
		inner, _ := innerFilter(f)
		if strings.ContainsAny(inner, "+#") {
			v.wild = append(v.wild, inner)
		} else {
			v.plain[inner] = struct{}{}
		}
	}
	return v
}

// covers reports whether one of the filters matches topic.
func (v *view) covers(topic string) bool {
	if _, ok := v.plain[topic]; ok {
		return true
	}
	for _, f := range v.wild {
		if matches(f, topic) {
			return true
		}
	}
	return false
}
