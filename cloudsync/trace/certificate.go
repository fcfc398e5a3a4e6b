package trace

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The statuses of a certificate that matter here; others are not active.
const (
	statusActive  = "ACTIVE"
	statusPending = "PENDING_ACTIVATION"
	statusRevoked = "REVOKED"
	modeSNI       = "SNI_ONLY"
)

// certificate traces one certificate of thing, "" if it has none.
func (t *tracer) certificate(id messages.CertificateID, thing messages.ThingName) *Node {
	n := t.certificateNode(id)
	if n.Fault != CertificateUnknown {
		t.chain(n, thing)
	}
	return n
}

// certificateNode says how a certificate itself is, and its authority.
func (t *tracer) certificateNode(id messages.CertificateID) *Node {
	n := &Node{Kind: KindCertificate, Name: string(id), State: OK}
	c, err := t.Reader.Certificate(t.ctx, id)
	switch {
	case isNotFound(err):
		return n.fail(Broken, CertificateUnknown, []string{
			"check cloud.region and the account that you ask with: the certificate is registered in another, or in none",
			aws("iot register-certificate-without-ca --certificate-pem file://CERTIFICATE.pem --status ACTIVE"),
		}, "%s does not know it", t.where())
	case err != nil:
		return n.unread(err)
	}
	t.see(c.ARN)
	t.ders[string(id)] = c.DER
	now := t.now()
	activate := aws("iot update-certificate --certificate-id %s --new-status ACTIVE", id)
	n.Detail = c.Status
	if !c.NotAfter.IsZero() {
		n.Detail += ", valid until " + day(c.NotAfter)
	}
	if id == t.Local.Certificate {
		n.Detail += ", this machine's"
	}
	switch {
	case c.Status == statusPending:
		n.fail(Broken, CertificateInactive, []string{activate}, "it is %s: nobody has registered it to the end; see `gatehouse registration list`, or activate it", c.Status)
	case c.Status == statusRevoked:
		n.fail(Broken, CertificateInactive, []string{activate, "if its key may be known to others, make a new certificate instead"}, "it is %s", c.Status)
	case c.Status != statusActive:
		n.fail(Broken, CertificateInactive, []string{activate}, "it is %s, not ACTIVE: AWS takes nothing from it", c.Status)
	case !c.NotAfter.IsZero() && now.After(c.NotAfter):
		n.fail(Broken, CertificateExpired, []string{"make a new certificate for the thing, register and attach it"}, "it ended at %s", day(c.NotAfter))
	case !c.NotBefore.IsZero() && now.Before(c.NotBefore):
		n.fail(Broken, CertificateExpired, []string{"check this machine's clock"}, "it is not valid before %s", day(c.NotBefore))
	}
	n.add(t.authority(c))
	return n
}

func day(at time.Time) string { return at.UTC().Format("2006-01-02 15:04Z") }

func (t *tracer) authority(c Certificate) *Node {
	own := c.ID == t.Local.Certificate || t.Local.Certificate == ""
	if c.Mode == modeSNI && own {
		t.private = true
	}
	if c.Authority == "" {
		if c.Mode != modeSNI {
			return nil
		}
		return &Node{Kind: KindAuthority, Name: "not registered", State: Note, Detail: "the certificate was registered without its CA, for several accounts (SNI_ONLY)"}
	}
	n := &Node{Kind: KindAuthority, Name: c.Authority, State: OK}
	a, err := t.Reader.Authority(t.ctx, c.Authority)
	switch {
	case isNotFound(err): // Amazon's own are not listed in the account
		n.State, n.Detail = Note, "not registered in this account, as Amazon's own are not"
		return n
	case err != nil:
		return n.unread(err)
	}
	if own {
		t.private = true
	}
	n.Detail = fmt.Sprintf("a private CA, %s, automatic registration %s", a.Status, a.AutoRegistration)
	if a.Status != statusActive {
		n.fail(Warning, AuthorityInactive, []string{aws("iot update-ca-certificate --certificate-id %s --new-status ACTIVE", a.ID)},
			"the CA is %s: this certificate goes on, others of it are not registered", a.Status)
	} else if !a.NotAfter.IsZero() && t.now().After(a.NotAfter) {
		n.fail(Warning, AuthorityInactive, []string{"register the CA's successor: gatehouse ca register"}, "the CA ended at %s: others of it are not registered", day(a.NotAfter))
	}
	return n
}

// chain adds to a certificate's node what hangs on it: policies, and from there the role.
func (t *tracer) chain(n *Node, thing messages.ThingName) {
	target := t.arn("cert", n.Name)
	held := t.policies(target)
	held.der = t.ders[n.Name]
	n.add(held.nodes...)
	if t.device {
		n.add(t.deviceActions(held, thing)...)
		return
	}
	t.undecided = nil
	way := t.role(held, thing)
	n.add(way...)
	n.add(t.actions(held, thing)...)
	if string(t.Local.Certificate) == n.Name {
		n.add(t.probe(n, way)...)
	}
}
