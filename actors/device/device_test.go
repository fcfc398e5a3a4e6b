package device

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

var (
	openA         = messages.OpenSession{Thing: pump, Certificate: certA, Broker: broker}
	connectA      = messages.OpenSession{Thing: pump, Certificate: certA, Broker: broker, Connect: true}
	recheckPumpA  = messages.RecheckAttachment{Thing: pump, Certificate: certA}
	askPump       = "ask " + string(certA[:6]) + ` "pump-7" der=false then messages.OpenSession` + "\nno reply yet"
	askPumpAgain  = "ask " + string(certA[:6]) + ` "pump-7" der=false then messages.RecheckAttachment` + "\nno reply yet"
	sessionCloud  = "SessionOpened\nsession pump-7 SOURCE_CLOUD"
	sessionLocal  = "SessionOpened\nsession pump-7 SOURCE_LOCAL"
	badCredential = "refused InvalidCredential"
)

func closedBy(n byte, why string) string {
	return "SessionClosed " + session(n).String()[:12] + " " + why
}

func connectAllowed(f Facts) Facts {
	f.ConnectAllowed = true
	return f
}

func quarantined(ms int64) fact {
	return fact{ms, &messages.DeviceQuarantined{Source: messages.Source_SOURCE_OPERATOR, Reason: "misbehaves"}}
}

func released(ms int64) fact { return fact{ms, &messages.DeviceReleased{}} }

