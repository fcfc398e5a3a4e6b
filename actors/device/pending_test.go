package device

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const certCA = messages.CertificateID("ca")

func admitBy(id messages.CertificateID, room bool) messages.AdmitPending {
	return messages.AdmitPending{
		Thing: pump, Certificate: id, DER: der, Subject: "CN=pump-7", Authority: certCA, Rule: "fleet", Broker: broker,
		NotBeforeMs: notBefore.UnixMilli(), NotAfterMs: notAfter.UnixMilli(), Room: room,
	}
}

var (
	admitA   = admitBy(certA, true)
	confirmA = messages.ConfirmPending{Thing: pump, Certificate: certA}
	accepted = messages.SettleRegistration{Thing: pump, Certificate: certA, Authority: certCA, Accepted: true, Source: messages.Source_SOURCE_CLOUD, Rule: "fleet"}
	denied   = messages.SettleRegistration{Thing: pump, Certificate: certA, Authority: certCA, Source: messages.Source_SOURCE_CLOUD, Reason: "revoked"}
)

func pendingBy(ms int64, id messages.CertificateID) fact {
	return fact{ms, &messages.DevicePending{CertificateId: string(id), Der: der, AuthorityId: string(certCA), Rule: "fleet",
		NotBeforeMs: notBefore.UnixMilli(), NotAfterMs: notAfter.UnixMilli()}}
}

func pendingOpened(ms int64, n byte) fact {
	d := session(n)
	return fact{ms, &messages.PendingSessionOpened{Session: d[:], CertificateId: string(certA), Broker: string(broker)}}
}

func unpended(ms int64) fact {
	return fact{ms, &messages.PendingWithdrawn{CertificateId: string(certA)}}
}

func outcome(ms int64, o messages.RegistrationOutcome) fact {
	return fact{ms, &messages.DeviceRegistered{CertificateId: string(certA), Outcome: o}}
}

// lets are the facts of a core that cannot ask the cloud, whose policy lets pending devices
// connect.
func lets() Facts {
	f := offline()
	f.ConnectAllowed = true
	return f
}

