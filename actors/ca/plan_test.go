package ca

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Vectors "rotation", with Gatehouse's answer for certificates of a day or less: half
// of the life, not every look (vectors README, server-cert).
func TestRotationIsDue(t *testing.T) {
	for _, v := range readVectors(t).Rotation {
		validity, age := time.Duration(v.ValiditySeconds)*time.Second, time.Duration(v.AgeSeconds)*time.Second
		want := v.Rotate
		if v.ValiditySeconds <= 86400 {
			want = 2*age >= validity
		}
		now := noon.Add(age)
		s := State{
			Authorities: []Standing{standing("a", noon.Add(-time.Hour), AuthorityValidity)},
			Subscriptions: []Subscription{{Subscriber: "b", Usage: Server, Issued: true, Authority: "a",
				NotBefore: noon, NotAfter: noon.Add(validity)}},
			Settings: Settings{Type: TypeECDSAP256, RotationDisabled: v.RotationDisabled},
		}
		due, _ := Plan(s, now)
		if got := len(due) == 1 && due[0].Do == IssueCertificate && due[0].Reason == ReasonRotation; got != want || len(due) > 1 {
			t.Errorf("validity %s, age %s: due %v, want rotation %t", validity, age, due, want)
		}
	}
	for validity, want := range map[time.Duration]time.Duration{
		7 * 24 * time.Hour: 6 * 24 * time.Hour, 48 * time.Hour: 24 * time.Hour, 36 * time.Hour: 18 * time.Hour, time.Minute: 30 * time.Second,
	} {
		if got := RenewAt(noon, noon.Add(validity)).Sub(noon); got != want {
			t.Errorf("validity %s: renewal after %s, want %s", validity, got, want)
		}
	}
}

// standing is an authority that issues from since on.
func standing(id messages.CertificateID, since time.Time, validity time.Duration) Standing {
	return Standing{ID: id, Type: TypeECDSAP256, NotBefore: since, NotAfter: since.Add(validity), Since: since, Acknowledged: true}
}

// held is a week's certificate of authority made at noon.
func held(usage Usage, authority messages.CertificateID) Subscription {
	return Subscription{Subscriber: "b", Usage: usage, Issued: true, Authority: authority, NotBefore: noon, NotAfter: noon.Add(7 * 24 * time.Hour)}
}

func show(due []Step) string {
	var parts []string
	for _, step := range due {
		name := map[Action]string{CreateAuthority: "create", IssueCertificate: "issue", RetireAuthority: "retire"}[step.Do]
		parts = append(parts, strings.TrimRight(fmt.Sprintf("%s %s%s", name, step.Subscriber, step.Authority), " ")+": "+step.Reason)
	}
	return strings.Join(parts, "; ")
}

