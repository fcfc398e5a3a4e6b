package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// A flood: no more than the quota in an hour, nobody lost, in turn.
func TestTheQuotaPutsOffAndLosesNobody(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.rules.PerHour = 3
		var ids []messages.CertificateID
		for i := range 10 {
			ids = append(ids, s.pending(fmt.Sprintf("pump-%d", i)))
		}
		s.start()
		active := func() (n int) {
			for _, id := range ids {
				if s.cloud.status(id) == StatusActive {
					n++
				}
			}
			return n
		}
		for hour := range 3 {
			settled(30 * time.Minute)
			if got := active(); got != 3*(hour+1) {
				t.Errorf("hour %d: %d registered", hour, got)
			}
			if lines := s.r.Lines(); len(lines) != 10-3*(hour+1) || lines[0].State != "deferred" || lines[0].Next == nil {
				t.Errorf("hour %d: %+v", hour, lines)
			}
			if hour == 1 {
				s.restart() // gives no new quota
			}
			settled(31 * time.Minute)
		}
		settled(time.Hour)
		if active() != 10 || len(s.told()) != 10 {
			t.Errorf("%d registered, told %d", active(), len(s.told()))
		}
	})
}

// More than there is room for: those who found none are found by a listing.
func TestNobodyIsLostInAFlood(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.rules.PerHour = 10000
		s.start()
		settled(time.Second)
		var ids []messages.CertificateID
		for i := range entriesMax + 50 {
			ids = append(ids, s.pending(fmt.Sprintf("pump-%d", i)))
		}
		for _, id := range ids {
			s.tell(id)
		}
		if n := s.r.Stats().Waiting; n > entriesMax {
			t.Errorf("%d wait", n)
		}
		settled(20 * time.Minute)
		for _, id := range ids {
			if s.cloud.status(id) != StatusActive {
				t.Fatalf("%s is %s; %+v", id, s.cloud.status(id), s.r.Stats())
			}
		}
	})
}

