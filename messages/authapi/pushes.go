package authapi

import (
	"errors"
	"fmt"
	"time"
)

// Times of the pushes.
const (
	// HeartbeatInterval is how often each broker gets a heartbeat.
	HeartbeatInterval = time.Second
	// MaxStale is how long a broker may use permissions it holds after the last push
	// it received, of any kind. After that it asks, and denies if nobody answers: it
	// is the bound on how late a revocation may be felt by a broker cut off from its
	// daemon (reliability spec S2, C8).
	MaxStale = 5 * time.Second
)

// Stamp places a push in the order of all pushes to one broker. Epoch names one run of
// the daemon. Within it Seq counts the pushes from 1 without gaps; a heartbeat does not
// count, it repeats the number of the last push before it (0 if none). So a broker that
// sees a new epoch, a push whose number is not the next, or a heartbeat ahead of what
// it received, has missed something and drops everything it holds.
type Stamp struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// SessionClosed tells that a session has ended: refuse what its client does from now
// on and disconnect it.
type SessionClosed struct {
	Stamp
	TokenDigest   string `json:"tokenDigest"` // lower-case hex SHA-256 of the token's text
	Thing         string `json:"thing"`
	CertificateID string `json:"certificateId"`
	Reason        string `json:"reason"`
}

// PolicyChanged tells that a new policy is in force: permissions of other revisions
// are void.
type PolicyChanged struct {
	Stamp
	PolicyRevision uint64 `json:"policyRevision"`
}

// CertificateUpdated brings a broker its new certificate, whole; the broker acknowledges it
// with its next certificates request.
type CertificateUpdated struct {
	Stamp
	CertificateUpdate
}

// Heartbeat tells that the daemon lives and what the last push was.
type Heartbeat struct {
	Stamp
}

// ParseSessionClosed reads the body of a session-closed push. A push that cannot be
// read counts as missed.
func ParseSessionClosed(body []byte) (SessionClosed, error) {
	var p SessionClosed
	err := decodePush(body, &p.Stamp,
		field{"tokenDigest", text(&p.TokenDigest)},
		field{"thing", text(&p.Thing)},
		field{"certificateId", text(&p.CertificateID)},
		field{"reason", text(&p.Reason)},
	)
	if err == nil && !isDigest(p.TokenDigest) {
		err = errors.New("tokenDigest: want 64 lower-case hex digits")
	}
	if err != nil {
		return SessionClosed{}, fmt.Errorf("push %s: %w", PushSessionClosed, err)
	}
	return p, nil
}

// ParsePolicyChanged reads the body of a policy-changed push.
func ParsePolicyChanged(body []byte) (PolicyChanged, error) {
	var p PolicyChanged
	if err := decodePush(body, &p.Stamp, field{"policyRevision", count(&p.PolicyRevision)}); err != nil {
		return PolicyChanged{}, fmt.Errorf("push %s: %w", PushPolicyChanged, err)
	}
	return p, nil
}

// ParseCertificateUpdated reads the body of a certificate-updated push.
func ParseCertificateUpdated(body []byte) (CertificateUpdated, error) {
	var p CertificateUpdated
	err := decodePush(body, &p.Stamp, p.fields()...)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return CertificateUpdated{}, fmt.Errorf("push %s: %w", PushCertificateUpdated, err)
	}
	return p, nil
}

// ParseHeartbeat reads the body of a heartbeat.
func ParseHeartbeat(body []byte) (Heartbeat, error) {
	var p Heartbeat
	if err := decodePush(body, &p.Stamp); err != nil {
		return Heartbeat{}, fmt.Errorf("push %s: %w", PushHeartbeat, err)
	}
	return p, nil
}

func decodePush(body []byte, stamp *Stamp, fields ...field) error {
	hasSeq := false
	seq := func(r *reader) error {
		hasSeq = true
		return count(&stamp.Seq)(r)
	}
	err := decode(body, append(fields, field{"epoch", text(&stamp.Epoch)}, field{"seq", seq})...)
	if err != nil {
		return err
	}
	if stamp.Epoch == "" || !hasSeq {
		return errors.New("no epoch or no seq")
	}
	return nil
}

func isDigest(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}