func TestAdmitting(t *testing.T) {
	change := func(edit func(*Facts)) Facts {
		f := lets()
		edit(&f)
		return f
	}
	long := admitA
	long.NotBeforeMs = t0 + 10
	for _, c := range []struct {
		name  string
		given []fact
		facts Facts
		ms    int64
		when  messages.AdmitPending
		want  string
	}{
		{"nobody knows it", nil, lets(), 5, admitA, lines("DevicePending", "PendingSessionOpened", "session pump-7 SOURCE_LOCAL")},
		{"it comes again", []fact{pendingBy(0, certA)}, lets(), 5, admitBy(certA, false), lines("PendingSessionOpened", "session pump-7 SOURCE_LOCAL")},
		{"the last millisecond", []fact{pendingBy(0, certA)}, lets(), duration - 1, admitA, lines("PendingSessionOpened", "session pump-7 SOURCE_LOCAL")},
		{"its time is up, and is not given anew", []fact{pendingBy(0, certA)}, lets(), duration, admitA, "refused InvalidCredential"},
		{"no room", nil, lets(), 5, admitBy(certA, false), "refused Pending"},
		{"the cloud can be asked", nil, change(func(f *Facts) { f.NetworkUp = true }), 5, admitA, "refused Pending"},
		{"pending, and the cloud can be asked", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.NetworkUp = true }), 5, admitA, "refused Pending"},
		{"the policy has no such group", nil, offline(), 5, admitA, "messages.ConnectDenied"},
		{"quarantined", []fact{quarantined(0), released(1), quarantined(2)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"forgotten", []fact{attached(0), {1, &messages.DeviceForgotten{}}}, lets(), 5, admitA, "refused InvalidCredential"},
		{"forgotten while pending", []fact{pendingBy(0, certA), {1, &messages.DeviceForgotten{}}}, lets(), 5, admitA, "refused InvalidCredential"},
		{"withdrawn", []fact{pendingBy(0, certA), unpended(1)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"its attachment was withdrawn", []fact{attached(0), withdrawn(1)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"denied", []fact{outcome(1, messages.RegistrationOutcome_REGISTRATION_DENIED)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"accepted, and not known yet", []fact{outcome(1, messages.RegistrationOutcome_REGISTRATION_ACCEPTED)}, lets(), 5, admitA,
			lines("DevicePending", "PendingSessionOpened", "session pump-7 SOURCE_LOCAL")},
		{"another certificate is accepted, and not attached yet", []fact{{1, &messages.DeviceRegistered{CertificateId: string(certB), Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED}}}, lets(), 5, admitA,
			"refused InvalidCredential"},
		{"another certificate is denied", []fact{{1, &messages.DeviceRegistered{CertificateId: string(certB), Outcome: messages.RegistrationOutcome_REGISTRATION_DENIED}}}, lets(), 5, admitA,
			"refused InvalidCredential"},
		{"another certificate is denied, meanwhile", []fact{pendingBy(0, certA), {1, &messages.DeviceRegistered{CertificateId: string(certB), Outcome: messages.RegistrationOutcome_REGISTRATION_DENIED}}}, lets(), 5, admitA,
			lines("PendingSessionOpened", "session pump-7 SOURCE_LOCAL")},
		{"another certificate is attached", []fact{{0, &messages.AttachmentVerified{CertificateId: string(certB)}}}, lets(), 5, admitA, "refused InvalidCredential"},
		{"its own is attached", []fact{attached(0)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"another certificate is pending", []fact{pendingBy(0, certB)}, lets(), 5, admitA, "refused InvalidCredential"},
		{"the certificate is known", nil, change(func(f *Facts) { f.CertificateKnown = true }), 5, admitA, "refused InvalidCredential"},
		{"the certificate is known since", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.CertificateKnown = true }), 5, admitA, "refused InvalidCredential"},
		{"the certificate is vouched for", nil, vouched(lets(), 0), 5, admitA, "refused InvalidCredential"},
		{"nobody knows the time", nil, change(func(f *Facts) { f.Trust.Doubted = true }), 5, admitA, "refused InvalidCredential"},
		{"nobody knows the time any more", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.Trust.Doubted = true }), 5, admitA, "refused InvalidCredential"},
		{"nothing counts yet", nil, change(func(f *Facts) { f.Trust.SinceMs = t0 + 6 }), 5, admitA, "refused InvalidCredential"},
		{"nothing from then counts", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.Trust.SinceMs = t0 + 1 }), 5, admitA, "refused InvalidCredential"},
		{"the clock was wrong then", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.Voided = true }), 5, admitA, "refused InvalidCredential"},
		{"not valid yet", nil, lets(), 5, long, "refused InvalidCredential"},
		{"certificate or authority has ended", nil, lets(), 10*duration + 1, admitA, "refused InvalidCredential"},
		{"closeOnRevoke is off, and its time is up", []fact{pendingBy(0, certA)}, change(func(f *Facts) { f.CloseOnRevoke = false }), duration, admitA, "refused InvalidCredential"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(c.ms), Nonce: [32]byte{9}})
			expect(t, d, err, c.want)
			for _, e := range d.Events {
				if p, ok := e.(*messages.DevicePending); ok && (p.AuthorityId != string(certCA) || p.Rule != "fleet" || len(p.Der) == 0 || p.NotAfterMs != notAfter.UnixMilli()) {
					t.Errorf("recorded %v", p)
				}
			}
			if s, ok := d.Reply.(messages.SessionReady); ok && !s.Pending {
				t.Error("a session with all rights")
			}
		})
	}
}

func TestAdmittingBoundsSessions(t *testing.T) {
	given := []fact{pendingBy(0, certA)}
	for n := range byte(sessionsMax) {
		given = append(given, pendingOpened(int64(n), n+1))
	}
	d, err := DecideDevice(pump, deviceOf(given...), lets(), messages.Input{Command: admitA, At: at(100), Nonce: [32]byte{99}})
	oldest := session(1)
	expect(t, d, err, lines(fmt.Sprintf("SessionClosed %.6x CLOSE_EVICTED", oldest[:]), "PendingSessionOpened", "session pump-7 SOURCE_LOCAL"))
}

