package projections

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// addComponentSession adds the session of an internal component; live is false during
// replay, when nothing is evicted.
func (v *Views) addComponentSession(rec *messages.Record, name messages.ComponentName, e *messages.SessionOpened) (live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := messages.CertificateID(e.CertificateId)
	if v.isPoisoned(rec.Stream) || v.noComponent(string(name), id) { // it may have been opened before that was taken back
		return false
	}
	s := &Session{
		Digest: messages.TokenDigest(e.Session), Component: name, Certificate: id,
		Broker: messages.BrokerID(e.Broker), OpenedMs: rec.At.TrustMs, OpenedSeq: rec.Seq, endsMs: e.NotAfterMs,
	}
	if !v.table.insert(s) {
		return false
	}
	v.components[s] = 0
	return !v.replaying
}

// NoComponent reports whether an operator took back that the certificate id makes its holder
// the internal component name. If what they said cannot be read, it makes nobody one.
func (v *Views) NoComponent(name string, id messages.CertificateID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.noComponent(name, id)
}

// noComponent is NoComponent; mu is held.
func (v *Views) noComponent(name string, id messages.CertificateID) bool {
	if rights, _ := v.BrokerRights(messages.BrokerID(name)); rights.NoComponent || v.isPoisoned(messages.StreamCA) {
		return true
	}
	later, withdrawn := v.withdrawn[messages.ComponentName(name)]
	return withdrawn && !slices.Contains(later, id)
}

// laterMax bounds the certificates that count of a component that was withdrawn once: as
// many as the authority remembers.
const laterMax = 4096

// componentWithdrawn lets no certificate count that was issued to the component so far.
func (v *Views) componentWithdrawn(e *messages.ComponentWithdrawn) {
	v.withdrawComponent(messages.ComponentName(e.Component), "an operator took its certificates back")
}

func (v *Views) withdrawComponent(name messages.ComponentName, why string) {
	v.mu.Lock()
	v.withdrawn[name] = nil
	v.mu.Unlock()
	v.endComponents(name, why)
}

// certificateIssued lets a certificate count that was issued after its component was
// withdrawn: by the order of the log.
func (v *Views) certificateIssued(e *messages.CertificateIssued) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := messages.ComponentName(e.Subscriber)
	if later, withdrawn := v.withdrawn[name]; withdrawn {
		later = append(later, messages.CertificateIDOf(e.Der))
		v.withdrawn[name] = later[max(0, len(later)-laterMax):]
	}
}

// endComponents ends the sessions of a component; of all if name is empty.
func (v *Views) endComponents(name messages.ComponentName, why string) {
	v.endAll(v.sessionsOfComponent(name), messages.CloseReason_CLOSE_BY_OPERATOR, why)
}

// ComponentSessions counts the live sessions of a component.
func (v *Views) ComponentSessions(name messages.ComponentName) int {
	return len(v.sessionsOfComponent(name))
}

// sessionsOfComponent lists the live sessions of a component; of all if name is empty.
func (v *Views) sessionsOfComponent(name messages.ComponentName) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []*Session
	for s := range v.components {
		if name == "" || s.Component == name {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, byOpening)
	return list
}

// componentHolds reports whether a component's session may be used: until its certificate
// ends, by a clock that nobody doubts. As with any trust, one from before trust was voided
// does not count, nor one from the future: it was opened by a clock that was ahead.
func (s *Session) componentHolds(trust messages.Trust, nowMs int64) bool {
	life := messages.Trust{DurationMs: s.endsMs + 1 - s.OpenedMs, SinceMs: trust.SinceMs}
	return !trust.Doubted && life.Holds(s.OpenedMs, nowMs)
}

// expiredComponents lists the orders that end components' sessions whose certificates
// have ended, one for each certificate; mu is held. What it listed it lists again only
// after a while.
func (v *Views) expiredComponents(list []messages.CloseSessions, nowMs int64) []messages.CloseSessions {
	var ended []*Session
	for s, toldMs := range v.components {
		told := toldMs <= nowMs && nowMs < toldMs+tellAgainMs // in the future: the clock was set back
		if nowMs > s.endsMs && !told {
			v.components[s] = nowMs
			ended = append(ended, s)
		}
	}
	slices.SortFunc(ended, byOpening)
	begin := len(list)
	for _, s := range ended {
		order := messages.CloseSessions{
			Component: s.Component, Certificate: s.Certificate,
			Reason: messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED, Detail: "the certificate has expired",
		}
		if !slices.Contains(list[begin:], order) {
			list = append(list, order)
		}
	}
	return list
}
