package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
)

// Certificates is the state of the authorities and of what they have issued.
type Certificates struct {
	// AuthoritySeconds is how long authorities last: "issuing", and "newest", which follows.
	AuthoritySeconds map[string]float64 `json:"authoritySeconds"`
	// Soonest is, by usage, the certificate of a subscriber that ends next.
	Soonest map[string]Soonest `json:"soonest"`
	// Subscribers counts, by usage, who holds a certificate and subscribes to the next.
	Subscribers map[string]int `json:"subscribers"`
	Undelivered int            `json:"undelivered"` // of theirs
	// Issued counts certificates since the start, by ca.ReasonClass.
	Issued map[string]uint64 `json:"issued"`
	// FailingSeconds is for how long what is due has failed; 0: it does not.
	FailingSeconds float64 `json:"failingSeconds"`
	// UploadsFailed counts the tries to tell the cloud of the authorities that failed, and
	// UploadFailingSeconds is for how long they have; 0: they do not.
	UploadsFailed        uint64  `json:"uploadsFailed"`
	UploadFailingSeconds float64 `json:"uploadFailingSeconds"`
	Warnings             int     `json:"warnings"` // that `gatehouse status` shows
}

// Soonest is the certificate that ends next.
type Soonest struct {
	Subscriber string  `json:"subscriber"`
	Seconds    float64 `json:"seconds"`
}

// usages are the values of the label usage.
var usages = []string{ca.Server.String(), ca.Client.String(), ca.ClientAndServer.String()}

// CertificatesOf makes the state of what there is at now, trust time. Uploads and Warnings
// are the caller's.
func CertificatesOf(s actors.AuthorityStatus, now time.Time) *Certificates {
	c := &Certificates{AuthoritySeconds: map[string]float64{}, Soonest: map[string]Soonest{}, Subscribers: map[string]int{}, Issued: s.Issued}
	for i, a := range s.Authorities {
		left := a.NotAfter.Sub(now).Seconds()
		if a.Issues {
			c.AuthoritySeconds["issuing"] = left
		}
		if i == len(s.Authorities)-1 {
			c.AuthoritySeconds["newest"] = left
		}
	}
	for _, one := range s.Certificates {
		if !one.Subscribed {
			continue
		}
		c.Subscribers[one.Usage]++
		if !one.Delivered {
			c.Undelivered++
		}
		left := one.NotAfter.Sub(now).Seconds()
		if former, ok := c.Soonest[one.Usage]; !ok || left < former.Seconds {
			c.Soonest[one.Usage] = Soonest{one.Subscriber, left}
		}
	}
	if !s.Since.IsZero() {
		c.FailingSeconds = max(0, now.Sub(s.Since).Seconds())
	}
	return c
}

func (e exporter) certificates(c *Certificates) {
	if c == nil {
		return
	}
	for _, which := range []string{"issuing", "newest"} {
		if left, ok := c.AuthoritySeconds[which]; ok {
			e.gauge(authorityEnd, left, which)
		}
	}
	for _, usage := range usages {
		label := strings.ToLower(usage)
		e.gauge(certificateHolders, float64(c.Subscribers[usage]), label)
		if soonest, ok := c.Soonest[usage]; ok {
			e.gauge(certificateSoonest, soonest.Seconds, label)
		}
	}
	for _, reason := range append(ca.Reasons(), ca.ReasonClass("")) {
		e.counter(certificatesIssued, float64(c.Issued[reason]), strings.ReplaceAll(reason, " ", "_"))
	}
	for d, v := range map[*prometheus.Desc]float64{
		undelivered: float64(c.Undelivered), stepsFailing: c.FailingSeconds, uploadFailing: c.UploadFailingSeconds, certificateWarnings: float64(c.Warnings),
	} {
		e.gauge(d, v)
	}
	e.counter(uploadsFailed, float64(c.UploadsFailed))
}

var (
	authorityEnd        = describe("authority_end_in_seconds", "Time until the authority ends: the one that issues, and the newest, which issues next.", "authority")
	certificateSoonest  = describe("certificate_end_in_seconds", "Time until the certificate ends that ends next, of subscribers, by usage; gatehouse cert list says whose it is.", "usage")
	certificateHolders  = describe("certificate_subscribers", "Who holds a certificate of the core's authority and subscribes to the next.", "usage")
	certificatesIssued  = describe("certificates_issued_total", "Certificates issued, by reason.", "reason")
	undelivered         = describe("certificates_undelivered", "Subscribers that have not said that they have their certificate.")
	stepsFailing        = describe("certificate_steps_failing_seconds", "For how long what is due for certificates fails; 0: it does not.")
	uploadsFailed       = describe("authority_uploads_failed_total", "Tries to tell the cloud of the authorities that failed.")
	uploadFailing       = describe("authority_upload_failing_seconds", "For how long the cloud does not take the authorities; 0: it does, or is not asked.")
	certificateWarnings = describe("certificate_warnings", "Warnings about authorities and certificates; gatehouse status shows them.")
)
