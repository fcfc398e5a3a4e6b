package awsemu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// Status is the state of a certificate in AWS IoT, spelled as AWS does.
type Status string

// The statuses. Only an active certificate authenticates anyone.
const (
	StatusActive            Status = "ACTIVE"
	StatusInactive          Status = "INACTIVE"
	StatusRevoked           Status = "REVOKED"
	StatusPendingTransfer   Status = "PENDING_TRANSFER"
	StatusPendingActivation Status = "PENDING_ACTIVATION"
)

// ParseStatus checks s and returns it as a Status.
func ParseStatus(s string) (Status, error) {
	switch status := Status(s); status {
	case StatusActive, StatusInactive, StatusRevoked, StatusPendingTransfer, StatusPendingActivation:
		return status, nil
	}
	return "", fmt.Errorf("certificate status %.40q: want %s, %s, %s, %s or %s", s,
		StatusActive, StatusInactive, StatusRevoked, StatusPendingTransfer, StatusPendingActivation)
}

// Errors of a Registry, for callers that branch.
var (
	ErrNotFound = errors.New("not in the emulated registry")
	ErrExists   = errors.New("already in the emulated registry")
)

// Change tells a Registry's listener what has changed: a certificate's status, or an
// attachment if Thing is set.
type Change struct {
	Certificate messages.CertificateID
	Thing       messages.ThingName // empty: the certificate itself changed
	Status      Status             // of the certificate, after the change
	Attached    bool               // whether Thing holds the certificate, after the change
}

// Registry is what the emulated account knows: things, certificates and which
// certificate is attached to which thing, what cores tell about themselves, and shadows. It is safe for use by many goroutines at once.
// With a path it is saved, whole and atomically, before a change is seen by anyone.
type Registry struct {
	path string // empty: memory only

	mu           sync.RWMutex
	things       map[messages.ThingName]*thing
	names        []messages.ThingName // of things, sorted; nil: to be sorted anew. Never changed in place
	certificates map[messages.CertificateID]*certificate
	ordered      []dated                                   // of certificates; nil: to be sorted anew. Never changed in place
	signers      map[messages.CertificateID]*caCertificate // CA certificates. Values never change in place
	code         string                                    // registration code; empty: not asked for
	types        map[string]*thingType                     // by name. Values never change in place
	policies     map[string]*iotPolicy                     // by name. Values never change in place
	attached     map[string][]string                       // policies by name, of a certificate or thing group by ARN; none is empty. Values never change in place
	thingGroups  map[string]*thingGroup                    // by name
	memberOf     map[messages.ThingName][]string           // groups that a thing is directly in, sorted; none is empty. Values never change in place
	serviceRole  serviceRole                               // Greengrass's
	templates    map[string]*provisioningTemplate          // by name. Values never change in place
	shadows      map[ShadowID]*shadow.Shadow               // of things that need not be there
	identities
	unlimited bool // quotas are lifted
	listeners []func(Change)
	outbox    []serviceMessage // of changes that are made
	readers   []func(topic string, payload []byte)

	delivering sync.Mutex // held while the outbox is handed out; never taken under mu
}

type thing struct {
	record
	core         bool // a Greengrass core: its certificates may ask about others
	certificates map[messages.CertificateID]bool
	associated   map[messages.ThingName]time.Time // client devices of this core, and since when; nil: never had any
	devices      []messages.ThingName             // keys of associated, sorted; nil: to be sorted anew. Never changed in place
	connectivity []Connectivity                   // of this core; nil: never told
	authorities  []string                         // of this core, PEM, the newest first
}

type certificate struct {
	der    []byte
	status Status
	things map[messages.ThingName]bool
	// exclusive: things is one thing, and stays so
	exclusive bool
	notBefore time.Time
	origin
}

// NewRegistry returns an empty registry that lives in memory.
func NewRegistry() *Registry {
	return &Registry{
		things:       map[messages.ThingName]*thing{},
		certificates: map[messages.CertificateID]*certificate{},
		signers:      map[messages.CertificateID]*caCertificate{},
		types:        map[string]*thingType{},
		policies:     map[string]*iotPolicy{},
		attached:     map[string][]string{},
		thingGroups:  map[string]*thingGroup{},
		memberOf:     map[messages.ThingName][]string{},
		serviceRole:  defaultServiceRole,
		templates:    map[string]*provisioningTemplate{},
		shadows:      map[ShadowID]*shadow.Shadow{},
		identities:   newIdentities(),
	}
}

// OnChange adds a listener that is called after each later change of a certificate's
// status or an attachment, on the goroutine that made it.
func (r *Registry) OnChange(f func(Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners, f)
}

// AddThing adds a client device, or does nothing if the thing is there.
func (r *Registry) AddThing(name messages.ThingName) error {
	return r.Update(func(b *Batch) error { return b.AddThing(name) })
}

