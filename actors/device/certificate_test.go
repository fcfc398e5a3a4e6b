package device

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

var verifyA = messages.VerifyCertificate{Certificate: certA, DER: der, NotBefore: notBefore, NotAfter: notAfter, Subject: "CN=pump"}
var recheckA = messages.RecheckCertificate{Certificate: certA}

func held(f Facts, things ...messages.ThingName) Facts {
	f.Holders = things
	return f
}

func parity(f Facts) Facts {
	f.CloseOnRevoke = false
	return f
}

func overtaken(f Facts) Facts {
	f.Overtaken = true
	return f
}

func TestVerify(t *testing.T) {
	const asks = "der=true then messages.VerifyCertificate\nno reply yet"
	ask := "ask " + string(certA[:6]) + ` "" ` + asks
	local, cloud := "valid=true SOURCE_LOCAL", "valid=true SOURCE_CLOUD"
	no := "valid=false SOURCE_LOCAL"
	window := func(from, to int64) messages.VerifyCertificate {
		c := verifyA
		c.NotBefore, c.NotAfter = time.UnixMilli(t0+from), time.UnixMilli(t0+to)
		return c
	}
	for _, c := range []struct {
		name  string // the rule of client-device-auth spec 5.1 it is about, first
		given []fact
		facts Facts
		ms    int64
		when  messages.Command
		then  string
	}{
		{"2: not yet valid: refused, nobody is asked", nil, online(), 0, window(1, 1000), no},
		{"2: exactly at notBefore: asked", nil, online(), 0, window(0, 1000), ask},
		{"2: expired: refused, nobody is asked", nil, online(), 11, window(-10, 10), no},
		{"2: exactly at notAfter: asked", nil, online(), 10, window(-10, 10), ask},
		{"2: expired: the record stays as it was", []fact{verified(0)}, offline(), 10*duration + 1, verifyA, no},

		{"4: online, never seen", nil, online(), 0, verifyA, ask},
		{"4: online, trusted: asked all the same", []fact{verified(0)}, online(), 1, verifyA, ask},
		{"4: link down, never seen: asked all the same", nil, offline(), 0, verifyA, ask},
		{"4: link down, trusted: not asked", []fact{verified(0)}, offline(), 1, verifyA, local},
		{"4: link down, a millisecond before trust ends", []fact{verified(0)}, offline(), duration - 1, verifyA, local},
		{"4: link down, exactly when trust ends: asked", []fact{verified(0)}, offline(), duration, verifyA, ask},
		{"4: link down, a millisecond after", []fact{verified(0)}, offline(), duration + 1, verifyA, ask},
		{"4: link down, refused since", []fact{verified(0), refused(1)}, offline(), 2, verifyA, ask},

		{"5: yes, never seen: stored with its bytes", nil, online(), 5, answered(messages.CloudConfirmed, 0, verifyA), "CertificateVerified der=true\n" + cloud},
		{"5: yes, trusted: time renewed, bytes are there", []fact{verified(0)}, online(), 5, answered(messages.CloudConfirmed, 1, verifyA), "CertificateVerified der=false\n" + cloud},
		{"5: yes, lapsed: time renewed", []fact{verified(0)}, offline(), 5 * duration, answered(messages.CloudConfirmed, 5*duration-1, verifyA), "CertificateVerified der=false\n" + cloud},
		{"5: yes, refused before it was asked: stored with its bytes again", []fact{verified(0), refused(1)}, online(), 5, answered(messages.CloudConfirmed, 2, verifyA), "CertificateVerified der=true\n" + cloud},
		{"5: yes to a question from before the refusal: asked again", []fact{verified(0), refused(3)}, online(), 5, answered(messages.CloudConfirmed, 2, verifyA), ask},
		{"5: yes that a no without a trace overtook: asked again", nil, overtaken(online()), 5, answered(messages.CloudConfirmed, 5, verifyA), ask},
		{"5: yes, but it expired meanwhile", []fact{verified(0)}, online(), 11, answered(messages.CloudConfirmed, 0, window(-10, 10)), no},

		{"5: no, never seen: leaves no trace", nil, online(), 5, answered(messages.CloudDenied, 0, verifyA), "valid=false SOURCE_CLOUD"},
		{"5: no, trusted: erased, sessions of all holders close", []fact{verified(0)}, held(online(), pump, "pump-8"), 5, answered(messages.CloudDenied, 1, verifyA), lines(
			"CertificateRefused SOURCE_CLOUD",
			"tell close pump-7 "+string(certA[:6])+" CLOSE_CERTIFICATE_REFUSED",
			"tell close pump-8 "+string(certA[:6])+" CLOSE_CERTIFICATE_REFUSED",
			"valid=false SOURCE_CLOUD")},
		{"5: no, trusted, parity: erased, sessions stay", []fact{verified(0)}, parity(held(online(), pump)), 5, answered(messages.CloudDenied, 1, verifyA), "CertificateRefused SOURCE_CLOUD\nvalid=false SOURCE_CLOUD"},
		{"5: no, lapsed: erased", []fact{verified(0)}, online(), duration, answered(messages.CloudDenied, 1, verifyA), "CertificateRefused SOURCE_CLOUD\nvalid=false SOURCE_CLOUD"},
		{"5: no, refused before: nothing to erase", []fact{verified(0), refused(1)}, online(), 5, answered(messages.CloudDenied, 2, verifyA), "valid=false SOURCE_CLOUD"},

		{"5: silence, never seen: refused, leaves no trace", nil, offline(), 5, answered(messages.CloudSilent, 0, verifyA), no},
		{"5: silence, trusted: local yes, unchanged", []fact{verified(0)}, online(), 5, answered(messages.CloudSilent, 1, verifyA), local},
		{"5: silence, a millisecond before trust ends", []fact{verified(0)}, online(), duration - 1, answered(messages.CloudSilent, 1, verifyA), local},
		{"5: silence, exactly when trust ends: erased (2.5)", []fact{verified(0)}, held(online(), pump), duration, answered(messages.CloudSilent, 1, verifyA), lines(
			"CertificateRefused SOURCE_LOCAL", "tell close pump-7 "+string(certA[:6])+" CLOSE_TRUST_LAPSED", no)},
		{"5: a verdict nobody knows is silence", nil, online(), 5, answered(messages.CloudVerdict(77), 0, verifyA), no},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideCertificate(certA, certificateOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(c.ms)})
			expect(t, d, err, c.then)
		})
	}
}

