package daemon

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fine is a state without anything to warn of.
func fine() actors.AuthorityStatus {
	return actors.AuthorityStatus{
		Authorities: []actors.AuthorityInfo{{ID: "aaaaaaaaaaaaaaaa", Issues: true, Published: true, Uploaded: true, Announced: true,
			NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(1000 * 24 * time.Hour)}},
		Certificates: []actors.CertificateInfo{{Subscriber: "b1", Usage: "SERVER", Subscribed: true, Delivered: true, IssuedAt: noon.Add(-time.Hour),
			NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(7 * 24 * time.Hour), Rotation: noon.Add(6 * 24 * time.Hour)}},
	}
}

// TestWarnings: one for each thing that is wrong or will be, with what to do; none while
// all is well.
func TestWarnings(t *testing.T) {
	since := noon.Add(-time.Hour)
	for _, c := range []struct {
		name   string
		change func(*actors.AuthorityStatus, *UploadReport)
		want   string // "": nothing to warn of
	}{
		{"all is well", func(*actors.AuthorityStatus, *UploadReport) {}, ""},
		{"a custom one that cannot be used", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Refused = "the key is not that of the certificate" }, "what was in force stays in force: the key is not"},
		{"a pass fails", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Failing, s.Since = []string{"disk full"}, since }, "fails since 2026-11-21 11:00:00Z and is tried again: disk full"},
		{"a custom one ends", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Authorities[0].Custom, s.Authorities[0].NotAfter = true, noon.Add(20*24*time.Hour)
		}, "in 20 days: put its successor"},
		{"a custom one that lasts", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Authorities[0].Custom, s.Authorities[0].NotAfter = true, noon.Add(31*24*time.Hour)
		}, ""},
		{"a managed one that is about to be renewed", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Authorities[0].NotAfter = noon.Add(89 * 24 * time.Hour)
		}, ""},
		{"a managed one that was not renewed", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Authorities[0].NotAfter = noon.Add(80 * 24 * time.Hour)
		}, "has no successor"},
		{"it has ended", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Authorities[0].NotAfter = noon }, "has ended"},
		{"nobody issues", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Authorities[0].Issues = false }, "no authority can issue"},
		{"its key is gone", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Authorities[0].KeyMissing = true }, "bring it back to the key store"},
		{"it is not published", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Authorities[0].Published = false }, "not in ca.pem"},
		{"a successor nobody has", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Authorities = append(s.Authorities, s.Authorities[0])
			s.Authorities[1].ID, s.Authorities[1].Announced, s.Authorities[1].Issues = "bbbbbbbbbbbbbbbb", false, false
			s.Coming = []ca.Coming{{At: noon.Add(time.Hour), What: ca.TurnIssues, Authority: "bbbbbbbbbbbbbbbb"}}
		}, "say so with `gatehouse ca announced`"},
		{"addresses that no certificate holds", func(s *actors.AuthorityStatus, _ *UploadReport) { s.LeftOut = []string{"a b: not a name"} }, "1 of the core's addresses"},
		{"the cloud refuses what it has", func(_ *actors.AuthorityStatus, u *UploadReport) { u.Since, u.Failed, u.Error = &since, 7, "403" }, ""},
		{"the cloud refuses", func(s *actors.AuthorityStatus, u *UploadReport) {
			u.Since, u.Failed, u.Error, s.Authorities[0].Uploaded = &since, 7, "403", false
		}, "since 2026-11-21 11:00:00Z (7 tries failed)"},
		{"the cloud is away and knows it", func(_ *actors.AuthorityStatus, u *UploadReport) { u.Waiting = true }, ""},
		{"the cloud is away and does not know it", func(s *actors.AuthorityStatus, u *UploadReport) { u.Waiting, s.Authorities[0].Uploaded = true, false }, "1 of 1 authorities are not known to the cloud"},
		{"undelivered", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Certificates[0].Delivered = false }, "is not delivered since 2026-11-21 11:00:00Z"},
		{"undelivered for a moment", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].Delivered, s.Certificates[0].IssuedAt = false, noon.Add(-time.Minute)
		}, ""},
		{"undelivered to who is away", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].Delivered, s.Certificates[0].Subscribed = false, false
		}, ""},
		{"overdue", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].NotAfter, s.Certificates[0].NotBefore, s.Certificates[0].Rotation = noon.Add(20*time.Hour), noon.Add(-6*24*time.Hour), noon
		}, "was to be renewed at 2026-11-21 08:00:00Z and was not"},
		{"as long as its authority", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].NotAfter, s.Certificates[0].NotBefore, s.Certificates[0].Rotation = noon.Add(20*time.Hour), noon.Add(-6*24*time.Hour), noon.Add(20*time.Hour)
		}, ""},
		{"ended", func(s *actors.AuthorityStatus, _ *UploadReport) { s.Certificates[0].NotAfter = noon }, "has ended at"},
		{"rotation is off", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.RotationOff, s.Certificates[0].NotAfter, s.Certificates[0].NotBefore, s.Certificates[0].Rotation = true, noon.Add(20*time.Hour), noon.Add(-6*24*time.Hour), time.Time{}
		}, "disableCertificateRotation"},
		{"a component's that ends", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].Subscribed, s.Certificates[0].Usage, s.Certificates[0].NotAfter, s.Certificates[0].NotBefore = false, "CLIENT", noon.Add(20*time.Hour), noon.Add(-6*24*time.Hour)
		}, "gatehouse cert issue b1 --csr FILE"},
		{"a component's that ended long ago", func(s *actors.AuthorityStatus, _ *UploadReport) {
			s.Certificates[0].Subscribed, s.Certificates[0].Usage, s.Certificates[0].NotAfter = false, "CLIENT", noon.Add(-25*time.Hour)
		}, ""},
	} {
		s, u := fine(), &UploadReport{}
		c.change(&s, u)
		got := warnings(s, u, noon)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want one with %q", c.name, got, c.want)
		}
	}
	s := fine()
	for range 1000 {
		one := s.Certificates[0]
		one.Delivered = false
		s.Certificates = append(s.Certificates, one)
	}
	if got := warnings(s, nil, noon); len(got) != warningsMax+1 || !strings.Contains(got[warningsMax], "980 more") {
		t.Errorf("%d warnings, the last %q", len(got), got[len(got)-1])
	}
}

