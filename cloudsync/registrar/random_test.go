package registrar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// life is a registrar's with a cloud that fails at random, before or after it has acted, with
// crashes, repeated and lost events, and an operator who deactivates.
type life struct {
	*site
	t       *testing.T
	chance  *rand.Rand
	faults  *rand.Rand // guarded by the cloud's mu
	failing bool
	allowed map[messages.CertificateID]messages.ThingName // by the rules, and the first of their name
	never   map[messages.CertificateID]string             // why
	ders    map[messages.CertificateID][]byte
}

// Whatever happens in between: who must not be ACTIVE never is, ACTIVE comes with all that
// belongs to it, and when the faults end everybody who may be registered is.
func TestRandomLives(t *testing.T) {
	lives := 150
	if testing.Short() {
		lives = 25
	}
	for seed := range lives {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *site) {
				l := &life{site: s, t: t, chance: rand.New(rand.NewPCG(uint64(seed), 1)), faults: rand.New(rand.NewPCG(uint64(seed), 2)), failing: true,
					allowed: map[messages.CertificateID]messages.ThingName{}, never: map[messages.CertificateID]string{}, ders: map[messages.CertificateID][]byte{}}
				s.cloud.fail = l.fail
				s.start()
				for range 25 {
					l.step()
					l.check()
				}
				s.cloud.mu.Lock()
				l.failing = false
				s.cloud.mu.Unlock()
				s.restart()
				for _, line := range s.r.Lines() {
					if line.State == stateDead && l.never[line.Certificate] == "" { // an operator's turn
						if err := s.r.Retry(line.Certificate); err != nil {
							t.Fatal(err)
						}
					}
				}
				for id := range l.allowed {
					if der := l.ders[id]; der != nil && s.cloud.status(id) == "" { // the device comes again
						_, _ = s.r.Register(t.Context(), s.candidate(der))
					}
				}
				settled(13 * time.Hour) // two listings
				l.check()
				for id, thing := range l.allowed {
					if l.never[id] == "" && !s.done(id, thing) {
						t.Errorf("%s is not registered: %s; %+v", thing, s.cloud.state(), s.r.Lines())
					}
				}
			})
		})
	}
}

func (l *life) fail(op string, after bool) error {
	if !l.failing || l.faults.IntN(12) != 0 {
		return nil
	}
	class := []messages.CloudFailure{messages.FailureUnreachable, messages.FailureThrottled, messages.FailureServer, messages.FailureRefused, messages.FailureNotService}[l.faults.IntN(5)]
	return &Problem{Class: class, Final: !after && l.faults.IntN(8) == 0, Detail: "by chance"}
}

func (l *life) step() {
	ids := l.ids()
	pick := func() messages.CertificateID { return ids[l.chance.IntN(len(ids))] }
	switch n := l.chance.IntN(10); {
	case n < 3 || len(ids) == 0:
		l.arrive()
	case n < 6:
		l.tell(pick())
	case n == 6:
		l.restart()
	case n == 7: // an operator deactivates what has been active
		id := pick()
		l.cloud.mu.Lock()
		if c := l.cloud.certs[id]; c != nil && c.Status == StatusActive {
			c.Status, c.Untouched = StatusInactive, false
			l.never[id] = "deactivated by an operator"
		}
		l.cloud.mu.Unlock()
	default:
		settled(time.Duration(l.chance.IntN(600)) * time.Second)
	}
	settled(time.Duration(l.chance.IntN(2000)) * time.Millisecond)
}

// arrive has a device come: of the fleet or not, to the cloud or to the edge.
func (l *life) arrive() {
	name := fmt.Sprintf("pump-%d", len(l.ids()))
	signer, reason := l.ca, ""
	switch l.chance.IntN(6) {
	case 0:
		signer, reason = newSigner(l.t, "fleet"), "of a rogue authority"
	case 1:
		name, reason = "valve-1", "of no rule"
	}
	der := signer.leaf(l.t, name)
	id := messages.CertificateIDOf(der)
	l.ders[id] = nil
	if reason != "" {
		l.never[id] = reason
	} else {
		l.allowed[id] = messages.ThingName(name)
	}
	if l.chance.IntN(2) == 0 {
		l.ders[id] = der
		if out, err := l.r.Register(l.t.Context(), l.candidate(der)); err != nil && !errors.Is(err, ErrLater) {
			l.t.Errorf("%s: %+v, %v", name, out, err)
		}
		return
	}
	l.cloud.mu.Lock()
	l.cloud.certs[id] = &Certificate{ARN: arnOf(id), DER: der, Status: StatusPending, Authority: l.ca.id()}
	l.cloud.mu.Unlock()
	if l.chance.IntN(2) == 0 {
		l.tell(id)
	}
}

func (l *life) ids() []messages.CertificateID {
	ids := make([]messages.CertificateID, 0, len(l.ders))
	for id := range l.ders {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (l *life) check() {
	l.t.Helper()
	for _, id := range l.ids() {
		if l.cloud.status(id) != StatusActive {
			continue
		}
		if reason := l.never[id]; reason != "" {
			l.t.Fatalf("ACTIVE, though %s: %s", reason, l.cloud.state())
		}
		if thing := l.allowed[id]; !l.done(id, thing) {
			l.t.Fatalf("ACTIVE before its time: %s: %s", thing, l.cloud.state())
		}
	}
}
