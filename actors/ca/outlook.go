package ca

import (
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Coming is something that happens to an authority if nothing else changes before.
type Coming struct {
	At        time.Time              `json:"at"`
	What      Turn                   `json:"what"`
	Authority messages.CertificateID `json:"authority,omitempty"` // that issues, retires or ends; none: it is not made yet
	Reason    string                 `json:"reason"`
}

// Turn is a kind of Coming.
type Turn string

// The turns in an authority's life.
const (
	TurnSuccessor Turn = "successor" // another is made
	TurnIssues    Turn = "issues"    // certificates are signed by it from then on
	TurnRetires   Turn = "retires"   // it leaves the bundle
	TurnEnds      Turn = "ends"      // it was the last, and nothing can be signed any more
)

// turnsMax bounds an Outlook: far more than the authorities in use can give.
const turnsMax = 256

// Outlook says what comes to the authorities, in the order of time, as far as the next one
// that is made: what follows depends on that. It plays Plan forward, so it says what Plan
// will do, as long as s stays as it is.
func Outlook(s State, now time.Time) []Coming {
	s.Subscriptions = nil
	var list []Coming
	known := map[Step]bool{}
	issuer, _ := s.Issuer(now)
	for at := now; len(list) < turnsMax; {
		due, next := Plan(s, at)
		for _, step := range due {
			what := map[Action]Turn{CreateAuthority: TurnSuccessor, RetireAuthority: TurnRetires}[step.Do]
			if what != "" && !known[step] {
				list = append(list, Coming{At: at, What: what, Authority: step.Authority, Reason: step.Reason})
			}
			known[step] = true
			if what == TurnSuccessor {
				return list
			}
		}
		switch i, ok := s.Issuer(at); {
		case !ok && issuer.ID != "":
			return append(list, Coming{At: at, What: TurnEnds, Authority: issuer.ID, Reason: "there is no other"})
		case ok && i.ID != issuer.ID:
			issuer = i
			list = append(list, Coming{At: at, What: TurnIssues, Authority: i.ID, Reason: "devices have had time to learn of it"})
		}
		if next.IsZero() {
			break
		}
		at = next
	}
	return list
}

// Renewal says when the holder of c gets the next certificate, and why, as Outlook does.
// Zero: never.
func Renewal(s State, c Subscription, now time.Time) (at time.Time, reason string) {
	s.Subscriptions = []Subscription{c}
	at = now
	for range turnsMax {
		due, next := Plan(s, at)
		for _, step := range due {
			if step.Do == IssueCertificate {
				return at, step.Reason
			}
		}
		if next.IsZero() {
			break
		}
		at = next
	}
	return time.Time{}, ""
}

// Reasons lists the reasons to issue a certificate that are not an operator's.
func Reasons() []string { return []string{ReasonFirst, ReasonRotation, ReasonAuthority, ReasonHosts} }

// ReasonOperator is in front of what an operator gave as the reason to issue.
const ReasonOperator = "operator: "

// ReasonClass is one of Reasons, or "operator": what a reason in the log is counted as.
func ReasonClass(reason string) string {
	if slices.Contains(Reasons(), reason) {
		return reason
	}
	return "operator"
}