// What the service refuses is given up after some tries, kept over a restart, and taken up
// again when an operator says so. A policy of another content is left as it is.
func TestWhatIsRefusedIsGivenUpAndKept(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.cloud.policies["p-pump-1"] = `{"Statement":[]}`
		id := s.pending("pump-1")
		s.start()
		settled(time.Hour)
		check := func(state string) {
			t.Helper()
			lines := s.r.Lines()
			if len(lines) != 1 || lines[0].State != state || lines[0].Certificate != id || !strings.Contains(lines[0].Problem, "another document") {
				t.Fatalf("%+v, want %s", lines, state)
			}
			if s.cloud.policies["p-pump-1"] != `{"Statement":[]}` || s.cloud.status(id) != StatusPending {
				t.Fatal(s.cloud.state())
			}
		}
		check("given-up")
		asked := len(s.cloud.asked())
		s.restart()
		s.tell(id)
		settled(time.Hour)
		check("given-up")
		if n := slices.DeleteFunc(s.cloud.asked()[asked:], func(op string) bool { return op == "Pending" }); len(n) != 0 {
			t.Errorf("asked %q", n)
		}
		if err := s.r.Dismiss(id); err != nil {
			t.Fatal(err)
		}
		check("dismissed")
		s.restart()
		s.tell(id)
		settled(time.Hour)
		check("dismissed")
		s.cloud.mu.Lock()
		delete(s.cloud.policies, "p-pump-1")
		s.cloud.mu.Unlock()
		if err := s.r.Retry(id); err != nil {
			t.Fatal(err)
		}
		settled(time.Minute)
		if !s.done(id, "pump-1") || len(s.r.Lines()) != 0 {
			t.Error(s.cloud.state(), s.r.Lines())
		}
		if err := s.r.Retry(messages.CertificateID(strings.Repeat("9", 64))); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

// A cloud that is away is asked less and less often, and again at once when it is back; our
// own lack of rights gives nobody up.
func TestACloudThatIsAwayGivesNobodyUp(t *testing.T) {
	for _, class := range []messages.CloudFailure{messages.FailureUnreachable, messages.FailureThrottled, messages.FailureRefused, messages.FailureServer} {
		bubble(t, func(t *testing.T, s *site) {
			down := true
			s.cloud.fail = func(string, bool) error {
				if down {
					return &Problem{Class: class, Detail: "away"}
				}
				return nil
			}
			id := s.pending("pump-1")
			s.start()
			s.tell(id)
			settled(24 * time.Hour)
			n := len(s.cloud.asked())
			// Full jitter: on average half of five minutes, for two who ask.
			if lines := s.r.Lines(); n > 2*24*12*4 || n < 24*12 || len(lines) != 1 || lines[0].State == "given-up" {
				t.Errorf("class %d: asked %d times in a day: %+v", class, n, lines)
			}
			s.cloud.mu.Lock()
			down = false
			s.cloud.mu.Unlock()
			s.r.NetworkChanged(true)
			settled(6 * time.Minute)
			if !s.done(id, "pump-1") {
				t.Errorf("class %d: %s", class, s.cloud.state())
			}
		})
	}
}

// One of whom the cloud says nothing that makes sense, again and again, holds up nobody else.
func TestOneThatAlwaysFailsHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.cloud.listed = false
		bad := s.pending("pump-1")
		s.cloud.mu.Lock()
		s.cloud.certs[bad].DER = []byte("another one")
		s.cloud.mu.Unlock()
		s.start()
		s.tell(bad)
		settled(time.Second)
		good := s.pending("pump-2")
		s.tell(good)
		settled(time.Hour)
		if !s.done(good, "pump-2") {
			t.Error(s.cloud.state(), s.r.Lines())
		}
		if s.cloud.status(bad) != StatusPending {
			t.Error(s.cloud.state())
		}
	})
}

// An authority whose list cannot be read hides nobody of another's.
func TestAListThatFailsHidesNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		id := s.pending("pump-1")
		s.cloud.unread = newSigner(t, "another fleet")
		cfg := s.config()
		cfg.Authorities = must[registration.Authorities](t)(registration.NewAuthorities([]*x509.Certificate{s.cloud.unread.cert, s.ca.cert}))
		s.r = must[*Registrar](t)(New(cfg))
		settled(time.Minute)
		if !s.done(id, "pump-1") {
			t.Error(s.cloud.state(), s.r.Lines())
		}
	})
}

// A device that was denied for want of its name, which another had, is registered when it comes
// again and the name is free, also after a restart; not if somebody has changed its status.
func TestWhatWasDeniedMayBeRegisteredLater(t *testing.T) {
	for _, touched := range []bool{false, true} {
		bubble(t, func(t *testing.T, s *site) {
			s.cloud.listed = false
			s.cloud.things["pump-1"] = []string{arnOf(messages.CertificateID(strings.Repeat("1", 64)))}
			s.start()
			der := s.ca.leaf(t, "pump-1")
			id := messages.CertificateIDOf(der)
			if out, err := s.r.Register(t.Context(), s.candidate(der)); err != nil || out.Status != registration.Denied {
				t.Fatal(out, err)
			}
			if lines := s.r.Lines(); len(lines) != 1 || lines[0].State != "denied" || !strings.Contains(lines[0].Problem, "belongs to another") || s.r.Stats().GivenUp != 0 {
				t.Errorf("%+v", lines)
			}
			s.restart()
			s.cloud.mu.Lock()
			s.cloud.things["pump-1"] = nil
			s.cloud.certs[id].Untouched = !touched
			s.cloud.mu.Unlock()
			settled(deniedFor)
			_, _ = s.r.Register(t.Context(), s.candidate(der))
			settled(time.Hour)
			if s.done(id, "pump-1") == touched {
				t.Errorf("touched %t: %s", touched, s.cloud.state())
			}
			if !touched && len(s.r.Lines()) != 0 {
				t.Errorf("%+v", s.r.Lines())
			}
		})
	}
}

