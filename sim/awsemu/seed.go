package awsemu

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// The registry's file form: JSON, so that a person can write one as a seed.
const (
	seedFormat   = "gatehouse/awsemu-1"
	seedBytesMax = 256 << 20 // a hundred thousand devices, amply
)

type seedFile struct {
	FormatVersion string            `json:"formatVersion" seed:"required"`
	Things        []seedThing       `json:"things" doc:"Things of the registry: cores, client devices and others."`
	Certificates  []seedCertificate `json:"certificates" doc:"Certificates of devices."`
	Shadows       []seedShadow      `json:"shadows,omitempty" doc:"Shadows. Their things need not be registered."`
	Code          string            `json:"registrationCode,omitempty" doc:"What verification certificates of CAs must name. Default: a fresh one."`
	Authorities   []seedAuthority   `json:"caCertificates,omitempty" doc:"Registered CAs."`
	ThingTypes    []seedThingType   `json:"thingTypes,omitempty" doc:"Thing types."`
	Managed       []seedManaged     `json:"managedPolicies,omitempty" doc:"IAM's managed policies."`
	Roles         []seedRole        `json:"roles,omitempty" doc:"IAM's roles."`
	Aliases       []seedAlias       `json:"roleAliases,omitempty" doc:"AWS IoT's role aliases."`
	Policies      []seedPolicy      `json:"iotPolicies,omitempty" doc:"IoT policies."`
	Groups        []seedGroup       `json:"thingGroups,omitempty" doc:"Thing groups."`
	ServiceRole   *serviceRole      `json:"greengrassServiceRole,omitempty" doc:"Greengrass's role in the account. Default: there is one. An empty roleArn is none."`
	Templates     []seedTemplate    `json:"provisioningTemplates,omitempty" doc:"Templates for just-in-time provisioning."`
}

type seedShadow struct {
	Thing  string         `json:"thingName" seed:"required"`
	Name   string         `json:"shadowName,omitempty" doc:"Default: the classic shadow."`
	Shadow *shadow.Shadow `json:"shadow,omitempty" doc:"version (from 1), and desired and reported, each with a state and its metadata."`
	State  map[string]any `json:"state,omitempty" doc:"In place of shadow: desired and reported, as in an update."`
}

type seedThing struct {
	Name string `json:"thingName" seed:"required" doc:"1 to 128 of [a-zA-Z0-9:_-]."`
	Core bool   `json:"core,omitempty" doc:"A Greengrass core device."`
	seedRecord
	// Devices are the core's client devices. Absent, as in older files: it never had any.
	Devices []seedDevice `json:"associatedClientDevices,omitzero" doc:"The things that are client devices of this core."`
	// Connectivity and Authorities are what the core told. Absent: nothing.
	Connectivity []Connectivity `json:"connectivityInfo,omitzero" doc:"Where client devices reach this core."`
	Authorities  []string       `json:"certificateAuthorities,omitempty" doc:"The authorities of this core's own servers, PEM, the newest first."`
}

type seedDevice struct {
	Name  string    `json:"thingName" seed:"required"`
	Since time.Time `json:"since" doc:"When it was associated. Default: when the seed is read."`
}

type seedCertificate struct {
	PEM      string   `json:"certificatePem" doc:"The certificate, if it is not to be made."`
	Make     string   `json:"make,omitempty" doc:"Make a certificate: devices/NAME/cert.pem and key.pem in the directory, unless they are there."`
	Signer   string   `json:"signedBy,omitempty" doc:"With make: the CA that signs it, by its make in caCertificates. Default: the cloud's own."`
	Unknown  bool     `json:"unregistered,omitempty" doc:"With make and signedBy: the cloud does not know the certificate yet; the device's first connection registers it."`
	Status   string   `json:"status" doc:"Default: ACTIVE."`
	Policies []string `json:"policies,omitzero" doc:"The IoT policies attached to it. Default: GreengrassV2IoTThingPolicy, which is made and allows nearly everything."`
	Policy   Policy   `json:"iotPolicy,omitempty" doc:"In place of policies: minimal, the least that AWS documents for a core."`
	Things   []string `json:"things" doc:"The things that it is attached to."`
	// Exclusive says that the one thing is the certificate's only one, ever.
	Exclusive bool `json:"exclusive,omitempty" doc:"The one thing is the certificate's only one, ever."`
	seedOrigin
}

