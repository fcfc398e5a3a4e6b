package awsemu

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// ShadowID names a shadow: a thing's classic one, or one of its named ones. The thing need
// not be registered.
type ShadowID struct {
	Thing string
	Name  string // empty: the classic one
}

var shadowName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,64}$`)

// check says whether there can be a shadow of that name.
func (id ShadowID) check() error {
	if _, err := messages.ParseThingName(id.Thing); err != nil {
		return err
	}
	if id.Name != "" && !shadowName.MatchString(id.Name) {
		return fmt.Errorf("shadow name %.64q: want 1 to 64 of [a-zA-Z0-9:_-]", id.Name)
	}
	return nil
}

// String is the shadow's name in messages, as AWS writes it.
func (id ShadowID) String() string {
	if id.Name == "" {
		return id.Thing
	}
	return id.Thing + "~" + id.Name
}

// topic is where clients and the service talk about a shadow.
func (id ShadowID) topic(rest string) string {
	if id.Name == "" {
		return "$aws/things/" + id.Thing + "/shadow/" + rest
	}
	return "$aws/things/" + id.Thing + "/shadow/name/" + id.Name + "/" + rest
}

func compareShadows(a, b ShadowID) int {
	return cmp.Or(strings.Compare(a.Thing, b.Thing), strings.Compare(a.Name, b.Name))
}

// serviceMessage is something that the service publishes because something changed.
type serviceMessage struct {
	topic   string
	payload []byte
}

// changeShadow applies an update request to a shadow, and returns what is answered.
func (b *Batch) changeShadow(id ShadowID, payload []byte, at time.Time) ([]byte, *shadow.Error) {
	before := b.r.shadows[id]
	if before == nil && len(b.r.shadows) >= shadowsMax {
		return nil, shadow.Refuse(payload, 429, "too many shadows")
	}
	change, refused := before.Update(payload, at)
	if refused != nil {
		return nil, refused
	}
	put(b, b.r.shadows, id, change.Next)
	b.messages = append(b.messages,
		serviceMessage{id.topic("update/accepted"), change.Accepted},
		serviceMessage{id.topic("update/documents"), change.Documents})
	if change.Delta != nil {
		b.messages = append(b.messages, serviceMessage{id.topic("update/delta"), change.Delta})
	}
	return change.Accepted, nil
}

// deleteShadow applies a delete request to a shadow.
func (b *Batch) deleteShadow(id ShadowID, payload []byte, at time.Time) ([]byte, *shadow.Error) {
	next, accepted, refused := b.r.shadows[id].Delete(id.String(), payload, at)
	if refused != nil {
		return nil, refused
	}
	put(b, b.r.shadows, id, next)
	b.messages = append(b.messages, serviceMessage{id.topic("delete/accepted"), accepted})
	return accepted, nil
}

const shadowsMax = 10_000

// UpdateShadow applies an update request to a shadow. It returns what is answered, and has
// published it when it returns.
func (r *Registry) UpdateShadow(id ShadowID, payload []byte, at time.Time) ([]byte, *shadow.Error) {
	return r.onShadow(payload, func(b *Batch) ([]byte, *shadow.Error) { return b.changeShadow(id, payload, at) })
}

// DeleteShadow applies a delete request in the same way.
func (r *Registry) DeleteShadow(id ShadowID, payload []byte, at time.Time) ([]byte, *shadow.Error) {
	return r.onShadow(payload, func(b *Batch) ([]byte, *shadow.Error) { return b.deleteShadow(id, payload, at) })
}

func (r *Registry) onShadow(payload []byte, change func(*Batch) ([]byte, *shadow.Error)) (answer []byte, refused *shadow.Error) {
	if err := r.Update(func(b *Batch) error {
		answer, refused = change(b)
		return nil
	}); err != nil {
		return nil, shadow.Refuse(payload, 500, "Internal service failure")
	}
	return answer, refused
}

// GetShadow answers a get request.
func (r *Registry) GetShadow(id ShadowID, payload []byte, at time.Time) ([]byte, *shadow.Error) {
	r.mu.RLock()
	s := r.shadows[id]
	r.mu.RUnlock()
	return s.Get(id.String(), payload, at)
}

// shadowNames lists at most limit names of a thing's named shadows behind the one after.
func (r *Registry) shadowNames(thing, after string, limit int) (page []string, more bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := []string{}
	for id, s := range r.shadows {
		if id.Thing == thing && id.Name != "" && !s.Deleted {
			names = append(names, id.Name)
		}
	}
	slices.Sort(names)
	return behind(names, after, limit)
}

// OnMessage adds a listener for what is published at which topic because shadows changed,
// in the order of the changes and one at a time. It must not change the registry.
func (r *Registry) OnMessage(f func(topic string, payload []byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers = append(r.readers, f)
}

// deliver hands out what waits.
func (r *Registry) deliver() {
	r.delivering.Lock()
	defer r.delivering.Unlock()
	for {
		r.mu.Lock()
		waiting, readers := r.outbox, slices.Clone(r.readers)
		r.outbox = nil
		r.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		for _, m := range waiting {
			for _, f := range readers {
				f(m.topic, m.payload)
			}
		}
	}
}
