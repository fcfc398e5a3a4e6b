package dst

import (
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// registry is what the cloud knows: the truth, whatever it answers. At the beginning each
// registered device has its first certificate, active and attached, and is associated with
// the core; what has changed since is kept, with its history.
type registry struct {
	registered int // devices
	changed    map[attachment][]change
	associated map[int]bool         // where it is not as at the beginning
	sorted     []messages.ThingName // the associated things; nil: to be sorted anew
}

// attachment says that a certificate belongs to a thing; without a thing, that it is active.
type attachment struct {
	thing messages.ThingName
	cert  messages.CertificateID
}

// change is what holds from a moment on.
type change struct {
	at  time.Duration
	yes bool
}

func newRegistry(registered int) *registry {
	return &registry{registered: registered, changed: map[attachment][]change{}, associated: map[int]bool{}}
}

// judge answers a question by what was true at a moment.
func (r *registry) judge(q messages.CloudQuestion, at time.Duration) messages.CloudAnswer {
	if r.holds(attachment{q.Thing, q.Certificate}, q.DER, at) {
		return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: "confirmed (HTTP 200)"}
	}
	return messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: "HTTP 404 ResourceNotFoundException"}
}

// holds says what was true at a moment; der is the certificate, where no thing is named.
func (r *registry) holds(a attachment, der []byte, at time.Duration) (yes bool) {
	changes := r.changed[a]
	for i := len(changes) - 1; i >= 0; i-- {
		if changes[i].at <= at {
			return changes[i].yes
		}
	}
	return r.began(a, der)
}

// began says what was true at the beginning.
func (r *registry) began(a attachment, der []byte) bool {
	of := -1
	if a.thing != "" {
		if i, ok := DeviceOf(a.thing); ok {
			of = i
		}
	} else if i, ok := deviceIn(der); ok {
		of = i
	}
	return of >= 0 && of < r.registered && IDOf(Cert{Of: of}) == a.cert
}

// knows reports whether anybody has said something of a certificate.
func (r *registry) knows(id messages.CertificateID) bool {
	return len(r.changed[attachment{cert: id}]) > 0
}

func (r *registry) set(now time.Duration, a attachment, yes bool) {
	r.changed[a] = append(r.changed[a], change{now, yes})
}

// setCertificate says whether a certificate is active.
func (r *registry) setCertificate(now time.Duration, id messages.CertificateID, active bool) {
	r.set(now, attachment{cert: id}, active)
}

// setAttached says whether a certificate belongs to a thing.
func (r *registry) setAttached(now time.Duration, t messages.ThingName, id messages.CertificateID, attached bool) {
	r.set(now, attachment{t, id}, attached)
}

// setAssociated says whether a device is associated with the core.
func (r *registry) setAssociated(device int, yes bool) {
	if (device < r.registered) == yes {
		delete(r.associated, device)
	} else {
		r.associated[device] = yes
	}
	r.sorted = nil
}

// things are the associated things, sorted. The slice is not changed.
func (r *registry) things() []messages.ThingName {
	if r.sorted == nil {
		r.sorted = make([]messages.ThingName, 0, r.registered)
		for i := range r.registered {
			if yes, changed := r.associated[i]; yes || !changed {
				r.sorted = append(r.sorted, ThingOf(i))
			}
		}
		for i, yes := range r.associated {
			if yes && i >= r.registered {
				r.sorted = append(r.sorted, ThingOf(i))
			}
		}
		slices.Sort(r.sorted)
	}
	return r.sorted
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