// OpenRegistry returns the registry kept at path, and saves it there at each change. A
// missing file is an empty registry; the file is made at the first change.
func OpenRegistry(path string) (*Registry, error) {
	r := NewRegistry()
	r.path = path
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open emulated registry: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := r.load(file); err != nil {
		return nil, fmt.Errorf("open emulated registry %s: %w: mend the file, or delete it to start anew", path, err)
	}
	return r, nil
}

// ReadRegistry reads a registry's file form into one that lives in memory.
func ReadRegistry(from io.Reader) (*Registry, error) {
	r := NewRegistry()
	if err := r.load(from); err != nil {
		return nil, fmt.Errorf("read emulated registry: %w", err)
	}
	return r, nil
}

func (r *Registry) load(from io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(from, seedBytesMax+1))
	if err != nil {
		return err
	}
	if len(text) > seedBytesMax {
		return fmt.Errorf("larger than %d MiB", seedBytesMax>>20)
	}
	var seed seedFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&seed); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	if seed.FormatVersion != seedFormat {
		return fmt.Errorf("formatVersion %.40q, want %q", seed.FormatVersion, seedFormat)
	}
	path := r.path
	r.path = "" // not saved while it is being read
	defer func() { r.path = path }()
	unlimited := r.unlimited
	r.unlimited = true // it may come from an account whose quotas were lifted
	defer func() { r.unlimited = unlimited }()
	return r.Update(func(b *Batch) error { return b.fill(seed) })
}

func (b *Batch) fill(seed seedFile) error {
	if err := b.fillIdentities(&seed); err != nil {
		return err
	}
	if err := cmp.Or(b.fillRegistry(seed), b.fillPolicies(seed.Policies), b.fillServiceRole(seed.ServiceRole)); err != nil {
		return err
	}
	for i, t := range seed.Things {
		if _, ok := b.r.things[messages.ThingName(t.Name)]; ok {
			return fmt.Errorf("things[%d]: thing %.128q: %w", i, t.Name, ErrExists)
		}
		if err := b.addThing(messages.ThingName(t.Name), t.Core); err != nil {
			return fmt.Errorf("things[%d]: %w", i, err)
		}
		if err := b.fillRecord(messages.ThingName(t.Name), t.seedRecord); err != nil {
			return fmt.Errorf("things[%d].%w", i, err)
		}
	}
	for i, t := range seed.Things {
		if err := errors.Join(b.fillDevices(t), b.fillCore(t)); err != nil {
			return fmt.Errorf("things[%d].%w", i, err)
		}
	}
	for i, s := range seed.Shadows {
		id := ShadowID{s.Thing, s.Name}
		if err := id.check(); err != nil || s.Shadow == nil || b.r.shadows[id] != nil || i >= shadowsMax {
			return fmt.Errorf("shadows[%d]: want at most %d, each another one: %v", i, shadowsMax, err)
		}
		put(b, b.r.shadows, id, s.Shadow)
	}
	for i, c := range seed.Certificates {
		block, rest := pem.Decode([]byte(c.PEM))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("certificates[%d]: certificatePem is not one PEM certificate", i)
		}
		id, err := b.AddCertificate(block.Bytes, Status(c.Status))
		if err != nil {
			return fmt.Errorf("certificates[%d]: %w", i, err)
		}
		if err := b.fillOrigin(id, c); err != nil {
			return fmt.Errorf("certificates[%d].%w", i, err)
		}
		for _, name := range c.Things {
			if err := b.Attach(messages.ThingName(name), id); err != nil {
				return fmt.Errorf("certificates[%d]: %w", i, err)
			}
		}
		if err := b.fillAttached(id, c); err != nil {
			return fmt.Errorf("certificates[%d].%w", i, err)
		}
	}
	return b.fillGroups(seed.Groups)
}

