package projections

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// twin is one device and its certificate, in the read models and as the real entities
// hold them.
type twin struct {
	history
	views *Views
	cert  device.Certificate
	dev   device.Device
	ms    int64 // since t0
}

func (w *twin) fold(rec messages.Record) {
	w.views.Apply([]messages.Record{rec})
	e, err := messages.DecodeEvent(&rec)
	if err != nil {
		panic(err)
	}
	switch rec.Stream {
	case messages.CertificateStream(certA):
		w.cert = device.EvolveCertificate(w.cert, e, rec.At)
	case messages.DeviceStream(pump):
		w.dev = device.EvolveDevice(w.dev, e, rec.At)
	}
}

// facts are what the host hands to deciders (actors/family.go).
func (w *twin) facts(up bool, trust messages.Trust) device.Facts {
	f := device.Facts{NetworkUp: up, Trust: trust, Certificate: w.views.CertificateTrust(certA), CloseOnRevoke: true}
	f.ConnectAllowed, f.PolicyRevision = w.views.ConnectAllowed(pump)
	return f
}

// connect lets the real deciders judge a connect at nowMs; every question to the cloud is
// answered with verdict.
func (w *twin) connect(t *rapid.T, up bool, verdict messages.CloudVerdict, trust messages.Trust, nowMs int64) bool {
	at := messages.Instant{TrustMs: nowMs, WallMs: nowMs}
	answer := func(d messages.Decision, err error, again func(messages.Input) (messages.Decision, error)) messages.Reply {
		for err == nil && d.Reply == nil {
			if len(d.Effects) != 1 {
				t.Fatalf("%d effects without a reply", len(d.Effects))
			}
			ask := d.Effects[0].(messages.AskCloud)
			d, err = again(messages.Input{At: at, Command: messages.CloudAnswered{Answer: messages.CloudAnswer{Verdict: verdict}, AskedMs: math.MaxInt64, Then: ask.Then}})
		}
		if err != nil {
			t.Fatal(err)
		}
		return d.Reply
	}
	cert := w.cert
	judge := func(in messages.Input) (messages.Decision, error) {
		d, err := device.DecideCertificate(certA, cert, w.facts(up, trust), in)
		for _, e := range d.Events {
			cert = device.EvolveCertificate(cert, e, at)
		}
		return d, err
	}
	show := messages.VerifyCertificate{Certificate: certA, DER: []byte("a"), NotBefore: time.UnixMilli(0), NotAfter: time.UnixMilli(1 << 50)}
	if known, _ := w.views.Device(pump); known.Attachments[0].NotAfterMs != 0 { // else its dates are not known here yet
		show.NotBefore, show.NotAfter = time.UnixMilli(t0-1000), time.UnixMilli(t0+expiry)
	}
	d, err := judge(messages.Input{At: at, Command: show})
	if v, ok := answer(d, err, judge).(messages.Verified); !ok || !v.Valid {
		return false
	}
	admit := func(in messages.Input) (messages.Decision, error) {
		f := w.facts(up, trust)
		f.Certificate = cert.Trust
		return device.DecideDevice(pump, w.dev, f, in)
	}
	d, err = admit(messages.Input{At: at, Command: messages.OpenSession{Thing: pump, Certificate: certA, Broker: broker, Connect: true}})
	_, in := answer(d, err, admit).(messages.SessionReady)
	return in
}