// Nothing is begun that could not be found again, and an outcome is told until it is on record.
func TestDiskAndLogComeFirst(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.full = true
		id := s.pending("pump-1")
		before := s.cloud.state()
		s.start()
		settled(time.Minute)
		if after := s.cloud.state(); after != before {
			t.Errorf("changed\n%s\nto\n%s", before, after)
		}
		s.mu.Lock()
		s.full, s.deaf = false, true
		s.mu.Unlock()
		settled(10 * time.Minute)
		if !s.done(id, "pump-1") || len(s.told()) != 0 || len(s.r.Lines()) != 1 {
			t.Error(s.cloud.state(), s.told(), s.r.Lines())
		}
		if err := s.r.Dismiss(id); err == nil {
			t.Error("what is decided was dismissed")
		}
		s.restart()
		s.mu.Lock()
		s.deaf = false
		s.mu.Unlock()
		settled(10 * time.Minute)
		if told := s.told(); len(told) != 1 || told[0].Status != registration.Accepted || len(s.r.Lines()) != 0 {
			t.Error(told, s.r.Lines())
		}
	})
}

// By a clock that is behind nobody is denied, and nobody revoked.
func TestAClockThatIsBehindDecidesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		s.rules.OnDenied = registration.DeniedRevoke
		id := s.pending("pump-1")
		cfg := s.config()
		var behind time.Duration = 100 * time.Hour
		var mu sync.Mutex
		cfg.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(-behind)
		}
		s.r = must[*Registrar](t)(New(cfg))
		settled(time.Hour)
		if s.cloud.status(id) != StatusPending || len(s.told()) != 0 {
			t.Error(s.cloud.state(), s.told())
		}
		mu.Lock()
		behind = 0
		mu.Unlock()
		s.r.NetworkChanged(true)
		settled(10 * time.Minute)
		if !s.done(id, "pump-1") {
			t.Error(s.cloud.state(), s.r.Lines())
		}
	})
}

// Nor does anybody wait until a clock that was ahead gets there again.
func TestAClockThatWasAheadHoldsUpNobody(t *testing.T) {
	for _, class := range []messages.CloudFailure{messages.FailureUnreachable, messages.FailureServer} {
		bubble(t, func(t *testing.T, s *site) {
			s.cloud.listed = false
			var ahead time.Duration = 100 * time.Hour
			s.cloud.fail = func(string, bool) error {
				if ahead > 0 {
					return &Problem{Class: class, Detail: "away"}
				}
				return nil
			}
			cfg := s.config()
			cfg.Now = func() time.Time {
				s.cloud.mu.Lock()
				defer s.cloud.mu.Unlock()
				return time.Now().Add(ahead)
			}
			s.r = must[*Registrar](t)(New(cfg))
			id := s.pending("pump-1")
			s.tell(id)
			settled(time.Hour)
			s.cloud.mu.Lock()
			ahead = 0
			s.cloud.mu.Unlock()
			settled(time.Hour)
			if !s.done(id, "pump-1") {
				t.Errorf("class %d: %s, %+v", class, s.cloud.state(), s.r.Lines())
			}
		})
	}
}

func TestRegisterEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, s *site) {
		hang := make(chan struct{})
		s.cloud.hang = func(op string) {
			if op == "Certificate" {
				<-hang
			}
		}
		s.cloud.listed = false
		s.start()
		der := s.ca.leaf(t, "pump-1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.r.Register(ctx, s.candidate(der)); !errors.Is(err, ErrLater) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(hang)
		settled(time.Minute)
		if !s.done(messages.CertificateIDOf(der), "pump-1") {
			t.Error("it was forgotten")
		}
	})
}
