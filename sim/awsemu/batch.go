package awsemu

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Batch is a number of changes that happen together: they are saved once, and if one
// fails or cannot be saved none has happened. It is good within Registry.Update alone.
type Batch struct {
	r        *Registry
	undo     []func()
	told     []Change
	messages []serviceMessage
}

// Update applies changes under the registry's lock: apply must use the Batch, not the
// Registry. Saving costs as much as the registry is large, whatever the change, so that
// who has many changes makes them here.
func (r *Registry) Update(apply func(*Batch) error) error {
	b, listeners, err := r.update(apply)
	if err != nil {
		return err
	}
	for _, change := range b.told {
		for _, f := range listeners {
			f(change)
		}
	}
	if len(b.messages) > 0 {
		r.deliver()
	}
	return nil
}

func (r *Registry) update(apply func(*Batch) error) (*Batch, []func(Change), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &Batch{r: r}
	err := apply(b)
	if err == nil && len(b.undo) > 0 {
		err = r.save()
	}
	if err != nil { // undone, so that memory and file never differ
		for _, undo := range slices.Backward(b.undo) {
			undo()
		}
		return nil, nil, err
	}
	r.outbox = append(r.outbox, b.messages...)
	return b, slices.Clone(r.listeners), nil
}

// AddThing is Registry.AddThing.
func (b *Batch) AddThing(name messages.ThingName) error { return b.addThing(name, false) }

// AddCore is Registry.AddCore.
func (b *Batch) AddCore(name messages.ThingName) error { return b.addThing(name, true) }

func (b *Batch) addThing(name messages.ThingName, core bool) error {
	if _, err := messages.ParseThingName(string(name)); err != nil {
		return err
	}
	r := b.r
	if known, ok := r.things[name]; ok {
		if core && !known.core {
			known.core = true
			b.undo = append(b.undo, func() { known.core = false })
		}
		return nil
	}
	r.things[name] = &thing{core: core, certificates: map[messages.CertificateID]bool{}}
	r.names = nil
	b.undo = append(b.undo, func() {
		delete(r.things, name)
		r.names = nil
	})
	return nil
}

// AddCertificate is Registry.AddCertificate.
func (b *Batch) AddCertificate(der []byte, status Status) (messages.CertificateID, error) {
	if _, err := ParseStatus(string(status)); err != nil {
		return "", err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return "", fmt.Errorf("add certificate: %w", err)
	}
	r, id := b.r, messages.CertificateIDOf(der)
	if _, ok := r.certificates[id]; ok {
		return id, fmt.Errorf("certificate %s: %w", id, ErrExists)
	}
	r.certificates[id] = &certificate{der: slices.Clone(der), status: status, notBefore: leaf.NotBefore, things: map[messages.ThingName]bool{}}
	b.undo = append(b.undo, func() { delete(r.certificates, id) })
	r.forgetOrder(b)
	b.told = append(b.told, Change{Certificate: id, Status: status})
	return id, nil
}

// SetStatus is Registry.SetStatus.
func (b *Batch) SetStatus(id messages.CertificateID, status Status) error {
	if _, err := ParseStatus(string(status)); err != nil {
		return err
	}
	known, ok := b.r.certificates[id]
	if !ok {
		return fmt.Errorf("certificate %.64q: %w", id, ErrNotFound)
	}
	if before := known.status; before != status {
		known.status = status
		b.undo = append(b.undo, func() { known.status = before })
		b.told = append(b.told, Change{Certificate: id, Status: status})
	}
	return nil
}

// Attach is Registry.Attach.
func (b *Batch) Attach(name messages.ThingName, id messages.CertificateID) error {
	return b.setAttached(name, id, true)
}

func (b *Batch) setAttached(name messages.ThingName, id messages.CertificateID, attached bool) error {
	t, c := b.r.things[name], b.r.certificates[id]
	if t == nil {
		return fmt.Errorf("thing %.128q: %w", name, ErrNotFound)
	}
	if c == nil {
		return fmt.Errorf("certificate %.64q: %w", id, ErrNotFound)
	}
	if t.certificates[id] == attached {
		return nil
	}
	if attached && c.exclusive && len(c.things) > 0 {
		return fmt.Errorf("certificate %s belongs to another thing, exclusively", id)
	}
	link(t, c, name, id, attached)
	b.undo = append(b.undo, func() { link(t, c, name, id, !attached) })
	b.told = append(b.told, Change{Certificate: id, Thing: name, Status: c.status, Attached: attached})
	return nil
}

func link(t *thing, c *certificate, name messages.ThingName, id messages.CertificateID, attached bool) {
	if attached {
		t.certificates[id], c.things[name] = true, true
		return
	}
	delete(t.certificates, id)
	delete(c.things, name)
}

// Enroll is Registry.Enroll.
func (b *Batch) Enroll(name messages.ThingName, identity *Identity, core bool) error {
	if err := b.addThing(name, core); err != nil {
		return fmt.Errorf("enroll %.128s: %w", name, err)
	}
	id, err := b.AddCertificate(identity.DER, StatusActive)
	if err != nil {
		return fmt.Errorf("enroll %.128s: %w", name, err)
	}
	if err := errors.Join(b.Attach(name, id), b.SetPolicy(id, PolicyOpen)); err != nil {
		return fmt.Errorf("enroll %.128s: %w", name, err)
	}
	return nil
}

// Associate is Registry.Associate.
func (b *Batch) Associate(core messages.ThingName, at time.Time, things ...messages.ThingName) error {
	c, err := b.core(core)
	if err != nil {
		return err
	}
	at = at.UTC().Truncate(time.Millisecond)
	if year := at.Year(); year < 1 || year > 9999 {
		return fmt.Errorf("associated in the year %d, want 1 to 9999", year)
	}
	for _, name := range things {
		if b.r.things[name] == nil {
			return fmt.Errorf("thing %.128q: %w", name, ErrNotFound)
		}
	}
	if c.associated == nil {
		c.associated = map[messages.ThingName]time.Time{}
		b.undo = append(b.undo, func() { c.associated = nil })
	}
	for _, name := range things {
		if _, ok := c.associated[name]; ok {
			continue
		}
		c.associated[name], c.devices = at, nil
		b.undo = append(b.undo, func() {
			delete(c.associated, name)
			c.devices = nil
		})
	}
	return nil
}

// Disassociate is Registry.Disassociate.
func (b *Batch) Disassociate(core messages.ThingName, things ...messages.ThingName) error {
	c, err := b.core(core)
	if err != nil {
		return err
	}
	for _, name := range things {
		at, ok := c.associated[name]
		if !ok {
			continue
		}
		delete(c.associated, name)
		c.devices = nil
		b.undo = append(b.undo, func() { c.associated[name], c.devices = at, nil })
	}
	return nil
}

func (b *Batch) core(name messages.ThingName) (*thing, error) {
	if c := b.r.things[name]; c != nil && c.core {
		return c, nil
	}
	return nil, fmt.Errorf("core %.128q: %w", name, ErrNotFound)
}
