package awsemu

import (
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Association says that a thing is a client device of a core.
type Association struct {
	Thing messages.ThingName `json:"thingName"`
	Since time.Time          `json:"since"`
}

// Associated lists the client devices of core, by name. It is nil if the core never had
// any, or is no core; empty, if it has none any more.
func (r *Registry) Associated(core messages.ThingName) []Association {
	all, _, _ := r.associations(core, "", -1)
	return all
}

func (r *Registry) associatedCount(core messages.ThingName) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.things[core]; c != nil {
		return len(c.associated)
	}
	return 0
}

// Cores lists the Greengrass cores, by name.
func (r *Registry) Cores() []messages.ThingName {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var cores []messages.ThingName
	for name, t := range r.things {
		if t.core {
			cores = append(cores, name)
		}
	}
	slices.Sort(cores)
	return cores
}

// associations lists at most limit client devices of core behind the one named after;
// more says whether others follow; ok is false if there is no such core. A negative limit
// is none.
func (r *Registry) associations(core, after messages.ThingName, limit int) (page []Association, more, ok bool) {
	r.mu.Lock() // to sort
	defer r.mu.Unlock()
	c := r.things[core]
	if c == nil || !c.core {
		return nil, false, false
	}
	if c.associated == nil {
		return nil, false, true
	}
	if c.devices == nil {
		c.devices = sortedKeys(c.associated)
	}
	names, more := behind(c.devices, after, limit)
	page = make([]Association, len(names))
	for i, name := range names {
		page[i] = Association{Thing: name, Since: c.associated[name]}
	}
	return page, more, true
}

// thingNames lists at most limit things behind the one named after.
func (r *Registry) thingNames(after messages.ThingName, limit int) (page []messages.ThingName, more bool) {
	r.mu.Lock() // to sort
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = sortedKeys(r.things)
	}
	return behind(r.names, after, limit)
}

// isCore says whether there is a core of that name.
func (r *Registry) isCore(name messages.ThingName) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.things[name] != nil && r.things[name].core
}

// sortedKeys is never nil.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := slices.AppendSeq(make([]K, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}

// behind returns at most limit of sorted that follow after, and whether there are more.
func behind[T ~string](sorted []T, after T, limit int) (page []T, more bool) {
	from, found := slices.BinarySearch(sorted, after)
	if found {
		from++
	}
	page = sorted[from:]
	if limit < 0 || len(page) <= limit {
		return page, false
	}
	return page[:limit], true
}
