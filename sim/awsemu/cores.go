package awsemu

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// What a core tells the cloud for its client devices: where it can be reached, and whom to
// trust there (cloud spec 5, 6).

// Connectivity is one address of a core.
type Connectivity struct {
	ID       string `json:"Id"`
	Host     string `json:"HostAddress"`
	Port     int    `json:"PortNumber"`
	Metadata string `json:"Metadata"`
}

const (
	connectivityMax  = 100 // of a core
	textBytesMax     = 1024
	authoritiesMax   = 10 // of a core
	connectivityName = "-gci"
)

// AddressShadow is the name of the thing whose classic shadow tells a core that its addresses changed.
func AddressShadow(core messages.ThingName) string { return string(core) + connectivityName }

// SetConnectivity is Registry.SetConnectivity.
func (b *Batch) SetConnectivity(core messages.ThingName, at time.Time, addresses ...Connectivity) (version string, err error) {
	c, err := b.core(core)
	if err != nil {
		return "", err
	}
	if err := checkConnectivity(addresses); err != nil {
		return "", err
	}
	before := c.connectivity
	c.connectivity = append([]Connectivity{}, addresses...)
	b.undo = append(b.undo, func() { c.connectivity = before })
	version = requestID()
	b.changeShadow(ShadowID{Thing: AddressShadow(core)}, []byte(`{"state":{"desired":{"version":"`+version+`"}}}`), at) // not refused: it is small and of the right form
	return version, nil
}

func checkConnectivity(addresses []Connectivity) error {
	if len(addresses) > connectivityMax {
		return fmt.Errorf("%d addresses, at most %d", len(addresses), connectivityMax)
	}
	for i, a := range addresses {
		switch {
		case a.Port < 0 || a.Port > 65535:
			return fmt.Errorf("address %d: port %d, want 0 to 65535", i, a.Port)
		case len(a.ID) > textBytesMax || len(a.Host) > textBytesMax || len(a.Metadata) > textBytesMax:
			return fmt.Errorf("address %d: a text of more than %d bytes", i, textBytesMax)
		}
	}
	return nil
}

// SetConnectivity replaces the addresses of core, makes a new version and tells the core
// of it by its shadow. None at all is something else than never having been told any.
func (r *Registry) SetConnectivity(core messages.ThingName, at time.Time, addresses ...Connectivity) (version string, err error) {
	err = r.Update(func(b *Batch) error {
		version, err = b.SetConnectivity(core, at, addresses...)
		return err
	})
	return version, err
}

// Connectivity returns the addresses of core; nil if it was never told any.
func (r *Registry) Connectivity(core messages.ThingName) []Connectivity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.things[core]; c != nil {
		return slices.Clone(c.connectivity)
	}
	return nil
}

// PutAuthorities is Registry.PutAuthorities.
func (b *Batch) PutAuthorities(core messages.ThingName, keep int, authorities ...[]byte) error {
	c, err := b.core(core)
	if err != nil {
		return err
	}
	if n := len(authorities); n < 1 || n > authoritiesMax {
		return fmt.Errorf("%d certificates, want 1 to %d", n, authoritiesMax)
	}
	kept := slices.Clone(c.authorities)
	for _, text := range authorities {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("%.40q is not one PEM certificate", text)
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err != nil || !certificate.IsCA {
			return fmt.Errorf("the certificate is malformed, or no authority's (%v)", err)
		}
		canonical := string(certificatePEM(block.Bytes))
		kept = slices.DeleteFunc(kept, func(known string) bool { return known == canonical })
		kept = slices.Insert(kept, 0, canonical)
	}
	before := c.authorities
	c.authorities = kept[:min(len(kept), max(keep, len(authorities)))]
	b.undo = append(b.undo, func() { c.authorities = before })
	return nil
}

// PutAuthorities stores certificates in PEM by which devices know the servers of core, and
// keeps as many of the former ones as keep allows.
func (r *Registry) PutAuthorities(core messages.ThingName, keep int, authorities ...[]byte) error {
	return r.Update(func(b *Batch) error { return b.PutAuthorities(core, keep, authorities...) })
}

// Authorities returns what PutAuthorities stored, in PEM, the newest first.
func (r *Registry) Authorities(core messages.ThingName) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.things[core]; c != nil {
		return slices.Clone(c.authorities)
	}
	return nil
}

func (r *Registry) coreInfo(core messages.ThingName) CoreInfo {
	info := CoreInfo{Core: core, Addresses: append([]Connectivity{}, r.Connectivity(core)...), Authorities: append([]string{}, r.Authorities(core)...)}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s := r.shadows[ShadowID{Thing: AddressShadow(core)}]; s != nil {
		info.Version, _ = s.Desired.State["version"].(string)
	}
	return info
}

// group is a core as discovery shows it.
type group struct {
	core        messages.ThingName
	addresses   []Connectivity
	authorities []string
}

// groups lists the cores that a client device may connect to, those that can be reached
// and be recognised.
func (r *Registry) groups(device messages.ThingName) []group {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var found []group
	for _, name := range sortedKeys(r.things) {
		c := r.things[name]
		if _, ok := c.associated[device]; ok && c.core && len(c.connectivity) > 0 && len(c.authorities) > 0 {
			found = append(found, group{name, slices.Clone(c.connectivity), slices.Clone(c.authorities)})
		}
	}
	return found
}