// Vectors "triggers", design section 9 and reliability spec C-I1.
func TestPlan(t *testing.T) {
	day := 24 * time.Hour
	first := standing("1", noon, AuthorityValidity)
	second := standing("2", noon.Add(day), AuthorityValidity)
	unheard := second
	unheard.Acknowledged = false
	rsa := standing("1", noon, AuthorityValidity)
	rsa.Type = TypeRSA2048
	customOne := standing("1", noon, AuthorityValidity)
	customOne.Type, customOne.Custom = "", true
	settings := Settings{Type: TypeECDSAP256}
	for _, c := range []struct {
		name     string
		state    State
		now      time.Time
		due      string
		next     time.Time
		settings func(*Settings)
	}{
		{"nothing yet: an authority, no certificate", State{Subscriptions: []Subscription{{Subscriber: "b", Usage: Server}}}, noon, "create: first", time.Time{}, nil},
		{"nothing yet and no new authorities: nothing", State{}, noon, "", time.Time{}, func(s *Settings) { s.AuthoritiesFrozen = true }},
		{"nothing yet and a custom authority: wait for it", State{}, noon, "", time.Time{}, func(s *Settings) { s.Custom = true }},
		{"an authority: the first certificate", State{Authorities: []Standing{first}, Subscriptions: []Subscription{{Subscriber: "b", Usage: Client}}}, noon,
			"issue b1: first", first.NotAfter.Add(-90 * day), nil},
		{"rotation disabled: the first one still", State{Authorities: []Standing{first}, Subscriptions: []Subscription{{Subscriber: "b", Usage: Client}}}, noon,
			"issue b1: first", first.NotAfter.Add(-90 * day), func(s *Settings) { s.RotationDisabled = true }},
		{"all is well: look again at the renewal", State{Authorities: []Standing{first}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "", noon.Add(6 * day), nil},
		{"a cloud that does not know it", State{Authorities: []Standing{first}}, noon, "", first.NotAfter.Add(-90 * day), func(s *Settings) { s.CloudConfigured = true }},
		{"new addresses: servers", State{Authorities: []Standing{first}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "issue b1: addresses changed", noon.Add(6 * day),
			func(s *Settings) { s.Hosts = hosts(t, "10.0.0.1") }},
		{"new addresses: not clients", State{Authorities: []Standing{first}, Subscriptions: []Subscription{held(Client, "1")}}, noon.Add(day), "", noon.Add(6 * day),
			func(s *Settings) { s.Hosts = hosts(t, "10.0.0.1") }},
		{"localhost spelled out: no change", State{Authorities: []Standing{first}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "", noon.Add(6 * day),
			func(s *Settings) { s.Hosts = hosts(t, "localhost") }},
		{"another type: a successor, certificates stay", State{Authorities: []Standing{rsa}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "create: caType changed", noon.Add(6 * day), nil},
		{"made by a clock that was ahead: another, which issues", State{Authorities: []Standing{standing("1", noon.AddDate(1, 0, 0), AuthorityValidity)}}, noon, "create: the former one was made by a clock that was ahead", noon.AddDate(1, 0, 0), nil},
		{"a certificate of a clock that was ahead", State{Authorities: []Standing{standing("1", noon.AddDate(-1, 0, 0), AuthorityValidity)}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(-time.Hour), "issue b1: rotation",
			noon.AddDate(-1, 0, 0).Add(AuthorityValidity - 90*day), nil},
		{"a key that is gone: the successor issues at once", State{Authorities: []Standing{func() Standing { s := first; s.Unusable = true; return s }(), second}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "issue b2: authority changed", second.Since.Add(announceMin), nil},
		{"acknowledged late: from then on", State{Authorities: []Standing{first, func() Standing { s := second; s.AcknowledgedAt = s.Since.Add(day); return s }()}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day).Add(announceMin), "",
			second.Since.Add(day), nil},
		{"it signed for longer than the rule says: it stays", State{Authorities: []Standing{func() Standing { s := first; s.SignedUntil = noon.Add(20 * day); return s }(), second}}, second.Since.Add(announceMin + ValidityMax), "", noon.Add(20 * day), nil},
		{"back to managed", State{Authorities: []Standing{customOne}}, noon.Add(day), "create: back to a managed authority", first.NotAfter, nil},
		{"90 days before the end: a successor", State{Authorities: []Standing{first}}, first.NotAfter.Add(-90 * day), "create: the former one ends", first.NotAfter, nil},
		{"a successor just published: the old one issues on", State{Authorities: []Standing{first, second}, Subscriptions: []Subscription{held(Server, "1")}}, noon.Add(day), "",
			second.Since.Add(announceMin), nil},
		{"published long enough: the new one issues", State{Authorities: []Standing{first, second}, Subscriptions: []Subscription{held(Server, "1")}}, second.Since.Add(announceMin),
			"issue b2: authority changed", noon.Add(6 * day), nil},
		{"published and not acknowledged: the old one issues on", State{Authorities: []Standing{first, unheard}, Subscriptions: []Subscription{held(Server, "1")}}, second.Since.Add(announceMin), "",
			noon.Add(6 * day), nil},
		{"never acknowledged: a week is enough", State{Authorities: []Standing{first, unheard}, Subscriptions: []Subscription{held(Server, "1")}}, second.Since.Add(announceMax),
			"issue b2: rotation", second.Since.Add(announceMax + ValidityMax), nil},
		{"all certificates of the old one have ended: it goes", State{Authorities: []Standing{first, second}}, second.Since.Add(announceMin + ValidityMax),
			"retire 1: everything it signed has ended", second.NotAfter.Add(-90 * day), nil},
		{"the old one ended: it goes at once", State{Authorities: []Standing{standing("1", noon, day), second}}, noon.Add(day), "retire 1: everything it signed has ended", second.Since.Add(announceMin), nil},
		{"both at once, in order", State{Authorities: []Standing{rsa}, Subscriptions: []Subscription{{Subscriber: "c", Usage: Server}}}, noon,
			"create: caType changed; issue c1: first", first.NotAfter, func(s *Settings) { s.CloudConfigured = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.state.Settings = settings
			if c.settings != nil {
				c.settings(&c.state.Settings)
			}
			due, next := Plan(c.state, c.now)
			if show(due) != c.due || !next.Equal(c.next) {
				t.Errorf("due %q, next %s\nwant %q, next %s", show(due), next, c.due, c.next)
			}
		})
	}
}

// A certificate cut short by its authority's end is not renewed by the same authority
// over and over.
func TestNoStormAtTheAuthoritysEnd(t *testing.T) {
	s := State{
		Authorities:   []Standing{standing("1", noon, 10*24*time.Hour)},
		Subscriptions: []Subscription{held(Server, "1")},
		Settings:      Settings{Type: TypeECDSAP256, AuthoritiesFrozen: true},
	}
	issued := 0
	for now := noon; now.Before(noon.Add(10 * 24 * time.Hour)); now = now.Add(time.Hour) {
		due, _ := Plan(s, now)
		for _, step := range due {
			if step.Do != IssueCertificate {
				t.Fatalf("due %v", due)
			}
			issued++
			last := &s.Subscriptions[0]
			last.NotBefore, last.NotAfter = now, earliest(now.Add(7*24*time.Hour), s.Authorities[0].NotAfter)
		}
	}
	if issued != 1 {
		t.Errorf("%d certificates in ten days, want one renewal, which lasts to the end", issued)
	}
}

// Driven from one due moment to the next over 12 years, the plan keeps the broker's
// certificate valid at every instant, chained to an authority that is published, and
// does a bounded amount of work (reliability spec C-I1, L5).
func TestPlanKeepsEverythingValid(t *testing.T) {
	for _, acknowledged := range []bool{true, false} {
		s := State{Settings: Settings{Type: TypeECDSAP256}, Subscriptions: []Subscription{{Subscriber: "b", Usage: Server}}}
		created, retired, steps := 0, 0, 0
		for now := noon; now.Before(noon.AddDate(12, 0, 0)); steps++ {
			if steps > 5000 {
				t.Fatal("the plan does not come to rest")
			}
			due, next := Plan(s, now)
			for _, step := range due {
				switch step.Do {
				case CreateAuthority:
					created++
					a := standing(messages.CertificateID(fmt.Sprint(created)), now, AuthorityValidity)
					a.Acknowledged = acknowledged
					s.Authorities = append(slices.Clip(s.Authorities), a)
				case IssueCertificate:
					i := slices.IndexFunc(s.Authorities, func(a Standing) bool { return a.ID == step.Authority })
					last := &s.Subscriptions[0]
					last.Issued, last.Authority, last.NotBefore = true, step.Authority, now
					last.NotAfter = earliest(now.Add(7*24*time.Hour), s.Authorities[i].NotAfter)
				case RetireAuthority:
					retired++
					s.Authorities = slices.DeleteFunc(s.Authorities, func(a Standing) bool { return a.ID == step.Authority })
				}
			}
			if len(due) > 0 {
				continue // look again at once, as the fold of the events makes the host do
			}
			last := s.Subscriptions[0]
			if !next.After(now) || next.After(last.NotAfter) {
				t.Fatalf("at %s the next look is %s and the certificate ends %s", now, next, last.NotAfter)
			}
			if !slices.ContainsFunc(s.Authorities, func(a Standing) bool { return a.ID == last.Authority && !last.NotAfter.After(a.NotAfter) }) {
				t.Fatalf("at %s the certificate's authority %s is not published", now, last.Authority)
			}
			now = next
		}
		if created != 3 || retired != 2 {
			t.Errorf("acknowledged %t: %d authorities made, %d retired in 12 years, want 3 and 2", acknowledged, created, retired)
		}
	}
}
