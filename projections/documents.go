package projections

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Document says which policy or configuration is in force, and what was refused last.
type Document struct {
	Seq      uint64           // the record that put it in force; 0: none ever was
	At       messages.Instant // when
	Revision string
	Source   messages.Source
	Origin   string
	Rejected *Rejection // the last one since then; nil: none
}

// Rejection is a document that was refused.
type Rejection struct {
	Seq      uint64
	At       messages.Instant
	Revision string // digest of the refused bytes
	Origin   string
	Errors   []string
}

// Document describes the document of stream, StreamPolicy or StreamConfig.
func (v *Views) Document(stream messages.StreamID) Document {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.documents[stream]
	if d.Rejected != nil {
		r := *d.Rejected
		r.Errors = slices.Clone(r.Errors)
		d.Rejected = &r
	}
	return d
}

func (v *Views) documentReplaced(rec *messages.Record, revision, origin string, source messages.Source) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.documents[rec.Stream] = Document{Seq: rec.Seq, At: rec.At, Revision: revision, Source: source, Origin: origin}
}

func (v *Views) documentRejected(rec *messages.Record, e *messages.ConfigRejected) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.documents[rec.Stream]
	d.Rejected = &Rejection{Seq: rec.Seq, At: rec.At, Revision: e.Revision, Origin: e.Origin, Errors: e.Errors}
	v.documents[rec.Stream] = d
}
