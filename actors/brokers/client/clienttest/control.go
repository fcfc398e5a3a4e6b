package clienttest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// Trust makes der the certificate of thing.
func (d *Desk) Trust(thing string, der []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices[messages.CertificateIDOf(der)] = messages.ThingName(thing)
}

// TrustNobody has a client without any certificate pass for thing: a daemon gone wrong.
func (d *Desk) TrustNobody(thing string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nobody = messages.ThingName(thing)
}

// Permit is a permission for SetPolicy; permission.ThingNameVariable in resource stands
// for the session's thing.
func Permit(operation, resource string) permission.Permission {
	return permission.Permission{Operation: operation, Resource: resource}
}

// SetPolicy puts a new policy in force for all things and pushes that.
func (d *Desk) SetPolicy(permissions ...permission.Permission) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy = permissions
	d.revision++
	d.seq++
	d.send(authapi.PushPolicyChanged, authapi.PolicyChanged{Stamp: d.stamp(), PolicyRevision: d.revision})
}

// SetPolicyUnheard is SetPolicy, but the push gets lost.
func (d *Desk) SetPolicyUnheard(permissions ...permission.Permission) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy = permissions
	d.revision++
	d.seq++
}

// CloseSessions ends the sessions of thing and pushes that.
func (d *Desk) CloseSessions(thing, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for digest, s := range d.sessions {
		if string(s.thing) == thing {
			delete(d.sessions, digest)
			d.pushClosed(digest, s, reason)
		}
	}
	d.announce()
}

// CloseSessionsUnheard is CloseSessions, but the pushes get lost.
func (d *Desk) CloseSessionsUnheard(thing string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for digest, s := range d.sessions {
		if string(s.thing) == thing {
			delete(d.sessions, digest)
			d.seq++
		}
	}
	d.announce()
}

// Revoke forgets the certificate der, ends its sessions and pushes that.
func (d *Desk) Revoke(der []byte, reason string) {
	id := messages.CertificateIDOf(der)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.devices, id)
	for digest, s := range d.sessions {
		if s.cert == id {
			delete(d.sessions, digest)
			d.pushClosed(digest, s, reason)
		}
	}
	d.announce()
}

// pushClosed pushes the end of s. d.mu is held.
func (d *Desk) pushClosed(digest messages.TokenDigest, s session, reason string) {
	d.seq++
	d.send(authapi.PushSessionClosed, authapi.SessionClosed{
		Stamp: d.stamp(), TokenDigest: digest.String(), Thing: string(s.thing), CertificateID: string(s.cert), Reason: reason,
	})
}

// Restart begins a new run of the daemon: sessions live on, pushes count anew.
func (d *Desk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	d.seq = 0
}

// Mute stops or resumes the heartbeats, as if the daemon hung.
func (d *Desk) Mute(muted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.muted = muted
}

// SetLife sets what replies say: how long permissions may be cached and when sessions end.
func (d *Desk) SetLife(cacheTTL time.Duration, expires time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ttl, d.expires = cacheTTL, expires
}

// OmitPermissions makes replies leave out the permissions, as the daemon does with those
// too long for a message.
func (d *Desk) OmitPermissions(omit bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.omit = omit
}

// Refuse makes the desk answer op with refusal; nil ends that.
func (d *Desk) Refuse(op authapi.Op, refusal *messages.Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse[op] = refusal
}

// Before has fn run when op arrives, before it is decided; nil ends that. A fn that
// blocks is a desk that hangs.
func (d *Desk) Before(op authapi.Op, fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before[op] = fn
}

// After has fn run between the decision of op and its answer; nil ends that.
func (d *Desk) After(op authapi.Op, fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after[op] = fn
}

// Asked returns how many requests of op have arrived.
func (d *Desk) Asked(op authapi.Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[op]
}

// Sessions returns how many sessions are open.
func (d *Desk) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// WaitAsked waits until n requests of op have arrived.
func (d *Desk) WaitAsked(op authapi.Op, n int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("%s was asked %d times", op, n), func() bool { return d.asked[op] >= n })
}

// WaitSessions waits until n sessions are open.
func (d *Desk) WaitSessions(n int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("%d sessions are open", n), func() bool { return len(d.sessions) == n })
}

// certificateID is the id of a certificate that a request carries, "" if it carries none.
func certificateID(text string) (messages.CertificateID, error) {
	if text == "" {
		return "", nil
	}
	der, err := authapi.CertificateDER(text)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return messages.CertificateID(hex.EncodeToString(sum[:])), nil
}
