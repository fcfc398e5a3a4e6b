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
	if v.isPoisoned(rec.Stream) {
		return false
	}
	s := &Session{
		Digest: messages.TokenDigest(e.Session), Component: name, Certificate: messages.CertificateID(e.CertificateId),
		Broker: messages.BrokerID(e.Broker), OpenedMs: rec.At.TrustMs, OpenedSeq: rec.Seq, endsMs: e.NotAfterMs,
	}
	if !v.table.insert(s) {
		return false
	}
	v.components[s] = 0
	return !v.replaying
}

func (v *Views) sessionsOfComponent(name messages.ComponentName) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []*Session
	for s := range v.components {
		if s.Component == name {
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