func TestOpenSession(t *testing.T) {
	for _, c := range []struct {
		name  string // the rule of client-device-auth spec 5.2 it is about, first
		given []fact
		facts Facts
		ms    int64
		when  messages.Command
		then  string
	}{
		{"2: the certificate is not in the registry", []fact{attached(0)}, online(), 5, openA, badCredential},
		{"2: trust in it ended exactly now", []fact{attached(0)}, vouched(online(), 0), duration, openA, badCredential},
		{"2: a millisecond before: online asks about the attachment", []fact{attached(0)}, vouched(online(), 0), duration - 1, openA, askPump},
		{"2: trusted, but expired since", []fact{attached(0)}, vouched(offline(), 10*duration-5), 10 * duration, openA, badCredential},
		{"2: trust was voided", []fact{attached(20)}, voided(vouched(offline(), 5), 10), 20, openA, badCredential},
		{"2: quarantined", []fact{attached(0), quarantined(1)}, vouched(online(), 0), 5, openA, badCredential},
		{"2: quarantined without a reason", []fact{attached(0), {1, &messages.DeviceQuarantined{}}}, vouched(offline(), 0), 5, openA, badCredential},
		{"2: released again", []fact{attached(0), quarantined(1), released(2)}, vouched(offline(), 0), 5, openA, sessionLocal},

		{"4: up: the cloud is asked, also for who is known", []fact{attached(0)}, vouched(online(), 0), 5, openA, askPump},
		{"4: up, yes, first time", nil, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 1, openA), "AttachmentVerified\n" + sessionCloud},
		{"4: up, yes, known: time renewed", []fact{attached(0)}, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 1, openA), "AttachmentVerified\n" + sessionCloud},
		{"4: up, yes to a question from before it was withdrawn", []fact{attached(0), withdrawn(3)}, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 2, openA), askPump},
		{"4: up, yes to a question from after it was withdrawn", []fact{attached(0), withdrawn(3)}, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 4, openA), "AttachmentVerified\n" + sessionCloud},
		{"4: up, yes that a no without a trace overtook", nil, overtaken(vouched(online(), 0)), 5, answered(messages.CloudConfirmed, 5, openA), askPump},
		{"4: up, yes, but the certificate was refused meanwhile", nil, online(), 5, answered(messages.CloudConfirmed, 1, openA), badCredential},
		{"4: up, yes, but it was quarantined meanwhile", []fact{quarantined(2)}, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 1, openA), badCredential},
		{"4: up, no, never attached: no trace", nil, vouched(online(), 0), 5, answered(messages.CloudDenied, 1, openA), badCredential},
		{"4: up, no: attachment removed, its sessions close, oldest first", []fact{attached(0), opened(2, 2), opened(1, 1), openedWith(1, 9, certB)}, vouched(online(), 0), 5, answered(messages.CloudDenied, 1, openA),
			lines("AttachmentWithdrawn", closedBy(1, "CLOSE_ATTACHMENT_WITHDRAWN"), closedBy(2, "CLOSE_ATTACHMENT_WITHDRAWN"), badCredential)},
		{"4: up, no, parity: attachment removed, sessions stay", []fact{attached(0), opened(1, 1)}, parity(vouched(online(), 0)), 5, answered(messages.CloudDenied, 1, openA), "AttachmentWithdrawn\n" + badCredential},
		{"4: up, no while quarantined: removed all the same", []fact{attached(0), quarantined(1)}, vouched(online(), 0), 5, answered(messages.CloudDenied, 1, openA), "AttachmentWithdrawn\n" + badCredential},
		{"4: up, no while the certificate lapsed: removed all the same", []fact{attached(0)}, online(), 5, answered(messages.CloudDenied, 1, openA), "AttachmentWithdrawn\n" + badCredential},
		{"4: up, silence, trusted: local", []fact{attached(0)}, vouched(online(), 0), 5, answered(messages.CloudSilent, 1, openA), sessionLocal},
		{"4: up, silence, never attached", nil, vouched(online(), 0), 5, answered(messages.CloudSilent, 1, openA), badCredential},
		{"4: up, silence, lapsed exactly now: unchanged", []fact{attached(0)}, vouched(online(), 5), duration, answered(messages.CloudSilent, 1, openA), badCredential},
		{"4: down: not called, trusted", []fact{attached(0)}, vouched(offline(), 0), 5, openA, sessionLocal},
		{"4: down, a millisecond before trust ends", []fact{attached(0)}, vouched(offline(), 5), duration - 1, openA, sessionLocal},
		{"4: down, exactly when trust ends", []fact{attached(0)}, vouched(offline(), 5), duration, openA, badCredential},
		{"4: down, never attached", nil, vouched(offline(), 0), 5, openA, badCredential},
		{"4: down, withdrawn since", []fact{attached(0), withdrawn(1)}, vouched(offline(), 0), 5, openA, badCredential},
		{"4: down, attached before trust was voided", []fact{attached(0)}, voided(vouched(offline(), 10), 10), 20, openA, badCredential},

		{"connect: the policy denies: no session, no event", []fact{attached(0)}, vouched(offline(), 0), 5, connectA, "messages.ConnectDenied"},
		{"connect: the policy denies: the cloud's yes is kept", nil, vouched(online(), 0), 5, answered(messages.CloudConfirmed, 1, connectA), "AttachmentVerified\nmessages.ConnectDenied"},
		{"connect: the policy allows", []fact{attached(0)}, connectAllowed(vouched(offline(), 0)), 5, connectA, sessionLocal},
		{"not connecting: the policy is not asked", []fact{attached(0)}, vouched(offline(), 0), 5, openA, sessionLocal},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(c.ms), Nonce: [32]byte{200}})
			expect(t, d, err, c.then)
		})
	}
}