// step lets something happen.
func (w *twin) step(t *rapid.T) {
	w.ms += rapid.Int64Range(0, duration).Draw(t, "ms")
	stream := messages.DeviceStream(pump)
	connect := `{"definitions":{"g":{"selectionRule":"thingName: %s","policyName":"p"}},"policies":{"p":{"s":{"operations":["mqtt:connect"],"resources":["*"]}}}}`
	switch rapid.SampledFrom([]string{"verified", "attached", "verified", "attached", "refused", "withdrawn", "quarantined", "released", "forgotten",
		"opened", "allow", "deny", "void", "config"}).Draw(t, "event") {
	case "verified":
		w.fold(w.verified(certA, w.ms))
	case "refused":
		w.fold(w.refused(certA, w.ms))
	case "attached":
		w.fold(w.attached(pump, certA, w.ms))
	case "withdrawn":
		w.fold(w.withdrawn(pump, certA, w.ms))
	case "quarantined":
		w.fold(w.add(stream, w.ms, &messages.DeviceQuarantined{Reason: rapid.SampledFrom([]string{"", "stolen"}).Draw(t, "reason")}))
	case "released":
		w.fold(w.add(stream, w.ms, &messages.DeviceReleased{}))
	case "forgotten":
		w.fold(w.add(stream, w.ms, &messages.DeviceForgotten{}))
	case "opened":
		for range rapid.IntRange(1, 20).Draw(t, "sessions") { // past the bound of one device
			w.fold(w.opened(pump, certA, len(w.records), w.ms))
		}
	case "allow":
		w.fold(w.policy(fmt.Sprintf(connect, "pump-*"), w.ms))
	case "deny":
		w.fold(w.policy(fmt.Sprintf(connect, "valve-*"), w.ms))
	case "void":
		w.fold(w.add(messages.StreamClock, w.ms, &messages.TrustVoided{BeforeMs: t0 + w.ms - rapid.Int64Range(0, duration).Draw(t, "before")}))
	case "config":
		w.fold(w.config(fmt.Sprintf(`{"performance":{"maxActiveAuthTokens":%d}}`, rapid.IntRange(1, 3).Draw(t, "tokens")), w.ms))
	}
}

// TestPredictIsWhatIsDecided: what the outlook says is what the deciders then do: now,
// and at the last and the first millisecond around the end that it names.
func TestPredictIsWhatIsDecided(t *testing.T) {
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{views: New(nil)}
		w.views.Live(Hooks{})
		if rapid.Bool().Draw(t, "known") { // else few devices are let in
			w.fold(w.policy(`{"definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"}},"policies":{"p":{"s":{"operations":["*"],"resources":["*"]}}}}`, 0))
			w.fold(w.verified(certA, rapid.Int64Range(0, duration).Draw(t, "verified")))
			w.fold(w.attached(pump, certA, rapid.Int64Range(0, duration).Draw(t, "attached")))
		}
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			w.step(t)
		}
		trust := messages.Trust{
			DurationMs: rapid.SampledFrom([]int64{duration, 3 * duration, 100 * duration}).Draw(t, "duration"),
			SinceMs:    max(w.views.VoidedMs(), rapid.SampledFrom([]int64{0, t0 + w.ms/2}).Draw(t, "uncertain")),
		}
		now := t0 + w.ms + rapid.SampledFrom([]int64{0, 1, duration - 1, duration, duration + 1, expiry - w.ms, expiry - w.ms + 1, -w.ms - 2000, -2 * duration}).Draw(t, "later")
		known, _ := w.views.Device(pump)
		for _, a := range known.Attachments {
			connect, _ := w.views.ConnectAllowed(pump)
			c := Circumstances{Trust: trust, NowMs: now, Quarantined: known.Quarantined, ConnectAllowed: connect}
			o := Predict(a, c)
			if got := w.connect(t, false, messages.CloudSilent, trust, now); got != o.Offline.Allowed {
				t.Fatalf("offline: decided %t, predicted %+v", got, o.Offline)
			}
			if got := w.connect(t, true, messages.CloudSilent, trust, now); got != o.Offline.Allowed {
				t.Fatalf("online, the cloud silent: decided %t, predicted %+v", got, o.Offline)
			}
			if got := w.connect(t, true, messages.CloudConfirmed, trust, now); got != o.Online.Allowed {
				t.Fatalf("online: decided %t, predicted %+v", got, o.Online)
			}
			if w.connect(t, true, messages.CloudDenied, trust, now) {
				t.Fatal("the cloud said no")
			}
			if o.Online.Reason == "" || o.Offline.Reason == "" {
				t.Fatalf("no reason: %+v", o)
			}
			if !o.Offline.Allowed {
				refused++
				continue
			}
			allowed++
			if until := o.Offline.UntilMs; !w.connect(t, false, messages.CloudSilent, trust, until-1) || w.connect(t, false, messages.CloudSilent, trust, until) {
				t.Fatalf("it does not end at %d", until)
			}
		}
	})
	if !testing.Short() && (allowed == 0 || refused == 0) { // twenty draws need not have both
		t.Errorf("%d allowed and %d refused: that proves nothing", allowed, refused)
	}
}

