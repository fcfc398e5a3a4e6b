package actors

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// AuthorityInfo describes an authority for people.
type AuthorityInfo struct {
	ID             messages.CertificateID `json:"id"`
	Subject        string                 `json:"subject"`
	Type           string                 `json:"caType,omitempty"` // of a managed one
	Custom         bool                   `json:"custom"`
	CertificateURI string                 `json:"certificateUri,omitempty"` // of a custom one
	NotBefore      time.Time              `json:"notBefore"`
	NotAfter       time.Time              `json:"notAfter"`
	Since          time.Time              `json:"since"`
	Issues         bool                   `json:"issues"`    // new certificates are its
	Announced      bool                   `json:"announced"` // whoever must trust it has it, as far as is known here
	Uploaded       bool                   `json:"uploaded"`  // the cloud has it
}

// CertificateInfo describes a certificate for people.
type CertificateInfo struct {
	Subscriber string                 `json:"subscriber"`
	Usage      string                 `json:"usage"`
	Names      []string               `json:"names,omitempty"`
	Serial     string                 `json:"serial"`
	Reason     string                 `json:"reason"` // why it was issued
	NotBefore  time.Time              `json:"notBefore"`
	NotAfter   time.Time              `json:"notAfter"`
	Rotation   time.Time              `json:"rotation"` // when the next is due; zero: nobody subscribes
	Delivered  bool                   `json:"delivered"`
	Subscribed bool                   `json:"subscribed"` // now
	Authority  messages.CertificateID `json:"authority"`
}

// AuthorityStatus describes authorities and certificates for people.
type AuthorityStatus struct {
	Authorities  []AuthorityInfo   `json:"authorities"`
	Certificates []CertificateInfo `json:"certificates"`
	Addresses    []string          `json:"addresses"`
	Refused      string            `json:"refused,omitempty"` // why the custom authority that is configured is not in use
}

// Describe tells what there is.
func (a *Authority) Describe() AuthorityStatus {
	a.turn.Lock()
	defer a.turn.Unlock()
	book, now := a.book.Load(), a.now()
	state := a.state()
	issuer, _ := state.Issuer(now)
	status := AuthorityStatus{Authorities: []AuthorityInfo{}, Certificates: []CertificateInfo{}, Addresses: book.Addresses(), Refused: a.refused}
	for i, entry := range book.Authorities {
		info := AuthorityInfo{
			ID: entry.ID, Type: entry.Type, Custom: entry.Custom, CertificateURI: entry.CertificateURI,
			NotBefore: instant(entry.NotBeforeMs), NotAfter: instant(entry.NotAfterMs), Since: instant(entry.SinceMs),
			Issues: entry.ID == issuer.ID, Announced: state.Authorities[i].Acknowledged, Uploaded: entry.UploadedMs != 0,
		}
		if c, err := x509.ParseCertificate(entry.Chain[0]); err == nil {
			info.Subject = c.Subject.String()
		}
		status.Authorities = append(status.Authorities, info)
	}
	for _, h := range book.Holders {
		if h.Last.Serial == "" {
			continue
		}
		info := CertificateInfo{
			Subscriber: h.Subscriber, Usage: h.Usage.String(), Names: h.Last.Names, Serial: h.Last.Serial, Reason: h.Last.Reason,
			NotBefore: instant(h.Last.NotBeforeMs), NotAfter: instant(h.Last.NotAfterMs), Delivered: h.Delivered, Authority: h.Last.Authority,
		}
		if a.subscriber(subscription{h.Subscriber, h.Usage}) != nil {
			info.Subscribed = true
			if !state.Settings.RotationDisabled {
				info.Rotation = ca.RenewAt(info.NotBefore, info.NotAfter)
			}
		}
		status.Certificates = append(status.Certificates, info)
	}
	return status
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// PEM is what devices must trust: of each authority in use the chain.
func (a *Authority) PEM() []byte { return a.book.Load().Bundle() }

// Held is the certificate of a server or client in this process, exchanged while it runs:
// open connections stay.
type Held struct {
	current keys.Current
	cancel  func()
}

// Hold subscribes for this process, with keys made here.
func (a *Authority) Hold(ctx context.Context, name string, usage ca.Usage) (*Held, error) {
	h := &Held{}
	var err error
	h.cancel, err = a.Subscribe(ctx, Subscribe{Subscriber: name, Usage: usage, Deliver: func(d Delivery) {
		if err := h.current.Set(append([][]byte{d.Certificate}, d.Chain...), d.Key); err != nil {
			a.cfg.Logger.Error("a certificate cannot be used; the former one stays", "subscriber", name, "error", err)
			return
		}
		d.Acknowledge()
	}})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (h *Held) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return h.current.GetCertificate(hello)
}

// Leaf is the certificate in use.
func (h *Held) Leaf() *x509.Certificate { return h.current.Leaf() }

// Describe is the certificate in use, for people.
func (h *Held) Describe() map[string]string {
	leaf := h.current.Leaf()
	return map[string]string{
		"serial": fmt.Sprintf("%040x", leaf.SerialNumber), "notAfter": leaf.NotAfter.UTC().Format(time.RFC3339),
		"renewal": ca.RenewAt(leaf.NotBefore, leaf.NotAfter).UTC().Format(time.RFC3339),
	}
}

// Close ends the subscription; the certificate stays.
func (h *Held) Close() { h.cancel() }
