package awsemu

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Mode says whether a certificate is found by itself or only beside the server's name that
// its bearer asks for, as AWS does (cloud spec 4.2).
type Mode string

// The modes.
const (
	ModeDefault Mode = "DEFAULT"
	ModeSNIOnly Mode = "SNI_ONLY"
)

func parseMode(s string) (Mode, error) {
	switch mode := Mode(s); mode {
	case "":
		return ModeDefault, nil
	case ModeDefault, ModeSNIOnly:
		return mode, nil
	}
	return "", fmt.Errorf("certificate mode %.40q: want %s or %s", s, ModeDefault, ModeSNIOnly)
}

// origin is where a certificate comes from and what became of it.
type origin struct {
	authority messages.CertificateID // the registered one that signed it; empty: none
	mode      Mode                   // empty: ModeDefault
	// zero: before such times were kept; the certificate's own stand for them
	created, modified time.Time
	version           int    // from 1 on; zero: 1
	generation        string // empty: derived
}

// born is the origin of a certificate that is registered at that time.
func born(at time.Time, authority messages.CertificateID, mode Mode) origin {
	return origin{authority: authority, mode: mode, created: stamp(at), modified: stamp(at), version: 1, generation: requestID()}
}

// touch notes a change of a certificate.
func (b *Batch) touch(o *origin, at time.Time) {
	next := *o
	next.modified, next.version = stamp(at), max(o.version, 1)+1
	set(b, o, next)
}

func (o origin) modeOf() Mode { return cmp.Or(o.mode, ModeDefault) }

// register adds a certificate of that origin.
func (b *Batch) register(der []byte, status Status, o origin) (messages.CertificateID, *apiError) {
	id := messages.CertificateIDOf(der)
	if _, ok := b.r.certificates[id]; ok {
		return id, alreadyExists("The certificate is already provisioned or registered", string(id), certificateARN(string(id)))
	}
	if _, err := b.AddCertificate(der, status); err != nil {
		return id, certificateInvalid("The certificate is malformed")
	}
	b.r.certificates[id].origin = o // undone with the certificate, which is new
	return id, nil
}

// removeCertificate forgets a certificate, which must be attached to nothing.
func (b *Batch) removeCertificate(id messages.CertificateID) {
	b.setPolicies(CertificateARN(id), nil)
	put(b, b.r.certificates, id, nil)
	b.r.forgetOrder(b)
	b.told = append(b.told, Change{Certificate: id})
}

// forgetOrder has the order of certificates made anew, also if the batch is undone.
func (r *Registry) forgetOrder(b *Batch) {
	r.ordered = nil
	b.undo = append(b.undo, func() { r.ordered = nil })
}

// dated is a certificate in the order of their creation.
type dated struct {
	id messages.CertificateID
	at time.Time
}

// key sorts as the certificates do.
func (d dated) key() string { return fmt.Sprintf("%020d/%s", d.at.UnixMilli()+1<<50, d.id) }

// createdAt is when a certificate came, or when its validity began if that is not known.
func (c *certificate) createdAt() time.Time {
	if c.created.IsZero() {
		return c.notBefore
	}
	return c.created
}

func (c *certificate) modifiedAt() time.Time {
	if c.modified.IsZero() {
		return c.createdAt()
	}
	return c.modified
}

// certificatesByDate lists all certificates, the oldest first. It must not be changed.
func (r *Registry) certificatesByDate() []dated {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ordered == nil {
		r.ordered = make([]dated, 0, len(r.certificates))
		for id, c := range r.certificates {
			r.ordered = append(r.ordered, dated{id, c.createdAt()})
		}
		slices.SortFunc(r.ordered, func(a, b dated) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	}
	return r.ordered
}

func certificateInvalid(message string) *apiError {
	return iotError(http.StatusBadRequest, "CertificateValidationException", message)
}

func certificateState(message string) *apiError {
	return iotError(http.StatusNotAcceptable, "CertificateStateException", message)
}

func noCertificate() *apiError { return noResource("The specified certificate does not exist.") }