func TestSettling(t *testing.T) {
	closes := func(n byte, why string) string {
		d := session(n)
		return fmt.Sprintf("SessionClosed %.6x CLOSE_%s", d[:], why)
	}
	given := []fact{pendingBy(0, certA), pendingOpened(1, 1), pendingOpened(2, 2)}
	with := func(more ...fact) []fact { return append(append([]fact{}, given...), more...) }
	up := vouched(online(), 3)
	up.ConnectAllowed = true
	other := confirmA
	other.Certificate = certB
	for _, c := range []struct {
		name  string
		given []fact
		facts Facts
		when  messages.Command
		want  string
	}{
		{"accepted: pending until the cloud's own word", given, online(), accepted, lines("DeviceRegistered", "messages.Done")},
		{"accepted again", with(outcome(3, messages.RegistrationOutcome_REGISTRATION_ACCEPTED)), online(), accepted, "messages.Done"},
		{"denied", given, online(), denied, lines("DeviceRegistered", "PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "messages.Done")},
		{"denied after it was accepted", with(outcome(3, messages.RegistrationOutcome_REGISTRATION_ACCEPTED)), online(), denied,
			lines("DeviceRegistered", "PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "messages.Done")},
		{"denied again", []fact{outcome(3, messages.RegistrationOutcome_REGISTRATION_DENIED)}, online(), denied, "messages.Done"},
		{"denied by another certificate", []fact{pendingBy(0, certB)}, online(), denied, lines("DeviceRegistered", "messages.Done")},
		{"denied, and another certificate is registered", []fact{{3, &messages.DeviceRegistered{CertificateId: string(certB), Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED}}}, online(), denied, "messages.Done"},
		{"accepted, and another certificate was", []fact{{3, &messages.DeviceRegistered{CertificateId: string(certB), Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED}}}, online(), accepted, lines("DeviceRegistered", "messages.Done")},
		{"accepted, another certificate", []fact{pendingBy(0, certB)}, online(), accepted, lines("DeviceRegistered", "PendingWithdrawn", "messages.Done")},
		{"nobody's registration", nil, online(), accepted, lines("DeviceRegistered", "messages.Done")},
		{"withdrawn", given, online(), messages.WithdrawPending{Thing: pump, Certificate: certA, Reason: "off"},
			lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "messages.Done")},
		{"another is withdrawn", given, online(), messages.WithdrawPending{Thing: pump, Certificate: certB}, "messages.Done"},
		{"withdrawn again", nil, online(), messages.WithdrawPending{Thing: pump, Certificate: certA}, "messages.Done"},

		{"asked when the certificate is vouched for", given, up, confirmA, lines(`ask `+string(certA[:6])+` "pump-7" der=false then messages.ConfirmPending`, "no reply yet")},
		{"not asked before", given, online(), confirmA, "not asked"},
		{"not asked about another", given, up, other, "not asked"},
		{"yes", given, up, answered(messages.CloudConfirmed, 4, confirmA),
			lines("AttachmentVerified", "DeviceRegistered", closes(1, "REGISTERED"), closes(2, "REGISTERED"), "the cloud: confirmed")},
		{"yes after it was accepted", with(outcome(3, messages.RegistrationOutcome_REGISTRATION_ACCEPTED)), up, answered(messages.CloudConfirmed, 4, confirmA),
			lines("AttachmentVerified", closes(1, "REGISTERED"), closes(2, "REGISTERED"), "the cloud: confirmed")},
		{"yes, and trust in the certificate was taken back", given, online(), answered(messages.CloudConfirmed, 4, confirmA), "the cloud: confirmed"},
		{"no", given, up, answered(messages.CloudDenied, 4, confirmA), lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "the cloud: denied")},
		{"no, whatever else bars it", given, online(), answered(messages.CloudDenied, 4, confirmA),
			lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "the cloud: denied")},
		{"silence", given, up, answered(messages.CloudSilent, 4, confirmA), "the cloud: silent"},
		{"yes, too late", with(unpended(3)), up, answered(messages.CloudConfirmed, 4, confirmA), "not asked"},
		{"it connects by itself", given, up, answered(messages.CloudConfirmed, 4, connectA),
			lines("AttachmentVerified", "DeviceRegistered", closes(1, "REGISTERED"), closes(2, "REGISTERED"), "SessionOpened", "session pump-7 SOURCE_CLOUD")},
		{"it connects, and the cloud says no", given, up, answered(messages.CloudDenied, 4, connectA),
			lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "refused InvalidCredential")},
		{"another certificate of the thing connects, and the cloud says no", []fact{pendingBy(0, certB)}, up, answered(messages.CloudDenied, 4, connectA), "refused InvalidCredential"},
		{"another certificate of the thing connects", []fact{pendingBy(0, certB)}, up, answered(messages.CloudConfirmed, 4, connectA),
			lines("PendingWithdrawn", "AttachmentVerified", "SessionOpened", "session pump-7 SOURCE_CLOUD")},
		{"quarantined", given, online(), messages.QuarantineDevice{Thing: pump},
			lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "DeviceQuarantined", "messages.Done")},
		{"forgotten", given, online(), messages.ForgetDevice{Thing: pump}, lines(closes(1, "FORGOTTEN"), closes(2, "FORGOTTEN"), "DeviceForgotten", "messages.Done")},
		{"forgotten without a session", given[:1], online(), messages.ForgetDevice{Thing: pump}, lines("DeviceForgotten", "messages.Done")},
		{"forgotten by the cloud with closeOnRevoke off", given, Facts{}, messages.ForgetDevice{Thing: pump, Source: messages.Source_SOURCE_CLOUD},
			lines("PendingWithdrawn", closes(1, "PENDING_ENDED"), closes(2, "PENDING_ENDED"), "messages.Done")},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(5), Nonce: [32]byte{9}})
			expect(t, d, err, c.want)
		})
	}
	d, err := DecideDevice(pump, deviceOf(), online(), messages.Input{Command: messages.SettleRegistration{Thing: pump, Reason: strings.Repeat("é", 400)}, At: at(5)})
	if err != nil || len(d.Events[0].(*messages.DeviceRegistered).Reason) != messages.RegisterReasonMax {
		t.Errorf("a long reason: %v, %v", d.Events, err)
	}
}

