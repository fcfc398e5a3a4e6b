package ca

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func outlook(list []Coming) string {
	var parts []string
	for _, c := range list {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s after %s", c.What, c.Authority, c.At.Sub(noon).Round(time.Minute))))
	}
	return strings.Join(parts, "; ")
}

// TestOutlook: what comes to authorities, and when.
func TestOutlook(t *testing.T) {
	day := 24 * time.Hour
	managed := Settings{Type: TypeECDSAP256}
	a, b := standing("a", noon, 100*day), standing("b", noon, 400*day)
	b.Acknowledged = false
	own := Standing{ID: "c", Custom: true, NotBefore: noon, NotAfter: noon.Add(50 * day), Since: noon, Acknowledged: true}
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"the one there is", State{Settings: managed, Authorities: []Standing{a}}, "successor  after 240h0m0s"},
		{"its successor, of which nobody has heard", State{Settings: managed, Authorities: []Standing{a, b}}, "issues b after 168h0m0s; retires a after 408h0m0s; successor  after 7440h0m0s"},
		{"an operator's own", State{Settings: Settings{Custom: true}, Authorities: []Standing{own}}, "ends c after 1200h0m0s"},
		{"none", State{Settings: managed}, "successor  after 0s"},
		{"the time is not known", State{Settings: Settings{Type: TypeECDSAP256, AuthoritiesFrozen: true}, Authorities: []Standing{a}}, "ends a after 2400h0m0s"},
	} {
		if got := outlook(Outlook(c.state, noon)); got != c.want {
			t.Errorf("%s:\n have %s\n want %s", c.name, got, c.want)
		}
	}
}

// TestOutlookIsThePlan: at the moment it names the plan has the step, and just before it
// has not; the issuer is the one it names from then on.
func TestOutlookIsThePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hours := func(name string, from, to int) time.Duration {
			return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Hour
		}
		s := State{Settings: Settings{Type: TypeECDSAP256, Custom: rapid.Bool().Draw(t, "custom"), CloudConfigured: rapid.Bool().Draw(t, "cloud")}}
		for i := range rapid.IntRange(1, 4).Draw(t, "authorities") {
			since := noon.Add(-hours("since", 0, 1000))
			s.Authorities = append(s.Authorities, Standing{
				ID: messages.CertificateID(fmt.Sprintf("a%d", i)), Type: TypeECDSAP256, NotBefore: since, NotAfter: noon.Add(hours("end", 1, 9000)), Since: since,
				Acknowledged: rapid.Bool().Draw(t, "known"), AcknowledgedAt: since, Unusable: rapid.IntRange(0, 4).Draw(t, "unusable") == 0,
				SignedUntil: noon.Add(hours("signed", -10, 240)),
			})
		}
		list := Outlook(s, noon)
		if !slices.IsSortedFunc(list, func(x, y Coming) int { return x.At.Compare(y.At) }) {
			t.Fatalf("not in order: %s", outlook(list))
		}
		for _, c := range list {
			has := func(at time.Time) bool {
				due, _ := Plan(s, at)
				return slices.ContainsFunc(due, func(step Step) bool {
					return step.Authority == c.Authority && (c.What == TurnSuccessor && step.Do == CreateAuthority || c.What == TurnRetires && step.Do == RetireAuthority)
				})
			}
			before := c.At.Add(-1)
			after, ok := s.Issuer(c.At)
			switch c.What {
			case TurnSuccessor, TurnRetires:
				if !has(c.At) || c.At.After(noon) && has(before) {
					t.Errorf("%s: planned %t, just before %t", outlook([]Coming{c}), has(c.At), has(before))
				}
			case TurnIssues:
				if was, _ := s.Issuer(before); after.ID != c.Authority || was.ID == c.Authority {
					t.Errorf("%s: issuer %s, just before %s", outlook([]Coming{c}), after.ID, was.ID)
				}
			case TurnEnds:
				if _, was := s.Issuer(before); ok || !was {
					t.Errorf("%s: can issue %t, just before %t", outlook([]Coming{c}), ok, was)
				}
			}
		}
	})
}

// TestRenewal: by the plan of rotation, sooner when another authority issues, and not
// before one does for what lasts as long as its authority.
func TestRenewal(t *testing.T) {
	day := 24 * time.Hour
	a, b := standing("a", noon.Add(-day), 400*day), standing("b", noon.Add(-5*day), 400*day)
	b.Acknowledged = false
	dying := standing("a", noon.Add(-day), 8*day)
	for _, c := range []struct {
		name        string
		authorities []Standing
		settings    Settings
		want        string
	}{
		{"by plan", []Standing{a}, Settings{Type: TypeECDSAP256}, "144h0m0s rotation"},
		{"a successor comes first", []Standing{a, b}, Settings{Type: TypeECDSAP256}, "48h0m0s authority changed"},
		{"as long as its authority", []Standing{dying, b}, Settings{Type: TypeECDSAP256}, "48h0m0s authority changed"},
		{"never", []Standing{a}, Settings{Type: TypeECDSAP256, RotationDisabled: true}, "never"},
		{"other addresses", []Standing{a}, Settings{Type: TypeECDSAP256, Hosts: []Host{{name: "other.example"}}}, "0s addresses changed"},
	} {
		at, reason := Renewal(State{Authorities: c.authorities, Settings: c.settings}, held(Server, "a"), noon)
		got := "never"
		if !at.IsZero() {
			got = at.Sub(noon).String() + " " + reason
		}
		if got != c.want {
			t.Errorf("%s: have %s, want %s", c.name, got, c.want)
		}
	}
}

func TestReasonClass(t *testing.T) {
	for reason, want := range map[string]string{
		ReasonHosts: ReasonHosts, ReasonFirst: "first", ReasonOperator + "leaked": "operator", "": "operator",
	} {
		if got := ReasonClass(reason); got != want {
			t.Errorf("%q is counted as %q, want %q", reason, got, want)
		}
	}
}
