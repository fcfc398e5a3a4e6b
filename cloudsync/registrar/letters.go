package registrar

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// States of a letter.
const (
	stateOpen      = "open"      // half done: the cloud was changed for it
	stateDead      = "given-up"  // the service has refused too often
	stateDismissed = "dismissed" // by an operator: not to be looked into
	stateDenied    = "denied"    // and left INACTIVE, as this registrar has registered it
)

// letter is what is known of a candidate after a restart.
type letter struct {
	Certificate messages.CertificateID `json:"certificate"`
	Authority   messages.CertificateID `json:"authority"`
	DER         []byte                 `json:"der,omitempty"` // if it came from the edge
	Thing       messages.ThingName     `json:"thing,omitempty"`
	State       string                 `json:"state"`
	Mine        bool                   `json:"mine,omitempty"`       // registered as INACTIVE by this registrar, or about to be
	Activating  bool                   `json:"activating,omitempty"` // it is ACTIVE, or was, or is about to be
	Since       time.Time              `json:"since"`
	At          time.Time              `json:"at"` // of the state
	Tries       int                    `json:"tries"`
	Problem     string                 `json:"problem,omitempty"`
}

func letterOf(e *entry, state string) *letter {
	return &letter{
		Certificate: e.c.Certificate, Authority: e.c.Authority, DER: e.c.DER, Thing: e.c.Thing,
		State: state, Since: e.since.UTC(), Tries: e.tries, Problem: e.problem,
	}
}

// entry is a candidate made of a letter.
func (l *letter) entry() *entry {
	return &entry{c: registration.Candidate{Certificate: l.Certificate, DER: l.DER, Authority: l.Authority, Thing: l.Thing}, since: l.Since}
}

// document is the form on disk. Format is part of it: an older program must not read what it
// does not know.
type document struct {
	Format  string    `json:"format"`
	Letters []*letter `json:"letters"`
	Recent  []int64   `json:"recent"` // when devices were begun, ms
}

const (
	documentFormat   = "gatehouse/registrations-1"
	documentBytesMax = 64 << 20
	problemBytesMax  = 512
)

// ErrDamaged is wrapped by New's error if what must last cannot be read.
var ErrDamaged = errors.New("the list of registrations is damaged")

// parseDocument reads what saveLocked wrote.
func parseDocument(text []byte) (document, error) {
	var d document
	if len(text) > documentBytesMax {
		return d, fmt.Errorf("%w: %d bytes", ErrDamaged, len(text))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, fmt.Errorf("%w: byte %d: %v", ErrDamaged, decoder.InputOffset(), err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return d, fmt.Errorf("%w: something follows its end at byte %d", ErrDamaged, decoder.InputOffset())
	}
	if d.Format != documentFormat {
		return d, fmt.Errorf("%w: format %.60q, want %s", ErrDamaged, d.Format, documentFormat)
	}
	seen := map[messages.CertificateID]bool{}
	for i, l := range d.Letters {
		if l == nil {
			return d, fmt.Errorf("%w: letter %d is null", ErrDamaged, i)
		}
		_, err := messages.ParseCertificateID(string(l.Certificate))
		if err == nil && l.Authority != "" {
			_, err = messages.ParseCertificateID(string(l.Authority))
		}
		if err == nil && l.Thing != "" {
			_, err = messages.ParseThingName(string(l.Thing))
		}
		if err == nil && l.DER != nil && messages.CertificateIDOf(l.DER) != l.Certificate {
			err = errors.New("it holds another certificate")
		}
		if err == nil && (seen[l.Certificate] || !slices.Contains([]string{stateOpen, stateDead, stateDismissed, stateDenied}, l.State)) {
			err = fmt.Errorf("state %.20q, or given twice", l.State)
		}
		if err != nil {
			return d, fmt.Errorf("%w: letter %d: %w", ErrDamaged, i, err)
		}
		seen[l.Certificate] = true
	}
	return d, nil
}

// restore takes up what text says.
func (r *Registrar) restore(text []byte) error {
	if text == nil {
		return nil
	}
	d, err := parseDocument(text)
	if err != nil {
		return err
	}
	for _, ms := range d.Recent {
		r.recent = append(r.recent, time.UnixMilli(ms).UTC())
	}
	slices.SortFunc(r.recent, time.Time.Compare)
	for _, l := range d.Letters {
		r.letters[l.Certificate] = l
		if l.State == stateOpen {
			r.entries[l.Certificate] = l.entry()
		}
	}
	return nil
}

// saveLocked makes the letters durable.
func (r *Registrar) saveLocked() error {
	d := document{Format: documentFormat, Letters: slices.Collect(maps.Values(r.letters))}
	slices.SortFunc(d.Letters, func(a, b *letter) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Certificate, b.Certificate))
	})
	for _, at := range r.recent {
		d.Recent = append(d.Recent, at.UnixMilli())
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return r.cfg.Save(text)
}

