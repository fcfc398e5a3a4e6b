package shadow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"
)

// The bounds of a shadow, which are AWS's.
const (
	PayloadBytesMax = 128 << 10 // of a request
	stateBytesMax   = 8 << 10   // of desired and reported together
	depthMax        = 8
	tokenBytesMax   = 64
	versionMax      = 1 << 53 // beyond it JSON's readers differ
)

// Shadow is a classic shadow. A nil Shadow is one that never was; a deleted one keeps its
// version, so that the next is higher.
type Shadow struct {
	Version  int64   `json:"version"`
	Deleted  bool    `json:"deleted,omitempty"`
	Desired  section `json:"desired,omitzero"`
	Reported section `json:"reported,omitzero"`
}

// section is one half of the state. Its maps are shared with other shadows, and so never
// written to.
type section struct {
	State    map[string]any `json:"state"`    // nil: there is none
	Metadata map[string]any `json:"metadata"` // the same tree, with {"timestamp": s} for each leaf
}

// UnmarshalJSON reads a shadow that was written down. Numbers stay as they were written, so
// that they compare with those of later requests.
func (s *Shadow) UnmarshalJSON(text []byte) error {
	type plain Shadow
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	if err := decoder.Decode((*plain)(s)); err != nil {
		return err
	}
	if s.Version < 1 || s.Version > versionMax {
		return fmt.Errorf("a shadow's version is 1 to %d, not %d", int64(versionMax), s.Version)
	}
	return nil
}

// sections is what goes by the name of state, and of metadata.
type sections struct {
	Desired  map[string]any `json:"desired,omitempty"`
	Reported map[string]any `json:"reported,omitempty"`
	Delta    map[string]any `json:"delta,omitempty"`
}

// answer is every message about a shadow but for documents and errors.
type answer struct {
	State    any    `json:"state,omitempty"`
	Metadata any    `json:"metadata,omitempty"`
	Version  int64  `json:"version"`
	Time     int64  `json:"timestamp"` // seconds
	Token    string `json:"clientToken,omitempty"`
}

type document struct {
	State    sections `json:"state"`
	Metadata sections `json:"metadata"`
	Version  int64    `json:"version"`
}

type documents struct {
	Previous document `json:"previous"`
	Current  document `json:"current"`
	Time     int64    `json:"timestamp"`
	Token    string   `json:"clientToken,omitempty"`
}

// Change is what comes of an accepted update: the shadow after it, and what is published
// at update/accepted, update/documents and, unless Delta is nil, update/delta.
type Change struct {
	Next                       *Shadow
	Accepted, Documents, Delta []byte
}

func (s *Shadow) exists() bool { return s != nil && !s.Deleted }

func (s *Shadow) version() int64 {
	if s == nil {
		return 0
	}
	return s.Version
}

// Update applies an update request.
func (s *Shadow) Update(payload []byte, now time.Time) (Change, *Error) {
	r, refused := parseUpdate(payload)
	if refused != nil {
		return Change{}, refused
	}
	if r.version != nil && *r.version != s.version() {
		return Change{}, r.refuse(409, "Version conflict")
	}
	at := now.Unix()
	next := &Shadow{Version: s.version() + 1}
	if s.exists() {
		next.Desired, next.Reported = s.Desired, s.Reported
	}
	previous := *next
	next.Desired.apply(r.desired, at)
	next.Reported.apply(r.reported, at)
	if len(encode(next.state())) > stateBytesMax {
		return Change{}, r.refuse(413, "The payload exceeds the maximum size allowed")
	}
	accepted := answer{
		State: r.state, Metadata: sections{Desired: stamp(r.desired.patch, at), Reported: stamp(r.reported.patch, at)},
		Version: next.Version, Time: at, Token: r.token,
	}
	if r.state == nil { // as AWS was measured (moto's test_update_empty_state)
		accepted.State, accepted.Metadata = json.RawMessage("null"), stampOf(nil, at)
	}
	c := Change{
		Next:     next,
		Accepted: encode(accepted),
		Documents: encode(documents{
			Previous: document{previous.state(), previous.metadata(), s.version()},
			Current:  document{next.state(), next.metadata(), next.Version}, Time: at, Token: r.token,
		}),
	}
	if differs, metadata := next.delta(); len(differs) > 0 {
		c.Delta = encode(answer{State: differs, Metadata: metadata, Version: next.Version, Time: at, Token: r.token})
	}
	return c, nil
}