func (b *Batch) fillDevices(t seedThing) error {
	if t.Devices == nil {
		return nil
	}
	if err := b.Associate(messages.ThingName(t.Name), time.Time{}); err != nil { // none yet, but it has had some
		return fmt.Errorf("associatedClientDevices: %w", err)
	}
	for i, d := range t.Devices {
		if err := b.Associate(messages.ThingName(t.Name), d.Since, messages.ThingName(d.Name)); err != nil {
			return fmt.Errorf("associatedClientDevices[%d]: %w", i, err)
		}
	}
	return nil
}

// fillCore puts in what a core told. Its shadow is a matter of its own.
func (b *Batch) fillCore(t seedThing) error {
	if t.Connectivity == nil && t.Authorities == nil {
		return nil
	}
	c, err := b.core(messages.ThingName(t.Name))
	if err != nil {
		return fmt.Errorf("connectivityInfo: %w", err)
	}
	if err := checkConnectivity(t.Connectivity); err != nil {
		return fmt.Errorf("connectivityInfo: %w", err)
	}
	c.connectivity = t.Connectivity // undone with the thing, which is new
	if len(t.Authorities) == 0 {
		return nil
	}
	var oldestFirst [][]byte
	for _, text := range slices.Backward(t.Authorities) {
		oldestFirst = append(oldestFirst, []byte(text))
	}
	if err := b.PutAuthorities(messages.ThingName(t.Name), authoritiesMax, oldestFirst...); err != nil {
		return fmt.Errorf("certificateAuthorities: %w", err)
	}
	return nil
}

// Encode returns the registry's file form.
func (r *Registry) Encode() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.encode()
}

// encode is Encode for who holds mu.
func (r *Registry) encode() ([]byte, error) {
	seed := seedFile{FormatVersion: seedFormat, Things: []seedThing{}, Certificates: []seedCertificate{}}
	for _, name := range slices.Sorted(maps.Keys(r.things)) {
		t := seedThing{Name: string(name), Core: r.things[name].core, seedRecord: r.things[name].record.seed()}
		if devices := r.things[name].associated; devices != nil {
			t.Devices = make([]seedDevice, 0, len(devices))
			for _, device := range sortedKeys(devices) {
				t.Devices = append(t.Devices, seedDevice{Name: string(device), Since: devices[device]})
			}
		}
		t.Connectivity, t.Authorities = r.things[name].connectivity, r.things[name].authorities
		seed.Things = append(seed.Things, t)
	}
	for _, id := range slices.Sorted(maps.Keys(r.certificates)) {
		c := r.certificates[id]
		entry := seedCertificate{PEM: string(certificatePEM(c.der)), Status: string(c.status), Things: []string{}, Policies: append([]string{}, r.attached[CertificateARN(id)]...), Exclusive: c.exclusive, seedOrigin: c.origin.seed()}
		for _, name := range slices.Sorted(maps.Keys(c.things)) {
			entry.Things = append(entry.Things, string(name))
		}
		seed.Certificates = append(seed.Certificates, entry)
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.shadows), compareShadows) {
		seed.Shadows = append(seed.Shadows, seedShadow{Thing: id.Thing, Name: id.Name, Shadow: r.shadows[id]})
	}
	r.seedRegistry(&seed)
	r.encodeIdentities(&seed)
	r.seedPolicies(&seed)
	text, err := json.MarshalIndent(seed, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode emulated registry: %w", err)
	}
	return append(text, '\n'), nil
}

// save writes the file form, if there is a path: a new file, synced, in place of the
// old. Caller holds mu.
func (r *Registry) save() error {
	if r.path == "" {
		return nil
	}
	text, err := r.encode()
	if err != nil {
		return err
	}
	if err := replaceFile(r.path, text); err != nil {
		return fmt.Errorf("%w: %w", errSave, err)
	}
	return nil
}

var errSave = errors.New("save emulated registry")

func replaceFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(text); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	// The directory is not synced: a power cut may bring back the previous registry,
	// whole, which is good enough for an emulated cloud.
	return os.Rename(file.Name(), path)
}
