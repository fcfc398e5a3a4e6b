package awsemu

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Just-in-time registration: a device whose certificate nobody registered is registered
// when it first connects, if a registered CA signed it (cloud spec 4.4).

// AccountServerName is the name of the account's own endpoint of IoT data, at the same
// addresses as ServerName. It is for certificates of the account's own CAs, which the
// regional endpoint of Greengrass does not know, and for those of mode SNI_ONLY, which AWS
// finds by it (cloud spec 0).
const AccountServerName = "gatehouse-ats.iot.gatehouse.internal"

// isAccount says whether a client that asks for that server means the account's endpoint.
func (e *Emulator) isAccount(serverName string) bool {
	return serverName == AccountServerName || serverName == "localhost" || serverName != "" && slices.Contains(e.cfg.Names, serverName)
}

// standing is what a connection's certificate is worth at the MQTT endpoint.
type standing int

const (
	turnedAway standing = iota // AWS finishes the handshake with any certificate and then hangs up
	newcomer                   // is registered by its CONNECT, and then turned away
	welcome
)

// standingOf judges a connection after its handshake.
func (e *Emulator) standingOf(state tls.ConnectionState) standing {
	leaf := state.PeerCertificates[0]
	result := turnedAway
	_ = e.look(func(r *Registry) *apiError {
		known := r.certificates[messages.CertificateIDOf(leaf.Raw)]
		switch {
		case known != nil && known.status == StatusActive && known.modeOf().finds(e.isAccount(state.ServerName)):
			result = welcome
		case r.registrarFor(leaf, e.isAccount(state.ServerName), e.now()) != nil:
			result = newcomer
		}
		return nil
	})
	return result
}

// finds says whether a certificate of the mode is found, by the account's endpoint's name or
// by another.
func (m Mode) finds(account bool) bool { return m != ModeSNIOnly || account }

// knownAt says whether the data plane knows a certificate under that name: the regional
// endpoint knows none of the account's own CAs (cloud spec 0).
func (e *Emulator) knownAt(id messages.CertificateID, serverName string) bool {
	r := e.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.certificates[id]
	return c != nil && c.modeOf().finds(e.isAccount(serverName)) && (c.authority == "" || serverName != ServerName)
}

// registrarFor finds the CA by which a certificate registers itself, now or again; nil if
// there is none. The caller holds mu.
func (r *Registry) registrarFor(leaf *x509.Certificate, account bool, at time.Time) *caCertificate {
	if known := r.certificates[messages.CertificateIDOf(leaf.Raw)]; known != nil {
		a := r.signers[known.authority]
		if known.status != StatusPendingActivation || a == nil || !a.active || !a.autoRegister || !known.modeOf().finds(account) {
			return nil
		}
		return a
	}
	for _, a := range r.authorities() {
		if a.active && a.autoRegister && a.modeOf().finds(account) && a.signed(leaf, at) == nil {
			return a
		}
	}
	return nil
}

var errNewcomer = errors.New("the certificate is being registered: connect again")

// registerNewcomer registers a certificate that is pending from then on, also if it was
// registered before and is pending still. Then it is provisioned, if its CA says how, or else
// told of: AWS's documents name the event for registration alone, and whether provisioning
// publishes it is not known.
func (e *Emulator) registerNewcomer(state tls.ConnectionState) {
	leaf, at := state.PeerCertificates[0], e.now()
	id := messages.CertificateIDOf(leaf.Raw)
	var by registrationConfig
	refused := e.change(func(b *Batch) *apiError {
		a := b.r.registrarFor(leaf, e.isAccount(state.ServerName), at)
		if a == nil { // changed since the handshake
			return nil
		}
		by = a.config
		if b.r.certificates[id] == nil {
			if _, refused := b.register(leaf.Raw, StatusPendingActivation, born(at, a.id, a.mode)); refused != nil {
				return refused
			}
		}
		if by == (registrationConfig{}) {
			b.messages = append(b.messages, registeredEvent(id, a.id, at))
		}
		return nil
	})
	if refused == nil && by != (registrationConfig{}) {
		refused = e.provisionNewcomer(leaf, by)
	}
	if refused != nil {
		e.cfg.Log.Warn("a device could not be registered", "certificate", string(id), "error", refused.message)
	}
}

// certificateRegistered is what AWS publishes. It holds no certificate: who hears of it
// asks for that.
type certificateRegistered struct {
	Certificate  messages.CertificateID `json:"certificateId"`
	Authority    messages.CertificateID `json:"caCertificateId"`
	TimestampMs  int64                  `json:"timestamp"`
	Status       Status                 `json:"certificateStatus"`
	Account      string                 `json:"awsAccountId"`
	RegisteredAt *string                `json:"certificateRegistrationTimestamp"` // documented, measured as null
}

func registeredEvent(id, authority messages.CertificateID, at time.Time) serviceMessage {
	return serviceMessage{
		topic:   "$aws/events/certificates/registered/" + string(authority),
		payload: encodeJSON(certificateRegistered{id, authority, at.UnixMilli(), StatusPendingActivation, AccountID, nil}),
	}
}

// AuthorityOptions say what a registered CA certificate is for.
type AuthorityOptions struct {
	Active       bool
	AutoRegister bool // has devices registered when they first connect
	Mode         Mode // default ModeDefault
}

// AuthorityInfo is one registered CA certificate.
type AuthorityInfo struct {
	ID           messages.CertificateID `json:"id"`
	Subject      string                 `json:"subject"`
	Active       bool                   `json:"active"`
	AutoRegister bool                   `json:"autoRegister"`
	Mode         Mode                   `json:"mode"`
}

// AddAuthority registers a CA certificate at that time without a proof that its key is
// one's own, with ErrExists if it is there.
func (r *Registry) AddAuthority(der []byte, at time.Time, o AuthorityOptions) (id messages.CertificateID, err error) {
	err = r.Update(func(b *Batch) error {
		id, err = b.AddAuthority(der, at, o)
		return err
	})
	return id, err
}

// AddAuthority is Registry.AddAuthority.
func (b *Batch) AddAuthority(der []byte, at time.Time, o AuthorityOptions) (messages.CertificateID, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	if err := checkAuthority(certificate, at); err != nil {
		return "", err
	}
	mode, err := parseMode(string(o.Mode))
	if err != nil {
		return "", err
	}
	a := &caCertificate{
		id: messages.CertificateIDOf(der), certificate: certificate, active: o.Active, autoRegister: o.AutoRegister, origin: born(at, "", mode),
	}
	if b.r.signers[a.id] != nil {
		return a.id, ErrExists
	}
	if refused := b.addAuthority(a); refused != nil {
		return a.id, errors.New(refused.message)
	}
	return a.id, nil
}

// RegisteredAuthorities lists the registered CA certificates, the oldest first.
func (r *Registry) RegisteredAuthorities() []AuthorityInfo {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []AuthorityInfo
	for _, a := range r.authorities() {
		all = append(all, AuthorityInfo{a.id, a.certificate.Subject.String(), a.active, a.autoRegister, a.modeOf()})
	}
	return all
}