// boundLocked drops the oldest of too many: those that were denied first, then those dismissed.
func (r *Registrar) boundLocked() {
	for _, state := range []string{stateDenied, stateDismissed, stateDead} {
		var old []*letter
		for _, l := range r.letters {
			if l.State == state {
				old = append(old, l)
			}
		}
		slices.SortFunc(old, func(a, b *letter) int { return a.At.Compare(b.At) })
		for len(r.letters) > lettersMax+entriesMax && len(old) > 0 {
			r.cfg.Log.Warn("too many registrations are kept: the oldest is forgotten", "state", state, "certificate", old[0].Certificate)
			delete(r.letters, old[0].Certificate)
			old = old[1:]
		}
	}
}

func clip(s string) string {
	if len(s) <= problemBytesMax {
		return s
	}
	s = s[:problemBytesMax]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// Line is one registration for people: under way, put off, or given up.
type Line struct {
	Certificate messages.CertificateID `json:"certificateId"`
	Authority   messages.CertificateID `json:"authorityId,omitempty"`
	ClientID    messages.ThingName     `json:"clientId,omitempty"` // what the device calls itself, if it came from the edge
	State       string                 `json:"state"`              // "waiting", "running", "deferred", "given-up", "dismissed", "denied"
	Since       time.Time              `json:"since"`
	Tries       int                    `json:"tries"`
	Problem     string                 `json:"problem,omitempty"`
	Next        *time.Time             `json:"next,omitempty"` // not before
}

// Lines lists what waits and what was given up, oldest first.
func (r *Registrar) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	free := r.freeLocked(now)
	lines := []Line{}
	for _, e := range r.entries {
		l := Line{Certificate: e.c.Certificate, Authority: e.c.Authority, ClientID: e.c.Thing, State: "waiting", Since: e.since.UTC(), Tries: e.tries, Problem: e.problem}
		due := r.dueLocked(e, free)
		switch {
		case e.running:
			l.State = "running"
		case due.After(now):
			due = due.UTC()
			l.Next = &due
			if due.After(e.next) && due.After(r.paused) {
				l.State, l.Problem = "deferred", fmt.Sprintf("the quota of %d devices in an hour is used up", r.cfg.Rules.PerHour())
			}
		}
		lines = append(lines, l)
	}
	for _, l := range r.letters {
		if l.State != stateOpen && r.entries[l.Certificate] == nil {
			lines = append(lines, Line{Certificate: l.Certificate, Authority: l.Authority, ClientID: l.Thing, State: l.State, Since: l.Since, Tries: l.Tries, Problem: l.Problem})
		}
	}
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Certificate, b.Certificate))
	})
	return lines
}

// Retry has a certificate tried now, whatever was decided about it here.
func (r *Registrar) Retry(id messages.CertificateID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, denied := r.denied[id]
	delete(r.denied, id)
	if e := r.entries[id]; e != nil {
		e.next, e.interval, e.tries, e.refusals = time.Time{}, 0, 0, 0
		r.paused = time.Time{}
		r.wakeLocked()
		return nil
	}
	l := r.letters[id]
	if l == nil && !denied {
		return ErrUnknown
	}
	if len(r.entries) >= entriesMax {
		return errFull
	}
	if l == nil { // the next time it comes, or is listed
		r.relistLocked()
		return nil
	}
	former := *l
	next := former
	next.State, next.At, next.Activating = stateOpen, r.cfg.Now().UTC(), false // the operator has looked
	r.letters[id] = &next
	if err := r.saveLocked(); err != nil {
		r.letters[id] = &former
		return err
	}
	r.entries[id] = next.entry()
	r.wakeLocked()
	return nil
}

// Dismiss has a certificate no longer looked into, until Retry: it is left in the cloud as it
// is.
func (r *Registrar) Dismiss(id messages.CertificateID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, e := r.letters[id], r.entries[id]
	switch {
	case e != nil && e.running:
		return errors.New("it is under way: try again in a moment")
	case e != nil && e.outcome != nil:
		return errors.New("it is decided, and about to be recorded")
	case l == nil && e == nil:
		return ErrUnknown
	}
	next := letter{}
	if l != nil {
		next = *l
	} else {
		next = *letterOf(e, stateDismissed)
	}
	next.State, next.At = stateDismissed, r.cfg.Now().UTC()
	r.letters[id] = &next
	if err := r.saveLocked(); err != nil {
		if r.letters[id] = l; l == nil {
			delete(r.letters, id)
		}
		return err
	}
	delete(r.entries, id)
	r.boundLocked()
	return nil
}

// Stats says how registration goes.
type Stats struct {
	Counts
	Waiting, GivenUp int
	Recent           int // devices begun within the last hour
}

// Stats counts.
func (r *Registrar) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.freeLocked(r.cfg.Now())
	s := Stats{Counts: r.counts, Waiting: len(r.entries), Recent: len(r.recent)}
	for _, l := range r.letters {
		if l.State == stateDead {
			s.GivenUp++
		}
	}
	return s
}