// TestTokenIsTheNonce: the token is made of the input's nonce, the log holds its digest
// alone, and the session can be found by it.
func TestTokenIsTheNonce(t *testing.T) {
	nonce := [32]byte{1, 2, 3}
	d, err := DecideDevice(pump, deviceOf(attached(0)), vouched(offline(), 0), messages.Input{Command: openA, At: at(5), Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	ready := d.Reply.(messages.SessionReady)
	if ready.Token != messages.TokenFrom(nonce) || ready.Certificate != certA {
		t.Errorf("the reply is %+v", ready)
	}
	s := EvolveDevice(deviceOf(attached(0)), d.Events[0], at(5))
	want := Session{Digest: ready.Token.Digest(), Certificate: certA, Broker: broker, OpenedMs: t0 + 5}
	if len(s.Sessions) != 1 || s.Sessions[0] != want {
		t.Errorf("sessions %v, want %v", s.Sessions, want)
	}
}

// TestSessionsOfOneDeviceAreBounded: the oldest gives way; a tie goes by digest.
func TestSessionsOfOneDeviceAreBounded(t *testing.T) {
	facts := []fact{attached(0)}
	for n := byte(1); n < sessionsMax; n++ {
		facts = append(facts, opened(int64(100-n), n)) // the youngest first
	}
	open := func(s Device) messages.Decision {
		d, err := DecideDevice(pump, s, vouched(offline(), 0), messages.Input{Command: openA, At: at(200), Nonce: [32]byte{200}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if got := show(open(deviceOf(facts...))); got != sessionLocal {
		t.Errorf("session %d: %s", sessionsMax, got)
	}
	facts = append(facts, opened(300, 77))
	oldest := byte(sessionsMax - 1)
	if got, want := show(open(deviceOf(facts...))), closedBy(oldest, "CLOSE_EVICTED")+"\n"+sessionLocal; got != want {
		t.Errorf("one more:\n%s\nwant\n%s", got, want)
	}
}

func TestRecheckAttachment(t *testing.T) {
	const unasked, yes, no, silence = "not asked", "the cloud: confirmed", "the cloud: denied", "the cloud: silent"
	refresh := recheckPumpA
	refresh.Refresh = true
	for _, c := range []struct {
		name  string
		given []fact
		facts Facts
		ms    int64
		when  messages.Command
		then  string
	}{
		{"not held: nobody is asked", nil, online(), 5, recheckPumpA, unasked},
		{"held: asked", []fact{attached(0)}, online(), 5, recheckPumpA, askPumpAgain},
		{"yes, within a quarter: no event", []fact{attached(0)}, online(), duration/4 - 1, answered(messages.CloudConfirmed, 1, recheckPumpA), yes},
		{"yes, after exactly a quarter: renewed", []fact{attached(0)}, online(), duration / 4, answered(messages.CloudConfirmed, 1, recheckPumpA), "AttachmentVerified\n" + yes},
		{"yes, from before trust was voided: renewed", []fact{attached(0)}, voided(online(), 3), 5, answered(messages.CloudConfirmed, 4, recheckPumpA), "AttachmentVerified\n" + yes},
		{"yes, withdrawn and given again after it was asked: asked again", []fact{attached(0), withdrawn(3), attached(4)}, online(), 5, answered(messages.CloudConfirmed, 2, recheckPumpA), askPumpAgain},
		{"yes, overtaken: asked again", []fact{attached(0)}, overtaken(online()), 5, answered(messages.CloudConfirmed, 4, recheckPumpA), askPumpAgain},
		{"yes, withdrawn meanwhile: stays withdrawn", []fact{attached(0), withdrawn(3)}, online(), 5, answered(messages.CloudConfirmed, 4, recheckPumpA), unasked},
		{"no: withdrawn, sessions close", []fact{attached(0), opened(1, 1)}, online(), 5, answered(messages.CloudDenied, 1, recheckPumpA), lines("AttachmentWithdrawn", closedBy(1, "CLOSE_ATTACHMENT_WITHDRAWN"), no)},
		{"no, parity: withdrawn, sessions stay", []fact{attached(0), opened(1, 1)}, parity(online()), 5, answered(messages.CloudDenied, 1, recheckPumpA), "AttachmentWithdrawn\n" + no},
		{"silence within trust", []fact{attached(0), opened(1, 1)}, online(), duration - 1, answered(messages.CloudSilent, 1, recheckPumpA), silence},
		{"silence exactly when trust ends: sessions close", []fact{attached(0), opened(1, 1)}, online(), duration, answered(messages.CloudSilent, 1, recheckPumpA), closedBy(1, "CLOSE_TRUST_LAPSED") + "\n" + silence},
		{"refresh, yes within a quarter: renewed", []fact{attached(0)}, online(), 1, answered(messages.CloudConfirmed, 1, refresh), "AttachmentVerified\n" + yes},
		{"refresh, silence when trust ended: as it was", []fact{attached(0), opened(1, 1)}, online(), duration, answered(messages.CloudSilent, 1, refresh), silence},
		{"refresh, no: withdrawn", []fact{attached(0)}, online(), duration, answered(messages.CloudDenied, 1, refresh), "AttachmentWithdrawn\n" + no},
		{"silence when trust ended, parity: sessions stay", []fact{attached(0), opened(1, 1)}, parity(online()), duration, answered(messages.CloudSilent, 1, recheckPumpA), silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(c.ms)})
			expect(t, d, err, c.then)
		})
	}
}

func TestClosingAndQuarantine(t *testing.T) {
	const done = "messages.Done"
	all := []fact{attached(0), opened(1, 1), openedWith(2, 2, certB)}
	for _, c := range []struct {
		name  string
		given []fact
		when  messages.Command
		then  string
	}{
		{"close one", all, messages.CloseSession{Thing: pump, Session: session(1), Reason: messages.CloseReason_CLOSE_BY_BROKER}, closedBy(1, "CLOSE_BY_BROKER") + "\n" + done},
		{"close an unknown one: no error", all, messages.CloseSession{Thing: pump, Session: session(9)}, done},
		{"close those of a certificate", all, messages.CloseSessions{Thing: pump, Certificate: certB, Reason: messages.CloseReason_CLOSE_TRUST_LAPSED}, closedBy(2, "CLOSE_TRUST_LAPSED") + "\n" + done},
		{"close all", all, messages.CloseSessions{Thing: pump, Reason: messages.CloseReason_CLOSE_BY_OPERATOR}, lines(closedBy(1, "CLOSE_BY_OPERATOR"), closedBy(2, "CLOSE_BY_OPERATOR"), done)},
		{"quarantine closes all", all, messages.QuarantineDevice{Thing: pump}, lines("DeviceQuarantined", closedBy(1, "CLOSE_QUARANTINED"), closedBy(2, "CLOSE_QUARANTINED"), done)},
		{"quarantine twice: no event", append(all, quarantined(3)), messages.QuarantineDevice{Thing: pump}, done},
		{"release", []fact{quarantined(3)}, messages.ReleaseDevice{Thing: pump}, "DeviceReleased\n" + done},
		{"release who is free: no event", all, messages.ReleaseDevice{Thing: pump}, done},
		{"forget closes all", all, messages.ForgetDevice{Thing: pump}, lines(closedBy(1, "CLOSE_FORGOTTEN"), closedBy(2, "CLOSE_FORGOTTEN"), "DeviceForgotten", done)},
		{"forget who is unknown: no event", nil, messages.ForgetDevice{Thing: pump}, done},
		{"record a denial", nil, messages.RecordDenial{Known: true, Denial: &messages.AccessDenied{}}, "AccessDenied\n" + done},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), online(), messages.Input{Command: c.when, At: at(5)})
			expect(t, d, err, c.then)
		})
	}
}

