package permission

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// A Set answers whether a list of permissions covers a request. It never changes, so any
// number of goroutines may ask it. A nil Set allows nothing.
type Set struct {
	few        []few      // all of them, if they are few and no template: then the rest is empty
	operations table      // by the operation's text
	services   table      // "<service>:*", by the service
	any        *resources // "*"
	size       int
	from       []Permission // what Compile was given, if it is not few
}

// Compile builds the Set of permissions, whose texts are what they are: a variable in
// them is plain text. Empty operations and resources are passed over. Nobody may change
// the slice any more.
func Compile(permissions []Permission) (*Set, error) {
	s, err := compile(permissions, false)
	if err == nil && s.few == nil {
		s.from = permissions
	}
	return s, err
}

// CompiledFrom says that Compile would give this Set for permissions.
func (s *Set) CompiledFrom(permissions []Permission) bool {
	if s.few == nil {
		return slices.Equal(s.from, permissions)
	}
	if len(permissions) > fewMax {
		return false
	}
	at := 0
	for i, p := range permissions {
		if p.Operation == "" || p.Resource == "" {
			continue
		}
		if at == len(s.few) || s.few[at] != (few{p.Operation, p.Resource, int32(i)}) {
			return false
		}
		at++
	}
	return at == len(s.few)
}

// CompileTemplate builds a Set in whose resources ThingNameVariable stands for the value
// that Match is given: one Set then serves all things.
func CompileTemplate(permissions []Permission) (*Set, error) { return compile(permissions, true) }

func compile(permissions []Permission, template bool) (*Set, error) {
	if len(permissions) > MaxPermissions {
		return nil, fmt.Errorf("compile permissions: %w: %d of them, want at most %d", ErrTooLarge, len(permissions), MaxPermissions)
	}
	s := &Set{}
	if !template && len(permissions) <= fewMax {
		s.few = make([]few, 0, len(permissions))
	}
	for i, p := range permissions {
		if len(p.Operation) > MaxOperationBytes || len(p.Resource) > MaxResourceBytes {
			return nil, fmt.Errorf("compile permissions: number %d: %w: operation has %d bytes (at most %d), resource %d (at most %d)",
				i, ErrTooLarge, len(p.Operation), MaxOperationBytes, len(p.Resource), MaxResourceBytes)
		}
		if p.Operation == "" || p.Resource == "" {
			continue
		}
		if s.size++; s.few != nil {
			s.few = append(s.few, few{p.Operation, p.Resource, int32(i)})
			continue
		}
		s.resourcesOf(p.Operation).add(p.Resource, int32(i), template)
	}
	s.seal()
	return s, nil
}

// resourcesOf returns where the resources of a permission's operation are kept. A
// request's operation matches its own text, "<service>:*" and "*"; nothing else is a
// wildcard (client-device-auth spec 3, rule 6).
func (s *Set) resourcesOf(operation string) *resources {
	if operation == "*" {
		if s.any == nil {
			s.any = newResources()
		}
		return s.any
	}
	if service, ok := strings.CutSuffix(operation, ":*"); ok {
		return s.services.ensure(service)
	}
	return s.operations.ensure(operation)
}

func (s *Set) seal() {
	for _, all := range [][]*resources{s.operations.values, s.services.values, {s.any}} {
		for _, r := range all {
			if r != nil {
				r.patterns.seal()
				r.template.seal()
			}
		}
	}
}

// Len returns how many permissions the Set holds.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// Allows decides one request.
func (s *Set) Allows(operation, resource string) Decision {
	r, err := ParseRequest(operation, resource)
	if err != nil {
		return decisionOf(err)
	}
	rule := s.Match(r, "")
	return Decision{Allowed: rule >= 0, Rule: max(rule, 0)}
}

// AllowsBytes is Allows for texts in buffers that the caller may reuse afterwards.
func (s *Set) AllowsBytes(operation, resource []byte) Decision {
	return s.Allows(viewString(operation), viewString(resource))
}

// Match returns the index of a permission that allows r, or -1. thing is the value of
// the variable in a Set from CompileTemplate; it is compared as text, so that nothing in
// it can act as a wildcard. With an empty thing, what holds the variable never matches.
func (s *Set) Match(r Request, thing string) int {
	if s == nil || r.operation == "" {
		return -1
	}
	if s.few != nil {
		return s.matchFew(r)
	}
	if rule := s.operations.get(r.operation).find(r.resource, thing); rule != none {
		return int(rule)
	}
	if rule := s.services.get(r.service).find(r.resource, thing); rule != none {
		return int(rule)
	}
	return int(s.any.find(r.resource, thing))
}

// resources are the resources that one operation is allowed on.
type resources struct {
	plain    map[string]int32 // without '*' and variable
	patterns *node            // those with a '*', or nil
	template *node            // those with the variable, or nil
}

func newResources() *resources { return &resources{plain: make(map[string]int32)} }

func (r *resources) add(resource string, rule int32, template bool) {
	segments := splitResource(resource, template)
	root := &r.patterns
	switch {
	case template && strings.Contains(resource, ThingNameVariable):
		root = &r.template
	case len(segments) == 1:
		if _, dup := r.plain[resource]; !dup {
			r.plain[resource] = rule
		}
		return
	}
	if *root == nil {
		*root = newNode("")
	}
	(*root).insert(segments, rule)
}

func (r *resources) find(resource, thing string) int32 {
	if r == nil {
		return none
	}
	if len(r.plain) > 0 {
		if rule, ok := r.plain[resource]; ok {
			return rule
		}
	}
	if r.patterns != nil {
		if rule := r.patterns.find(resource, ""); rule != none {
			return rule
		}
	}
	if r.template != nil && thing != "" {
		return r.template.find(resource, thing)
	}
	return none
}

// scanMax is the number of names up to which a table compares them one by one: that is
// faster than hashing the few operations a policy names.
const scanMax = 8

// A table finds resources by name.
type table struct {
	names  []string
	values []*resources
	index  map[string]*resources // once there are more than scanMax
}

func (t *table) get(name string) *resources {
	if t.index != nil {
		return t.index[name]
	}
	for i, n := range t.names {
		if n == name {
			return t.values[i]
		}
	}
	return nil
}

func (t *table) ensure(name string) *resources {
	if r := t.get(name); r != nil {
		return r
	}
	r := newResources()
	t.names, t.values = append(t.names, name), append(t.values, r)
	if t.index != nil {
		t.index[name] = r
	} else if len(t.names) > scanMax {
		t.index = make(map[string]*resources, 2*len(t.names))
		for i, n := range t.names {
			t.index[n] = t.values[i]
		}
	}
	return r
}

// viewString returns b's bytes as a string without a copy. Nothing keeps the string
// beyond the call that it is made for.
func viewString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