// TestPagesFitAMessage: however many certificates there are, however long their names, all
// are listed, and the report fits as well.
func TestPagesFitAMessage(t *testing.T) {
	s := actors.AuthorityStatus{}
	for i := range 1024 {
		one := actors.CertificateInfo{Subscriber: fmt.Sprintf("b%d", i), Usage: "SERVER", Serial: strings.Repeat("a", 40), Reason: strings.Repeat("r", 500), Subscribed: true}
		for range rand.IntN(32) {
			one.Names = append(one.Names, strings.Repeat("n", rand.IntN(253)))
		}
		s.Certificates = append(s.Certificates, one)
	}
	for range 1024 {
		s.Addresses = append(s.Addresses, strings.Repeat("a", 500))
		s.LeftOut = append(s.LeftOut, strings.Repeat("l", 500))
		s.Failing = append(s.Failing, strings.Repeat("f", 500))
	}
	for range 8 {
		s.Authorities = append(s.Authorities, actors.AuthorityInfo{ID: messages.CertificateID(strings.Repeat("c", 64)), Subject: strings.Repeat("s", 16<<10), Root: strings.Repeat("t", 16<<10)})
	}
	fits := func(v any) {
		t.Helper()
		if doc, err := json.Marshal(v); err != nil || len(doc) > authapi.MaxMessageBytes {
			t.Errorf("%T: %d bytes, %v", v, len(doc), err)
		}
	}
	fits(reportAuthority(s, noon, nil))
	n, pages := 0, 0
	for q := (CertificatesRequest{}); ; pages++ {
		page, err := listCertificates(s, noon, nil, q)
		must(t, err)
		fits(page)
		for _, one := range page.Certificates {
			if one.Subscriber != fmt.Sprintf("b%d", n) {
				t.Fatalf("line %d is %s", n, one.Subscriber)
			}
			n++
		}
		if q.After = page.Next; q.After == 0 {
			break
		}
	}
	if n != 1024 || pages < 10 {
		t.Errorf("%d certificates on %d pages", n, pages)
	}
	for _, after := range []int{-1, 1024, 1 << 40} {
		if page, err := listCertificates(s, noon, nil, CertificatesRequest{After: after}); err != nil || page.Next != 0 && after > 0 {
			t.Errorf("after %d: %+v, %v", after, page, err)
		}
	}
}

