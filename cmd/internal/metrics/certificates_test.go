package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
)

// someCertificates is a state in which everything has a value of its own.
func someCertificates() *Certificates {
	c := CertificatesOf(actors.AuthorityStatus{
		Authorities: []actors.AuthorityInfo{{NotAfter: now.Add(100 * time.Second), Issues: true}, {NotAfter: now.Add(200 * time.Second)}},
		Certificates: []actors.CertificateInfo{
			{Subscriber: "a", Usage: "SERVER", Subscribed: true, NotAfter: now.Add(60 * time.Second)},
			{Subscriber: "b", Usage: "SERVER", Subscribed: true, Delivered: true, NotAfter: now.Add(50 * time.Second)},
			{Subscriber: "c", Usage: "CLIENT", Subscribed: true, Delivered: true, NotAfter: now.Add(-5 * time.Second)},
			{Subscriber: "d", Usage: "CLIENT_AND_SERVER", Subscribed: true, NotAfter: now.Add(70 * time.Second)},
			{Subscriber: "gone", Usage: "SERVER", NotAfter: now.Add(-time.Hour)},
		},
		Issued: map[string]uint64{"first": 3, "addresses changed": 4, "operator": 5}, Since: now.Add(-9 * time.Second),
	}, now)
	c.UploadsFailed, c.UploadFailingSeconds, c.Warnings = 6, 7, 8
	return c
}

// TestCertificateMetrics: what ends when, by closed lists of labels; who does not subscribe
// any more does not count.
func TestCertificateMetrics(t *testing.T) {
	c := someCertificates()
	if c.Soonest["SERVER"] != (Soonest{"b", 50}) || c.Undelivered != 2 {
		t.Errorf("%+v", c)
	}
	got := scrape(t, Snapshot{Now: now, TrustAt: now, Certificates: c})
	for line := range strings.SplitSeq(`gatehouse_authority_end_in_seconds{authority="issuing"} 100
gatehouse_authority_end_in_seconds{authority="newest"} 200
gatehouse_certificate_end_in_seconds{usage="server"} 50
gatehouse_certificate_end_in_seconds{usage="client"} -5
gatehouse_certificate_end_in_seconds{usage="client_and_server"} 70
gatehouse_certificate_subscribers{usage="server"} 2
gatehouse_certificates_issued_total{reason="first"} 3
gatehouse_certificates_issued_total{reason="rotation"} 0
gatehouse_certificates_issued_total{reason="authority_changed"} 0
gatehouse_certificates_issued_total{reason="addresses_changed"} 4
gatehouse_certificates_issued_total{reason="operator"} 5
gatehouse_certificates_undelivered 2
gatehouse_certificate_steps_failing_seconds 9
gatehouse_authority_uploads_failed_total 6
gatehouse_authority_upload_failing_seconds 7
gatehouse_certificate_warnings 8`, "\n") {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	none := scrape(t, Snapshot{Now: now, TrustAt: now, Certificates: CertificatesOf(actors.AuthorityStatus{}, now)})
	for _, absent := range []string{"authority_end_in", "certificate_end_in"} {
		if strings.Contains(none, "\ngatehouse_"+absent) {
			t.Errorf("%s is exported though there is none", absent)
		}
	}
}
