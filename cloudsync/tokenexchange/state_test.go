package tokenexchange

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func set(id string, lifetime time.Duration) Fetched {
	return Fetched{Credentials{AccessKeyID: id, SecretAccessKey: "s", SessionToken: "t"}, lifetime}
}

// Cloud spec 2, the caching rules, one row each.
func TestTheCachingRules(t *testing.T) {
	const at = 1000 * time.Second
	for _, c := range []struct {
		name    string
		rules   Rules
		got     Fetched
		failure *Failure
		kept    time.Duration // for how long the outcome is answered without asking again
		next    time.Duration // when it is asked again, by chance 0
	}{
		{"a set is renewed 300 s before its end, and good to the end", Rules{}, set("a", time.Hour), nil, time.Hour, 55 * time.Minute},
		{"or as configured", Rules{RefreshBefore: 20 * time.Minute}, set("a", time.Hour), nil, time.Hour, 40 * time.Minute},
		{"or half way, where it lasts no longer than that", Rules{RefreshBefore: time.Hour}, set("a", 20*time.Minute), nil, 20 * time.Minute, 10 * time.Minute},
		{"exactly 300 s: renewed half way", Rules{}, set("a", 300*time.Second), nil, 300 * time.Second, 150 * time.Second},
		{"less than 300 s: not kept", Rules{}, set("a", 299*time.Second), nil, 0, retryFirst / 2},
		{"a lower refreshBefore keeps shorter ones", Rules{RefreshBefore: time.Minute}, set("a", 90*time.Second), nil, 90 * time.Second, 30 * time.Second},
		{"4xx: 120 s", Rules{}, Fetched{}, &Failure{Status: 403}, 120 * time.Second, 120 * time.Second},
		{"5xx: 60 s", Rules{}, Fetched{}, &Failure{Status: 500}, 60 * time.Second, 60 * time.Second},
		{"another status: 300 s", Rules{}, Fetched{}, &Failure{Status: 200}, 300 * time.Second, 300 * time.Second},
		{"no answer: 300 s for callers, but tried again soon", Rules{}, Fetched{}, &Failure{}, 300 * time.Second, retryFirst / 2},
		{"configured: 10 s", Rules{ClientError: 10 * time.Second}, Fetched{}, &Failure{Status: 404}, 10 * time.Second, 10 * time.Second},
		{"expired: not kept", Rules{}, Fetched{}, &Failure{passing: true}, 0, retryFirst / 2},
	} {
		var s state
		held, failure := s.take(c.rules.complete(), at, at, c.got, c.failure, 0)
		if failure != c.failure || (held != nil) != (c.failure == nil) {
			t.Errorf("%s: who waited gets %v, %v", c.name, held, failure)
		}
		for _, moment := range []struct {
			after time.Duration
			kept  bool
		}{{0, c.kept > 0}, {max(0, c.kept-1), c.kept > 0}, {c.kept, false}} {
			held, failure := s.look(at + moment.after)
			if (held != nil || failure != nil) != moment.kept || held != nil && c.failure != nil || failure != nil && c.failure == nil {
				t.Errorf("%s: after %v there is %v, %v", c.name, moment.after, held, failure)
			}
		}
		if s.next-at != c.next {
			t.Errorf("%s: asked again after %v, want %v", c.name, s.next-at, c.next)
		}
	}
}

// A failure never takes a good set away, nor makes it last longer.
func TestAFailureNeverRevokes(t *testing.T) {
	var s state
	rules := Rules{}.complete()
	s.take(rules, 0, 0, set("a", time.Hour), nil, 0)
	for at := 55 * time.Minute; at < time.Hour; at += 10 * time.Second {
		s.take(rules, at, at, Fetched{}, &Failure{Status: 403, Message: "no"}, 0.5)
		if held, _ := s.look(at); held == nil || held.AccessKeyID != "a" {
			t.Fatalf("gone after %v", at)
		}
	}
	if held, failure := s.look(time.Hour); held != nil || failure == nil {
		t.Errorf("at its end there is %v, %v", held, failure)
	}
}