// TestOrdersAreChecked: the daemon judges what comes by NATS itself, whatever the command
// line let pass; and a bundle comes in whole certificates.
func TestOrdersAreChecked(t *testing.T) {
	c := newCore(t, "")
	for name, q := range map[string]IssueRequest{
		"no name": {}, "a name that is none": {Name: "a/b", CSR: "x"}, "no request": {Name: "a"}, "for ever": {Name: "a", ValidityMs: 1 << 60}, "backwards": {Name: "a", ValidityMs: -1},
		"two lines": {Name: "a", Reason: "a\nb"}, "not text": {Name: "a", Reason: "\xff"}, "long": {Name: "a", Reason: strings.Repeat("x", 201)},
	} {
		if issued, err := c.issueComponent(t.Context(), q); err == nil || !strings.HasPrefix(err.Error(), "InvalidArguments") {
			t.Errorf("%s: %+v, %v", name, issued, err)
		}
	}
	if r, err := c.rotate(t.Context(), RotateRequest{Names: []string{strings.Repeat("x", 1<<16)}}); err == nil || len(err.Error()) > 500 {
		t.Errorf("%+v, %.600v", r, err)
	}
	bundle, err := c.bundle(t.Context(), BundleRequest{})
	must(t, err)
	if block, rest := pem.Decode([]byte(bundle.PEM)); block == nil || len(rest) > 0 || bundle.Next != 0 {
		t.Errorf("bundle %+v", bundle)
	}
	if past, err := c.bundle(t.Context(), BundleRequest{After: 7}); err != nil || past.PEM != "" || past.Edition != bundle.Edition {
		t.Errorf("past the end: %+v, %v", past, err)
	}
	report, err := c.authorityReport(t.Context(), struct{}{})
	must(t, err)
	if len(report.Warnings) > 0 || report.Upload != nil || len(report.Authorities) != 1 {
		t.Errorf("a new core: %+v", report)
	}
}

// TestRevokeComponent: a certificate that an operator issued is taken back like one that a
// broker asked for; issued anew, the new one alone counts. A broker loses the right to ask.
func TestRevokeComponent(t *testing.T) {
	c := newCore(t, "")
	_, err := c.brokerAdd(t.Context(), BrokerRequest{Name: "b", Certificates: &[]string{"CLIENT", "SERVER"}})
	must(t, err)
	b := c.broker("b")
	issue := func(name string) (string, error) {
		issued, err := c.issueComponent(t.Context(), IssueRequest{Name: name, CSR: b.csr})
		return issued.Certificate, err
	}
	component := func(pem string) bool {
		t.Helper()
		body, err := json.Marshal(authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: pem}})
		must(t, err)
		m, err := b.nc.Request(authapi.Subject("b", authapi.OpVerify), body, 20*time.Second)
		must(t, err)
		a, err := authapi.ParseVerifyReply(m.Data)
		must(t, err)
		return a.IsValidClientDevice
	}
	first, err := issue("bridge")
	must(t, err)
	if !component(first) {
		t.Fatal("it is no component")
	}
	if r, err := c.revokeComponent(t.Context(), RevokeRequest{Name: "bridge", Reason: "it leaked"}); err != nil || r != (Revoked{Name: "bridge", Certificates: 1}) {
		t.Errorf("%+v, %v", r, err)
	}
	if component(first) {
		t.Error("it is still a component")
	}
	for _, name := range []string{"bridge", "nobody", "two words", ""} {
		if r, err := c.revokeComponent(t.Context(), RevokeRequest{Name: name}); err == nil {
			t.Errorf("%q: %+v", name, r)
		}
	}
	second, err := issue("bridge")
	must(t, err)
	if !component(second) || component(first) {
		t.Error("issued anew: want the new one to count alone")
	}

	if got := b.ask(authapi.CertificateClient); got != "ok" {
		t.Fatal(got)
	}
	former := b.got
	if r, err := c.revokeComponent(t.Context(), RevokeRequest{Name: "b"}); err != nil || r != (Revoked{Name: "b", Certificates: 1, Broker: true}) {
		t.Errorf("%+v, %v", r, err)
	}
	if component(former) || c.mayHave("b", authapi.CertificateClient) || !c.mayHave("b", authapi.CertificateServer) {
		t.Error("the broker is a component, or has lost something else")
	}
	if _, err := issue("b"); err == nil || !strings.Contains(err.Error(), "broker add b --certificates client") {
		t.Errorf("a certificate that counts for nothing: %v", err)
	}
	c.Close()
	must(t, c.start())
	_, err = c.brokerAdd(t.Context(), BrokerRequest{Name: "b", Certificates: &[]string{"CLIENT", "SERVER"}})
	must(t, err)
	csr := b.csr
	b = c.broker("b")
	b.csr = csr // the same key
	if component(former) || component(first) || !component(second) {
		t.Error("after a restart, and with the right given back")
	}
	if got := b.ask(authapi.CertificateClient); got != "ok" || b.got == former || !component(b.got) {
		t.Errorf("asked again: %s, the same: %t", got, b.got == former)
	}
}