// AddCore adds a Greengrass core: a thing whose active certificates may call the data
// plane. A client device that is there becomes one.
func (r *Registry) AddCore(name messages.ThingName) error {
	return r.Update(func(b *Batch) error { return b.AddCore(name) })
}

// AddCertificate registers a certificate and returns its id, with ErrExists if it is
// there already, whatever its status.
func (r *Registry) AddCertificate(der []byte, status Status) (id messages.CertificateID, err error) {
	err = r.Update(func(b *Batch) error {
		id, err = b.AddCertificate(der, status)
		return err
	})
	return id, err
}

// SetStatus changes a certificate's status.
func (r *Registry) SetStatus(id messages.CertificateID, status Status) error {
	return r.Update(func(b *Batch) error { return b.SetStatus(id, status) })
}

// Policy is a shorthand for the policies of a certificate.
type Policy string

// The policies.
const (
	// PolicyOpen is what AWS's installer grants (DefaultPolicyName): everything but to keep
	// messages (iot:RetainPublish) and to assume a role.
	PolicyOpen Policy = ""
	// PolicyMinimal is the least that AWS documents for a core, for each thing of the
	// certificate: to connect under names that begin with its own, to read its address shadow
	// and to hear of changes to it, neither why a get was rejected nor writing to it (cloud
	// spec 5); and the data plane.
	PolicyMinimal Policy = "minimal"
)

// SetPolicy replaces what is attached to a certificate.
func (r *Registry) SetPolicy(id messages.CertificateID, policy Policy) error {
	return r.Update(func(b *Batch) error { return b.SetPolicy(id, policy) })
}

// Revoke sets a certificate's status to REVOKED.
func (r *Registry) Revoke(id messages.CertificateID) error { return r.SetStatus(id, StatusRevoked) }

// Attach makes the certificate one of the thing's. One certificate may belong to many
// things, and the other way round.
func (r *Registry) Attach(name messages.ThingName, id messages.CertificateID) error {
	return r.Update(func(b *Batch) error { return b.setAttached(name, id, true) })
}

// Detach takes the certificate from the thing.
func (r *Registry) Detach(name messages.ThingName, id messages.CertificateID) error {
	return r.Update(func(b *Batch) error { return b.setAttached(name, id, false) })
}

// Enroll adds a thing with an active certificate of its own; core makes it a core.
func (r *Registry) Enroll(name messages.ThingName, identity *Identity, core bool) error {
	return r.Update(func(b *Batch) error { return b.Enroll(name, identity, core) })
}

// Associate makes things client devices of core, from at on; those that are so already
// stay so. It is one change, however many things there are.
func (r *Registry) Associate(core messages.ThingName, at time.Time, things ...messages.ThingName) error {
	return r.Update(func(b *Batch) error { return b.Associate(core, at, things...) })
}

// Disassociate ends that things are client devices of core. It is one change.
func (r *Registry) Disassociate(core messages.ThingName, things ...messages.ThingName) error {
	return r.Update(func(b *Batch) error { return b.Disassociate(core, things...) })
}

// CertificateInfo is one certificate as the control protocol and Certificates show it.
type CertificateInfo struct {
	ID     messages.CertificateID `json:"id"`
	Status Status                 `json:"status"`
	Things []messages.ThingName   `json:"things"`
	Core   bool                   `json:"core"` // belongs to a core
	// Authority is the registered CA that signed it; empty: none did.
	Authority messages.CertificateID `json:"caCertificateId,omitempty"`
}

// Certificate returns what is known of a certificate.
func (r *Registry) Certificate(id messages.CertificateID) (CertificateInfo, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.certificates[id]
	if !ok {
		return CertificateInfo{}, false
	}
	return r.info(id, c), true
}

// Certificates lists all certificates, by id.
func (r *Registry) Certificates() []CertificateInfo {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]CertificateInfo, 0, len(r.certificates))
	for _, id := range slices.Sorted(maps.Keys(r.certificates)) {
		all = append(all, r.info(id, r.certificates[id]))
	}
	return all
}

func (r *Registry) info(id messages.CertificateID, c *certificate) CertificateInfo {
	info := CertificateInfo{ID: id, Status: c.status, Things: slices.Sorted(maps.Keys(c.things)), Authority: c.authority}
	for name := range c.things {
		info.Core = info.Core || r.things[name].core
	}
	return info
}

// Things counts the things, cores included.
func (r *Registry) Things() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.things)
}

// Attached says whether the certificate is known, the thing is, and they belong together.
func (r *Registry) Attached(name messages.ThingName, id messages.CertificateID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.things[name]
	return t != nil && t.certificates[id]
}

// Caller says what a certificate that opened a connection may do: nothing unless it is
// known and active, and call the data plane if it belongs to a core.
func (r *Registry) Caller(id messages.CertificateID) (active, core bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.certificates[id]
	if c == nil || c.status != StatusActive {
		return false, false
	}
	return true, r.info(id, c).Core
}