// TestWhatEndsAnAdmission: whatever else is on record of a device ends it, whoever wrote that.
func TestWhatEndsAnAdmission(t *testing.T) {
	for _, end := range []fact{attached(1), withdrawn(1), unpended(1), quarantined(1), {1, &messages.DeviceForgotten{}}} {
		s := deviceOf(pendingBy(0, certA), end)
		if s.Pending != nil || s.WithdrawnMs == 0 && len(s.Attachments) == 0 {
			t.Errorf("%s leaves %+v", end.event.Kind(), s)
		}
	}
	if s := deviceOf(pendingBy(0, certA), outcome(1, messages.RegistrationOutcome_REGISTRATION_ACCEPTED)); s.Pending == nil {
		t.Error("a yes of the registrar ended it")
	}
}

// TestWanting: only a certificate of which nothing was ever on record wants to be registered,
// or to be admitted without the cloud.
func TestWanting(t *testing.T) {
	for _, c := range []struct {
		name    string
		given   []fact
		verdict messages.CloudVerdict
		want    messages.Want
	}{
		{"unknown", nil, messages.CloudDenied, messages.WantRegistration},
		{"unknown, no answer", nil, messages.CloudSilent, messages.WantCloud},
		{"good", nil, messages.CloudConfirmed, messages.WantNothing},
		{"it was trusted", []fact{verified(0)}, messages.CloudDenied, messages.WantNothing},
		{"it was refused", []fact{verified(0), refused(1)}, messages.CloudDenied, messages.WantNothing},
		{"it was refused, no answer", []fact{verified(0), refused(1)}, messages.CloudSilent, messages.WantNothing},
		{"lapsed, no answer", []fact{verified(-duration)}, messages.CloudSilent, messages.WantNothing},
	} {
		d, err := DecideCertificate(certA, certificateOf(c.given...), online(), messages.Input{Command: answered(c.verdict, 4, verifyA), At: at(5)})
		if v, ok := d.Reply.(messages.Verified); err != nil || !ok || v.Want != c.want {
			t.Errorf("%s: %+v, %v, want %d", c.name, d.Reply, err, c.want)
		}
	}
	expired := verifyA
	expired.NotAfter = notBefore
	d, err := DecideCertificate(certA, Certificate{}, online(), messages.Input{Command: expired, At: at(5)})
	if v, ok := d.Reply.(messages.Verified); err != nil || !ok || v.Want != messages.WantNothing {
		t.Errorf("outside its validity: %+v, %v", d.Reply, err)
	}
}