// model is a cache as the rules say it, kept the simplest way: it remembers all answers, and
// looks through them.
type model struct {
	rules   Rules
	answers []heard
}

type heard struct {
	at, until time.Duration // of a set: its end; of a failure: for how long it counts
	id        string        // "": a failure
	failure   *Failure
}

func (m *model) hear(asked, now time.Duration, got Fetched, f *Failure) {
	switch {
	case f != nil:
		kept := map[int]time.Duration{4: m.rules.ClientError, 5: m.rules.ServerError}[f.Status/100]
		if kept == 0 {
			kept = m.rules.UnknownError
		}
		m.answers = append(m.answers, heard{now, now + kept, "", f})
	case asked+got.Lifetime <= now: // it ended on the way
	case got.Lifetime < 300*time.Second && got.Lifetime < m.rules.RefreshBefore: // not kept, but an answer
		m.answers = append(m.answers, heard{now, now, "short", nil})
	default:
		m.answers = append(m.answers, heard{now, asked + got.Lifetime, got.Credentials.AccessKeyID, nil})
	}
}

func (m *model) look(now time.Duration) (id string, failure *Failure) {
	for _, a := range m.answers {
		if a.id != "" && a.id != "short" {
			id = ""
			if now < a.until {
				id = a.id
			}
		}
	}
	if id != "" {
		return id, nil
	}
	if len(m.answers) > 0 {
		if last := m.answers[len(m.answers)-1]; last.failure != nil && now < last.until {
			return "", last.failure
		}
	}
	return "", nil
}

// TestStateIsTheModel: whatever comes and however time passes, the state answers as the model,
// gives nothing out past its end, and never plans to leave the cloud alone past the end of
// what it holds, unless the cloud has said no.
func TestStateIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, min, max int) time.Duration {
			return time.Duration(rapid.IntRange(min, max).Draw(t, name)) * time.Second
		}
		rules := Rules{
			RefreshBefore: seconds("refreshBefore", 60, 3600), ClientError: seconds("clientError", 10, 42900),
			ServerError: seconds("serverError", 10, 42900), UnknownError: seconds("unknownError", 10, 42900),
		}
		s, m := state{}, model{rules: rules}
		ends := map[string]time.Duration{}
		now := seconds("boot", 0, 1e6)
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			now += seconds("passes", 0, 4000)
			held, failure := s.look(now)
			id, want := m.look(now)
			if (held == nil) != (id == "") || held != nil && held.AccessKeyID != id || failure != want {
				t.Fatalf("step %d: got %v, %v, want %q, %v", i, held, failure, id, want)
			}
			if held != nil && now >= ends[held.AccessKeyID] {
				t.Fatalf("step %d: %s is given out past its end", i, held.AccessKeyID)
			}
			asked := now
			now += seconds("takes", 0, 40)
			chance := rapid.Float64Range(0, 0.999).Draw(t, "chance")
			if rapid.Bool().Draw(t, "granted") {
				got := set(string(rune('A'+i)), seconds("lifetime", 1, 43200))
				ends[got.Credentials.AccessKeyID] = asked + got.Lifetime
				s.take(rules, asked, now, got, nil, chance)
				m.hear(asked, now, got, nil)
				if h := s.held; h != nil && h.AccessKeyID == got.Credentials.AccessKeyID && (s.next >= h.until || s.next < now) {
					t.Fatalf("step %d: asked again at %v, of a set that ends at %v, now %v", i, s.next, h.until, now)
				}
				if asked+got.Lifetime <= now { // it ended on the way: an error, of which nothing is kept
					m.answers = append(m.answers, heard{now, now, "", s.failed})
				}
				continue
			}
			f := &Failure{Status: rapid.SampledFrom([]int{0, 200, 302, 400, 403, 404, 429, 500, 503}).Draw(t, "status")}
			s.take(rules, asked, now, Fetched{}, f, chance)
			m.hear(asked, now, Fetched{}, f)
			if pause := s.next - now; pause <= 0 || pause > rules.kept(f) {
				t.Fatalf("step %d: after %+v the cloud is left alone for %v", i, f, pause)
			}
		}
	})
}