// TestVoidedTrustIsNotTrust: what was verified before trust was voided does not count,
// what was verified since does.
func TestVoidedTrustIsNotTrust(t *testing.T) {
	f := offline()
	f.Trust.SinceMs = t0 + 10
	for _, c := range []struct {
		verifiedMs int64
		asks       bool
	}{{9, true}, {10, false}, {11, false}} {
		d, err := DecideCertificate(certA, certificateOf(verified(c.verifiedMs)), f, messages.Input{Command: verifyA, At: at(20)})
		if err != nil {
			t.Fatal(err)
		}
		if asks := len(d.Effects) > 0; asks != c.asks {
			t.Errorf("verified at %d, void before 10: asks the cloud: %v, want %v", c.verifiedMs, asks, c.asks)
		}
	}
}

func TestRecheckCertificate(t *testing.T) {
	ask := "ask " + string(certA[:6]) + ` "" der=true then messages.RecheckCertificate` + "\nno reply yet"
	closes := func(why string) string { return "tell close pump-7 " + string(certA[:6]) + " " + why }
	f := held(online(), pump)
	const unasked, yes, no, silence = "not asked", "the cloud: confirmed", "the cloud: denied", "the cloud: silent"
	refresh := recheckA
	refresh.Refresh = true
	for _, c := range []struct {
		name  string
		given []fact
		facts Facts
		ms    int64
		when  messages.Command
		then  string
	}{
		{"not held: nobody is asked", nil, f, 5, recheckA, unasked},
		{"held: asked with the bytes of the log", []fact{verified(0)}, f, 5, recheckA, ask},
		{"exactly at notAfter: asked", []fact{verified(0)}, f, 10 * duration, recheckA, ask},
		{"after notAfter: erased, sessions close", []fact{verified(0)}, f, 10*duration + 1, recheckA, lines("CertificateRefused SOURCE_LOCAL", closes("CLOSE_CERTIFICATE_EXPIRED"), unasked)},
		{"yes, within a quarter of the trust duration: no event", []fact{verified(0)}, f, duration/4 - 1, answered(messages.CloudConfirmed, 1, recheckA), yes},
		{"yes, after exactly a quarter: renewed", []fact{verified(0)}, f, duration / 4, answered(messages.CloudConfirmed, 1, recheckA), "CertificateVerified der=false\n" + yes},
		{"yes, young but from before trust was voided: renewed", []fact{verified(0)}, voided(f, 3), 5, answered(messages.CloudConfirmed, 4, recheckA), "CertificateVerified der=false\n" + yes},
		{"yes, overtaken: asked again", []fact{verified(0)}, overtaken(f), 5, answered(messages.CloudConfirmed, 1, recheckA), ask},
		{"yes, refused and verified again after it was asked: asked again", []fact{verified(0), refused(3), verified(4)}, f, 5, answered(messages.CloudConfirmed, 1, recheckA), ask},
		{"yes, refused meanwhile: stays refused", []fact{verified(0), refused(3)}, f, 5, answered(messages.CloudConfirmed, 1, recheckA), unasked},
		{"no: erased, sessions close", []fact{verified(0)}, f, 5, answered(messages.CloudDenied, 1, recheckA), lines("CertificateRefused SOURCE_CLOUD", closes("CLOSE_CERTIFICATE_REFUSED"), no)},
		{"no, parity: erased, sessions stay", []fact{verified(0)}, parity(f), 5, answered(messages.CloudDenied, 1, recheckA), "CertificateRefused SOURCE_CLOUD\n" + no},
		{"silence within trust: unchanged", []fact{verified(0)}, f, duration - 1, answered(messages.CloudSilent, 1, recheckA), silence},
		{"silence exactly when trust ends: erased", []fact{verified(0)}, f, duration, answered(messages.CloudSilent, 1, recheckA), lines("CertificateRefused SOURCE_LOCAL", closes("CLOSE_TRUST_LAPSED"), silence)},
		{"refresh, yes within a quarter: renewed", []fact{verified(0)}, f, 1, answered(messages.CloudConfirmed, 1, refresh), "CertificateVerified der=false\n" + yes},
		{"refresh, silence after trust ended: as it was", []fact{verified(0)}, f, duration, answered(messages.CloudSilent, 1, refresh), silence},
		{"refresh, no: erased", []fact{verified(0)}, f, duration, answered(messages.CloudDenied, 1, refresh), lines("CertificateRefused SOURCE_CLOUD", closes("CLOSE_CERTIFICATE_REFUSED"), no)},
		{"dropped", []fact{verified(0)}, f, 5, messages.DropCertificate{Certificate: certA, VerifiedMs: t0}, lines("CertificateRefused SOURCE_CLOUD", closes("CLOSE_FORGOTTEN"), "messages.Done")},
		{"dropped, confirmed meanwhile: stays", []fact{verified(4)}, f, 5, messages.DropCertificate{Certificate: certA, VerifiedMs: t0 + 3}, "messages.Done"},
		{"dropped, not held", nil, f, 5, messages.DropCertificate{Certificate: certA, VerifiedMs: t0}, "messages.Done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := DecideCertificate(certA, certificateOf(c.given...), c.facts, messages.Input{Command: c.when, At: at(c.ms)})
			expect(t, d, err, c.then)
		})
	}
}