// TestForgettingKeepsTheBar: a device that was forgotten is still quarantined.
func TestForgettingKeepsTheBar(t *testing.T) {
	s := deviceOf(attached(0), opened(1, 1), quarantined(2), fact{3, &messages.DeviceForgotten{}})
	if s.Quarantined == "" || len(s.Attachments)+len(s.Sessions) != 0 || s.WithdrawnMs != t0+3 {
		t.Errorf("left %+v", s)
	}
}

// TestForget: who no longer belongs to this core is forgotten. With
// sessions.closeOnRevoke off, what the cloud brings about leaves sessions alone.
func TestForget(t *testing.T) {
	byCloud := messages.ForgetDevice{Thing: pump, Source: messages.Source_SOURCE_CLOUD, Reason: "not associated"}
	byHand := messages.ForgetDevice{Thing: pump, Source: messages.Source_SOURCE_OPERATOR, Reason: "sold"}
	all := lines(closedBy(1, "CLOSE_FORGOTTEN"), "DeviceForgotten", "messages.Done")
	for _, c := range []struct {
		name  string
		given []fact
		facts Facts
		when  messages.Command
		then  string
	}{
		{"unknown: nothing", nil, online(), byCloud, "messages.Done"},
		{"by the cloud", []fact{attached(0), opened(1, 1)}, online(), byCloud, all},
		{"by the cloud, parity: sessions stay", []fact{attached(0), opened(1, 1)}, parity(online()), byCloud, "AttachmentWithdrawn\nmessages.Done"},
		{"by the cloud, parity, no session", []fact{attached(0)}, parity(online()), byCloud, "DeviceForgotten\nmessages.Done"},
		{"by hand, parity", []fact{attached(0), opened(1, 1)}, parity(online()), byHand, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideDevice(pump, deviceOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(5)})
			expect(t, d, err, c.then)
		})
	}
}