// TestPredictSaysWhy: a row per reason.
func TestPredictSaysWhy(t *testing.T) {
	now := t0 + duration/2
	good := Attachment{Certificate: certA, ConfirmedMs: t0, Trust: messages.CertificateTrust{Verified: true, VerifiedMs: t0 + 1, NotBeforeMs: t0, NotAfterMs: t0 + expiry},
		NotBeforeMs: t0, NotAfterMs: t0 + expiry}
	for _, c := range []struct {
		name            string
		change          func(*Attachment, *Circumstances)
		online, offline string
		allowed         bool
	}{
		{"trusted", func(*Attachment, *Circumstances) {}, "the cloud decides", "stored trust counts", true},
		{"certificate lapsed", func(a *Attachment, _ *Circumstances) { a.Trust.VerifiedMs = now - duration }, "the cloud decides", "trust in the certificate lapsed at 2023-11-14 22:13:50Z", false},
		{"attachment lapsed", func(a *Attachment, _ *Circumstances) { a.ConfirmedMs = now - duration }, "the cloud decides", "trust that the certificate belongs to the thing lapsed at 2023-11-14 22:13:50Z", false},
		{"refused before", func(a *Attachment, _ *Circumstances) { a.Trust = messages.CertificateTrust{} }, "the cloud decides", "nobody vouches for the certificate", false},
		{"clock uncertain", func(_ *Attachment, c *Circumstances) { c.Trust.SinceMs = now }, "the cloud decides", "trust in the certificate does not count: it is from 2023-11-14 22:13:20Z, and how much time has passed since is not known, or it was voided", false},
		{"ahead of the clock", func(a *Attachment, _ *Circumstances) { a.Trust.VerifiedMs = now + 10*duration }, "the cloud decides", "trust in the certificate does not count: it is from 2023-11-14 22:23:50Z, ahead of the clock", false},
		{"void", func(a *Attachment, _ *Circumstances) { a.ConfirmedMs = messages.VoidMs }, "the cloud decides", "trust that the certificate belongs to the thing is void: it was given while the clock was wrong, and the cloud has to confirm it again", false},
		{"expired", func(_ *Attachment, c *Circumstances) { c.NowMs = t0 + expiry + 1 }, "the certificate is valid from 2023-11-14 22:13:20Z to 2023-11-14 22:23:20Z only", "the certificate is valid from 2023-11-14 22:13:20Z to 2023-11-14 22:23:20Z only", false},
		{"quarantined", func(_ *Attachment, c *Circumstances) { c.Quarantined = "stolen" }, "the device is quarantined: stolen", "the device is quarantined: stolen", false},
		{"policy", func(_ *Attachment, c *Circumstances) { c.ConnectAllowed = false }, "no statement of the device's groups lets it connect", "no statement of the device's groups lets it connect", false},
	} {
		a, in := good, Circumstances{Trust: minute(), NowMs: now, ConnectAllowed: true}
		c.change(&a, &in)
		o := Predict(a, in)
		if o.Online.Reason != c.online || o.Offline.Reason != c.offline || o.Offline.Allowed != c.allowed || o.Online.Allowed != (c.online == "the cloud decides") {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
}