// Get answers a get request, at get/accepted.
func (s *Shadow) Get(name string, payload []byte, now time.Time) ([]byte, *Error) {
	r, refused := parseBare(payload)
	if refused != nil {
		return nil, refused
	}
	if !s.exists() {
		return nil, r.refuse(404, "No shadow exists with name: '"+name+"'")
	}
	state, metadata := s.state(), s.metadata()
	state.Delta, _ = s.delta() // its metadata is desired's
	return encode(answer{State: state, Metadata: metadata, Version: s.Version, Time: now.Unix(), Token: r.token}), nil
}

// Delete answers a delete request, at delete/accepted, and returns what is left.
func (s *Shadow) Delete(name string, payload []byte, now time.Time) (*Shadow, []byte, *Error) {
	r, refused := parseBare(payload)
	if refused != nil {
		return s, nil, refused
	}
	if !s.exists() {
		return s, nil, r.refuse(404, "No shadow exists with name: '"+name+"'")
	}
	return &Shadow{Version: s.Version, Deleted: true}, encode(answer{Version: s.Version, Time: now.Unix(), Token: r.token}), nil
}

func (s *Shadow) state() sections {
	return sections{Desired: s.Desired.State, Reported: s.Reported.State}
}

func (s *Shadow) metadata() sections {
	return sections{Desired: s.Desired.Metadata, Reported: s.Reported.Metadata}
}

// delta is what is desired and not reported so.
func (s *Shadow) delta() (state, metadata map[string]any) {
	return difference(s.Desired.State, s.Reported.State, s.Desired.Metadata)
}

func difference(desired, reported, stamps map[string]any) (state, metadata map[string]any) {
	state, metadata = map[string]any{}, map[string]any{}
	for name, want := range desired {
		have, ok := reported[name]
		inner, isObject := want.(map[string]any)
		other, both := have.(map[string]any)
		switch {
		case isObject && both:
			below, _ := stamps[name].(map[string]any)
			if s, m := difference(inner, other, below); len(s) > 0 {
				state[name], metadata[name] = s, m
			}
		case !ok || !reflect.DeepEqual(want, have):
			state[name], metadata[name] = want, stamps[name]
		}
	}
	return state, metadata
}

// edit is what a request does to a section.
type edit struct {
	patch map[string]any
	clear bool
}

func (s *section) apply(e edit, at int64) {
	if e.clear {
		*s = section{}
	}
	if e.patch != nil {
		s.State, s.Metadata = merge(s.State, s.Metadata, e.patch, at)
	}
}

// merge returns copies of state and its metadata with patch in them: null removes, an
// object goes into the object that is there, all else replaces.
func merge(state, metadata, patch map[string]any, at int64) (map[string]any, map[string]any) {
	state, metadata = copyOf(state), copyOf(metadata)
	for name, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(state, name)
			delete(metadata, name)
		case map[string]any:
			old, _ := state[name].(map[string]any)
			stamps, _ := metadata[name].(map[string]any)
			if old == nil {
				stamps = nil // they were a leaf's
			}
			state[name], metadata[name] = merge(old, stamps, v, at)
		default:
			state[name], metadata[name] = value, stampOf(value, at)
		}
	}
	return state, metadata
}

func copyOf(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return maps.Clone(m)
}

// stamp is the metadata of a tree that changed at once.
func stamp(tree map[string]any, at int64) map[string]any {
	stamped := map[string]any{}
	for name, value := range tree {
		if value != nil {
			stamped[name] = stampOf(value, at)
		}
	}
	return stamped
}

func stampOf(value any, at int64) any {
	switch v := value.(type) {
	case map[string]any:
		return stamp(v, at)
	case []any:
		each := make([]any, len(v))
		for i := range v {
			each[i] = stampOf(v[i], at)
		}
		return each
	default:
		return map[string]any{"timestamp": at}
	}
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic("shadow: a document that is no JSON: " + err.Error())
	}
	return text
}
