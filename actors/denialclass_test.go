package actors

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestDenialsHaveTheirClass: each refusal of the deciders, in their own words, is of the
// class it should be, whatever the cloud or an operator said after it.
func TestDenialsHaveTheirClass(t *testing.T) {
	const now = int64(1_700_000_000_000)
	noise := "lapsed, expired, client id, presented no certificate, does not vouch"
	trust := messages.Trust{DurationMs: 60_000}
	held := messages.CertificateTrust{Verified: true, VerifiedMs: now, NotAfterMs: now + 1}
	old := messages.CertificateTrust{Verified: true, VerifiedMs: now - 60_000, NotAfterMs: now + 1}
	at := messages.Instant{TrustMs: now}
	certificate := func(s device.Certificate, verdict messages.CloudVerdict, notAfterMs int64) string {
		c := messages.VerifyCertificate{Certificate: "c", NotBefore: time.UnixMilli(0), NotAfter: time.UnixMilli(notAfterMs)}
		d, err := device.DecideCertificate("c", s, device.Facts{Trust: trust}, messages.Input{At: at, Command: messages.CloudAnswered{Answer: messages.CloudAnswer{Verdict: verdict, Detail: noise}, Then: c}})
		if err != nil {
			t.Fatal(err)
		}
		return d.Reply.(messages.Verified).Reason
	}
	session := func(s device.Device, cert messages.CertificateTrust, up bool) string {
		open := messages.OpenSession{Thing: "a", Certificate: "c"}
		in := messages.Input{At: at, Command: open}
		if up {
			in.Command = messages.CloudAnswered{Answer: messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: noise}, Then: open}
		}
		d, err := device.DecideDevice("a", s, device.Facts{Trust: trust, Certificate: cert}, in)
		if err != nil {
			t.Fatal(err)
		}
		return d.Reply.(*messages.Refusal).Reason
	}
	_, unreadable := readCertificate([]byte("no certificate"))
	attached := func(ms int64) device.Device {
		return device.Device{Attachments: []device.Attachment{{Certificate: "c", ConfirmedMs: ms}}}
	}
	_, name := (&Access{}).clientID("no name")
	seen := map[messages.DenialClass]bool{messages.DeniedByPolicy: true, messages.DeniedOther: true, messages.DeniedNoCertificate: true, messages.DeniedCredentials: true}
	for _, c := range []struct {
		reason string
		want   messages.DenialClass
	}{
		{certificate(device.Certificate{}, messages.CloudDenied, now), messages.DeniedRefused},
		{certificate(device.Certificate{}, messages.CloudSilent, now), messages.DeniedUnknown},
		{certificate(device.Certificate{Trust: old}, messages.CloudSilent, now), messages.DeniedLapsed},
		{certificate(device.Certificate{}, messages.CloudConfirmed, now-1), messages.DeniedNotValid},
		{session(device.Device{Quarantined: noise}, held, false), messages.DeniedQuarantined},
		{session(attached(now), messages.CertificateTrust{}, false), messages.DeniedUnknown},
		{session(attached(now), old, false), messages.DeniedLapsed},
		{session(attached(now-60_000), held, false), messages.DeniedLapsed},
		{session(device.Device{}, held, false), messages.DeniedNotAttached},
		{session(attached(now), held, true), messages.DeniedNotAttached},
		{unreadable.Error(), messages.DeniedUnreadable},
		{name.Error(), messages.DeniedClientID},
		{"the device is being registered: " + noise, messages.DeniedPending},
		{"registration is denied: " + noise, messages.DeniedRegistration},
	} {
		seen[c.want] = true
		if got := messages.ClassOfDenial("authenticate", c.reason); got != c.want {
			t.Errorf("%q is %s, want %s", c.reason, got, c.want)
		}
	}
	for _, class := range messages.DenialClasses() {
		if !seen[class] {
			t.Errorf("class %s is not tried", class)
		}
	}
	for reason, want := range map[string]messages.DenialClass{"the client presented no certificate": messages.DeniedNoCertificate, "something else": messages.DeniedOther} {
		if got := messages.ClassOfDenial("authenticate", reason); got != want {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
	if got := messages.ClassOfDenial(messages.OperationCredentials, noise); got != messages.DeniedCredentials {
		t.Errorf("credentials: %s", got)
	}
	if got := messages.ClassOfDenial("mqtt:publish", noise); got != messages.DeniedByPolicy {
		t.Errorf("a publish was denied by %s", got)
	}
}