func voided(f Facts, ms int64) Facts {
	f.Trust.SinceMs = t0 + ms
	return f
}

// TestRefusedMeansUnknown: nothing of a refused certificate is left but when it was.
func TestRefusedMeansUnknown(t *testing.T) {
	s := certificateOf(verified(0), refused(5))
	if s.Trust.Verified || s.DER != nil || s.Subject != "" || s.RefusedMs != t0+5 {
		t.Errorf("left %+v", s)
	}
}

// TestFoldKeepsNoBytesOfOthers: the bytes of an event may be a request's.
func TestFoldKeepsNoBytesOfOthers(t *testing.T) {
	e := verified(0)
	mine := append([]byte(nil), der...)
	e.event.(*messages.CertificateVerified).Der = mine
	s := certificateOf(e)
	mine[0] ^= 1
	if string(s.DER) != string(der) {
		t.Error("the state changed with the request's buffer")
	}
}

func TestCertificateRefusesForeignCommands(t *testing.T) {
	for _, c := range []messages.Command{
		messages.OpenSession{Thing: pump}, answered(messages.CloudConfirmed, 0, messages.OpenSession{Thing: pump}),
	} {
		if d, err := DecideCertificate(certA, Certificate{}, online(), messages.Input{Command: c, At: at(0)}); err == nil {
			t.Errorf("%T was decided: %s", c, show(d))
		}
	}
}
