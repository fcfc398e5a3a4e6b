package daemon

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
)

// When people are warned. Trust time, but for uploads.
const (
	customEndsBefore  = 30 * 24 * time.Hour // its successor is made by hand
	managedEndsBefore = 85 * 24 * time.Hour // it should have had one for five days
	undeliveredAfter  = 2 * time.Minute     // it is offered each minute
	overdueAfter      = 2 * time.Minute     // there is a look each minute
	unpublishedAfter  = time.Minute         // it is in the making
	endedShown        = 24 * time.Hour
	warningsMax       = 20 // about certificates
)

// warnings says what is wrong, or will be, and what to do about it.
func warnings(s actors.AuthorityStatus, upload *UploadReport, now time.Time) []string {
	var list []string
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if s.Refused != "" {
		warn("the authority that is configured cannot be used, and what was in force stays in force: %s", s.Refused)
	}
	if len(s.Failing) > 0 {
		warn("what is due for certificates fails since %s and is tried again: %.300s", stamp(s.Since), s.Failing[0])
	}
	if len(s.LeftOut) > 0 {
		warn("%d of the core's addresses are not in its certificates: %.300s", len(s.LeftOut), s.LeftOut[0])
	}
	list = append(list, authorityWarnings(s, now)...)
	list = append(list, uploadWarnings(s, upload)...)
	certificates := certificateWarnings(s, now)
	if more := len(certificates) - warningsMax; more > 0 {
		certificates = append(certificates[:warningsMax], fmt.Sprintf("and %d more about certificates: see `gatehouse cert list`", more))
	}
	return append(list, certificates...)
}

func authorityWarnings(s actors.AuthorityStatus, now time.Time) (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	issues := false
	for i, a := range s.Authorities {
		issues = issues || a.Issues
		newest := i == len(s.Authorities)-1
		if a.KeyMissing && (newest || a.Issues) {
			warn("the key of authority %.12s… is not at hand, so it cannot issue: bring it back to the key store, or to where privateKeyUri says", a.ID)
		}
		if !a.Published && now.Sub(a.Since) > unpublishedAfter {
			warn("authority %.12s… is not in ca.pem, so devices do not know it, and it does not issue", a.ID)
		}
		left := a.NotAfter.Sub(now)
		switch {
		case !newest:
		case left <= 0:
			warn("authority %.12s… has ended at %s: devices refuse what it signed", a.ID, stamp(a.NotAfter))
		case a.Custom && left < customEndsBefore:
			warn("authority %.12s… ends at %s, in %s: put its successor where certificateUri and privateKeyUri say", a.ID, stamp(a.NotAfter), days(left))
		case !a.Custom && left < managedEndsBefore:
			warn("authority %.12s… ends at %s, in %s, and has no successor: it is made as soon as the time is known", a.ID, stamp(a.NotAfter), days(left))
		}
	}
	if len(s.Authorities) > 0 && !issues {
		warn("no authority can issue certificates: what is in use ends as it stands")
	}
	for _, c := range s.Coming {
		i := len(s.Authorities) - 1
		if c.What == ca.TurnIssues && s.Authorities[i].ID == c.Authority && !s.Authorities[i].Announced {
			warn("authority %.12s… issues from %s on: devices need the new ca.pem before; when they have it, say so with `gatehouse ca announced`", c.Authority, stamp(c.At))
		}
	}
	return list
}

func uploadWarnings(s actors.AuthorityStatus, u *UploadReport) (list []string) {
	missing := 0
	for _, a := range s.Authorities {
		if !a.Uploaded {
			missing++
		}
	}
	switch {
	case u == nil || missing == 0: // what the cloud has is sent again at each start
	case u.Since != nil:
		list = append(list, fmt.Sprintf("the cloud does not take the authorities since %s (%d tries failed), so that devices cannot discover them there: %s", stamp(*u.Since), u.Failed, u.Error))
	case u.Waiting:
		list = append(list, fmt.Sprintf("%d of %d authorities are not known to the cloud yet: it cannot be reached", missing, len(s.Authorities)))
	}
	return list
}

func certificateWarnings(s actors.AuthorityStatus, now time.Time) (list []string) {
	for _, c := range s.Certificates {
		if text := certificateWarning(c, s.RotationOff, now); text != "" {
			list = append(list, text)
		}
	}
	return list
}

// certificateWarning is "" if c is as it should be.
func certificateWarning(c actors.CertificateInfo, rotationOff bool, now time.Time) string {
	ended, near := !now.Before(c.NotAfter), !now.Before(ca.RenewAt(c.NotBefore, c.NotAfter))
	who := fmt.Sprintf("the certificate of %s (%s)", c.Subscriber, c.Usage)
	switch {
	case c.Withdrawn:
		return ""
	case !c.Subscribed && c.Usage != ca.Client.String(), !c.Subscribed && ended && now.Sub(c.NotAfter) > endedShown:
		return "" // who serves and is away gets a new one when it comes
	case !c.Subscribed && near:
		return fmt.Sprintf("%s ends at %s, and nobody subscribes to the next: issue it with `gatehouse cert issue %s --csr FILE` if it is still used", who, stamp(c.NotAfter), c.Subscriber)
	case !c.Subscribed:
		return ""
	case ended:
		return fmt.Sprintf("%s has ended at %s: `gatehouse ca rotate %s` issues another", who, stamp(c.NotAfter), c.Subscriber)
	case rotationOff && near:
		return fmt.Sprintf("%s ends at %s, and rotation is off (certificates.disableCertificateRotation): `gatehouse ca rotate %s` issues another", who, stamp(c.NotAfter), c.Subscriber)
	case !c.Rotation.IsZero() && now.Sub(renewal(c)) > overdueAfter && !c.Rotation.After(now):
		return fmt.Sprintf("%s was to be renewed at %s and was not; it ends at %s", who, stamp(renewal(c)), stamp(c.NotAfter))
	case !c.Delivered && !c.IssuedAt.IsZero() && now.Sub(c.IssuedAt) > undeliveredAfter:
		return fmt.Sprintf("%s is not delivered since %s: is its holder connected?", who, stamp(c.IssuedAt))
	}
	return ""
}

// renewal is when c was to be renewed at the latest.
func renewal(c actors.CertificateInfo) time.Time { return ca.RenewAt(c.NotBefore, c.NotAfter) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