// TestRefreshIsBackgroundWork: its questions say that no device waits, and when trust
// ends, so that the queue can put the soonest first.
func TestRefreshIsBackgroundWork(t *testing.T) {
	question := func(d messages.Decision, err error) messages.CloudQuestion {
		if err != nil || len(d.Effects) != 1 {
			t.Fatal(d, err)
		}
		return d.Effects[0].(messages.AskCloud).Question
	}
	for _, refresh := range []bool{true, false} {
		certificate := question(DecideCertificate(certA, certificateOf(verified(3)), online(), messages.Input{Command: messages.RecheckCertificate{Certificate: certA, Refresh: refresh}, At: at(5)}))
		attachment := question(DecideDevice(pump, deviceOf(attached(4)), online(), messages.Input{Command: messages.RecheckAttachment{Thing: pump, Certificate: certA, Refresh: refresh}, At: at(5)}))
		if certificate.Background != refresh || attachment.Background != refresh {
			t.Errorf("refresh %v: background %v, %v", refresh, certificate.Background, attachment.Background)
		}
		if certificate.EndsMs != t0+3+duration || attachment.EndsMs != t0+4+duration {
			t.Errorf("trust ends at %d, %d", certificate.EndsMs-t0, attachment.EndsMs-t0)
		}
	}
	lapsed := question(DecideCertificate(certA, certificateOf(verified(0)), online(), messages.Input{Command: recheckA, At: at(duration)}))
	if lapsed.EndsMs != 0 {
		t.Errorf("lapsed trust ends at %d, want 0", lapsed.EndsMs)
	}
}

func TestDeviceRefusesForeignCommands(t *testing.T) {
	for _, c := range []messages.Command{verifyA, answered(messages.CloudConfirmed, 0, verifyA)} {
		if d, err := DecideDevice(pump, Device{}, online(), messages.Input{Command: c, At: at(0)}); err == nil {
			t.Errorf("%T was decided: %s", c, show(d))
		}
	}
}

// TestStrangersAreTold: only what is held counts as known on the way to the cloud.
// Reliability spec 2.3, E4.
func TestStrangersAreTold(t *testing.T) {
	verify := messages.VerifyCertificate{Certificate: certA, DER: der, NotBefore: notBefore, NotAfter: notAfter}
	open := messages.OpenSession{Thing: pump, Certificate: certA, Broker: broker}
	trusted := online()
	trusted.Certificate = certificateOf(verified(0)).Trust
	for _, c := range []struct {
		name   string
		decide func() (messages.Decision, error)
		want   bool
	}{
		{"unknown certificate", func() (messages.Decision, error) {
			return DecideCertificate(certA, Certificate{}, online(), messages.Input{Command: verify, At: at(1)})
		}, true},
		{"refused certificate", func() (messages.Decision, error) {
			return DecideCertificate(certA, certificateOf(verified(0), refused(1)), online(), messages.Input{Command: verify, At: at(2)})
		}, true},
		{"verified certificate", func() (messages.Decision, error) {
			return DecideCertificate(certA, certificateOf(verified(0)), online(), messages.Input{Command: verify, At: at(1)})
		}, false},
		{"certificate whose trust has lapsed", func() (messages.Decision, error) {
			return DecideCertificate(certA, certificateOf(verified(0)), online(), messages.Input{Command: verify, At: at(2 * duration)})
		}, false},
		{"certificate of a live session", func() (messages.Decision, error) {
			return DecideCertificate(certA, certificateOf(verified(0)), online(), messages.Input{Command: messages.RecheckCertificate{Certificate: certA}, At: at(1)})
		}, false},
		{"thing that is not held", func() (messages.Decision, error) {
			return DecideDevice(pump, Device{}, trusted, messages.Input{Command: open, At: at(1)})
		}, true},
		{"thing that is held", func() (messages.Decision, error) {
			return DecideDevice(pump, deviceOf(attached(0)), trusted, messages.Input{Command: open, At: at(1)})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := c.decide()
			if err != nil || len(d.Effects) != 1 {
				t.Fatalf("%v, %+v; want one question", err, d)
			}
			if ask, ok := d.Effects[0].(messages.AskCloud); !ok || ask.Question.Stranger != c.want {
				t.Errorf("%+v, want stranger %v", d.Effects[0], c.want)
			}
		})
	}
}