// TestPendingLives: whatever happens in whatever order, a device is admitted as pending once
// in its life at most, only while the cloud is away and nothing is known of it, never for
// longer than the trust duration; and only the cloud's yes gives it a session of another kind.
func TestPendingLives(t *testing.T) {
	admissions, settled := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var dev Device
		var ended, yes bool // its admission; the cloud's word
		admitted, ms := int64(-1), int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			ms += rapid.Int64Range(0, duration/3).Draw(t, "later")
			f, in := drawInput(t, ms)
			f.CertificateKnown = rapid.IntRange(0, 3).Draw(t, "known") == 0
			f.Voided = rapid.IntRange(0, 7).Draw(t, "voided") == 0
			f.Trust.Doubted = rapid.IntRange(0, 7).Draw(t, "doubted") == 0
			f.Trust.SinceMs = t0 + rapid.SampledFrom([]int64{-1, -1, -1, ms}).Draw(t, "since")
			if rapid.Bool().Draw(t, "unknown") {
				f.Certificate, f.NetworkUp, f.CertificateKnown = messages.CertificateTrust{}, false, false
			}
			in.Command = rapid.SampledFrom([]messages.Command{
				in.Command, admitA, admitA, admitBy(certB, true), admitBy(certA, false), accepted, denied, confirmA,
				messages.WithdrawPending{Thing: pump, Certificate: certA},
				answered(messages.CloudVerdict(rapid.IntRange(0, 2).Draw(t, "verdict")), ms, confirmA),
			}).Draw(t, "command")
			switch a := in.Command.(type) { // those of the other entity
			case messages.VerifyCertificate, messages.RecheckCertificate:
				continue
			case messages.CloudAnswered:
				if _, ok := ofDevice(a.Then); !ok {
					continue
				}
			}
			d, err := DecideDevice(pump, dev, f, in)
			if err != nil {
				t.Fatal(err)
			}
			a, asked := in.Command.(messages.CloudAnswered)
			held := dev.Pending != nil
			for _, e := range d.Events {
				switch e.(type) {
				case *messages.DevicePending:
					if admitted >= 0 {
						t.Fatalf("admitted again: %s", show(d))
					}
					admitted = ms
					admissions++
				case *messages.PendingSessionOpened:
					switch {
					case ended, dev.Quarantined != "", len(dev.Attachments) > 0:
						t.Fatalf("a pending session of a device that is known: %+v", dev)
					case f.NetworkUp, f.CertificateKnown, f.Certificate.Verified, f.Trust.Doubted, !f.ConnectAllowed:
						t.Fatalf("a pending session in spite of %+v", f)
					case ms-admitted >= duration, t0+admitted < f.Trust.SinceMs, f.Voided && held:
						t.Fatalf("a pending session by an admission that does not count: admitted %d, now %d, %+v", admitted, ms, f)
					}
				case *messages.AttachmentVerified:
					if !asked || a.Answer.Verdict != messages.CloudConfirmed {
						t.Fatalf("attached without the cloud's yes: %s", show(d))
					}
					yes, ended = true, ended || admitted >= 0
				case *messages.SessionOpened:
					if !yes {
						t.Fatalf("all rights without the cloud's yes: %s", show(d))
					}
				case *messages.PendingWithdrawn, *messages.DeviceForgotten, *messages.DeviceQuarantined, *messages.AttachmentWithdrawn:
					if admitted >= 0 && !ended {
						settled++
					}
					ended = ended || admitted >= 0 || len(dev.Attachments) > 0
				}
				dev = EvolveDevice(dev, e, in.At)
			}
			if ended && dev.Pending != nil {
				t.Fatalf("pending again: %+v", dev)
			}
			for _, s := range dev.Sessions {
				if s.Pending && dev.Pending == nil {
					t.Fatalf("session %s outlives the admission of its device", s.Digest)
				}
			}
		}
	})
	if !testing.Short() && (admissions == 0 || settled == 0) { // twenty draws need not have both
		t.Errorf("%d admissions, %d ended: that proves nothing", admissions, settled)
	}
}

// ofDevice reports whether a device entity asks on behalf of c.
func ofDevice(c messages.Command) (messages.Command, bool) {
	switch c.(type) {
	case messages.OpenSession, messages.RecheckAttachment, messages.ConfirmPending:
		return c, true
	}
	return c, false
}
