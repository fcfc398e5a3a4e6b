package load

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// The bounds of a Mix.
const (
	MixBytesMax = 64 << 10
	devicesMax  = 1_000_000
	brokersMax  = 10_000
	inFlightMax = 200_000
	rateMax     = 1_000_000
	phasesMax   = 100
	textMax     = 500
	totalMax    = 24 * time.Hour
	topicMax    = 512
	weightMax   = 1_000_000
)

// A Mix says what is asked of a Gatehouse, how often, and by how many. Its tags are its file's
// schema: key the name there, doc what it means.
type Mix struct {
	Name     string `key:"name" json:"name" doc:"what to call it"`
	About    string `key:"about" json:"about,omitempty" doc:"one sentence about it"`
	Devices  int    `key:"devices" json:"devices" min:"1" max:"1000000" doc:"how many devices there are (default 200)"`
	Brokers  int    `key:"brokers" json:"brokers" min:"1" max:"10000" doc:"how many brokers they are spread over, each with a connection and credentials of its own (default 4; NATS only)"`
	Seed     int    `key:"seed" json:"seed" min:"0" max:"9007199254740992" doc:"from which chance is drawn: the same seed, the same schedule (default 1)"`
	Arrivals string `key:"arrivals" json:"arrivals" enum:"poisson,constant" doc:"poisson: requests come by chance, as those of many independent devices do (default); constant: equally far apart"`

	Connected Share    `key:"connected" json:"connected" doc:"the share of devices that are connected when measuring begins (default 80%)"`
	Timeout   Duration `key:"timeout" json:"timeout" min:"10ms" max:"1m" doc:"how long a request waits for its answer (default 2s)"`
	InFlight  int      `key:"inFlight" json:"inFlight" min:"1" max:"200000" doc:"how many requests may wait for an answer at once; what is due beyond it counts as unsent (default 8192)"`
	LagLimit  Duration `key:"lagLimit" json:"lagLimit" min:"1ms" max:"1m" doc:"results are invalid if one request in a hundred was sent later than this: then the generator, or its machine, was the bottleneck (default 10ms)"`
	Prepare   Duration `key:"prepare" json:"prepare" min:"1s" max:"1h" doc:"how long the devices may take to connect before measuring begins (default 2m)"`

	Topics     Topics     `key:"topics" json:"topics" doc:"what devices ask for; ${thing} is the device's name, ${n} a number"`
	Denied     Share      `key:"denied" json:"denied" doc:"the share of publish and subscribe that asks for what the policy does not allow, and must be denied (default 5%)"`
	Away       Duration   `key:"away" json:"away" min:"0s" max:"1h" doc:"how long a device that churns stays away (default 1s)"`
	RevokedFor Duration   `key:"revokedFor" json:"revokedFor" min:"0s" max:"1h" doc:"how long a revoked device stays so (default 2s)"`
	Tolerate   bool       `key:"tolerateDenials" json:"tolerateDenials,omitempty" doc:"do not count it as wrong when a good device is denied: for runs in which somebody takes the cloud away, or changes the policy"`
	Operations Operations `key:"operations" json:"operations" doc:"the shares of what is asked: weights, of any sum"`
	Load       []Phase    `key:"load" json:"load" need:"yes" doc:"how much, in phases one after the other"`
}

// Topics are what devices ask for. The defaults fit the policy of gatehouse dev.
type Topics struct {
	Publish         string `key:"publish" json:"publish" need:"topic" doc:"a topic to which every device may publish (default sensors/${thing}/load)"`
	PublishDenied   string `key:"publishDenied" json:"publishDenied" need:"topic" doc:"one to which no device may (default load/${thing}/denied)"`
	Subscribe       string `key:"subscribe" json:"subscribe" need:"topic" doc:"a filter to which every device may subscribe (default sensors/${thing}/#)"`
	SubscribeDenied string `key:"subscribeDenied" json:"subscribeDenied" need:"topic" doc:"one to which no device may (default load/#)"`
}

// Operations are weights of what is asked.
type Operations struct {
	Publish     float64 `key:"publish" json:"publish,omitempty" doc:"may a connected device publish? (authorize; over MQTT it publishes, with QoS 1)"`
	Subscribe   float64 `key:"subscribe" json:"subscribe,omitempty" doc:"may it subscribe? (authorize; over MQTT it subscribes)"`
	Permissions float64 `key:"permissions" json:"permissions,omitempty" doc:"what may it do at all? (permissions; NATS only)"`
	Verify      float64 `key:"verify" json:"verify,omitempty" doc:"is its certificate a client device's? (verify; NATS only)"`
	Churn       float64 `key:"churn" json:"churn,omitempty" doc:"it disconnects (close), and connects again (authenticate) after a while"`
	Connect     float64 `key:"connect" json:"connect,omitempty" doc:"a device that is away connects (authenticate)"`
	Disconnect  float64 `key:"disconnect" json:"disconnect,omitempty" doc:"a connected device disconnects (close)"`
	Stranger    float64 `key:"stranger" json:"stranger,omitempty" doc:"somebody connects with a certificate that nobody knows, and must be denied"`
	Imposter    float64 `key:"imposter" json:"imposter,omitempty" doc:"a device connects under another's name, and must be denied"`
	Revoke      float64 `key:"revoke" json:"revoke,omitempty" doc:"an operator quarantines a connected device, whose session must end; it is released after a while, and comes back"`
}

// A Phase is a stretch of a Mix.
type Phase struct {
	Name       string      `key:"name" json:"name,omitempty" doc:"what to call it"`
	For        Duration    `key:"for" json:"for" need:"yes" min:"100ms" max:"24h" doc:"how long it lasts"`
	Rate       float64     `key:"rate" json:"rate,omitempty" max:"1000000" doc:"requests a second"`
	To         *float64    `key:"to" json:"to,omitempty" max:"1000000" doc:"a ramp: the rate at its end"`
	Think      Duration    `key:"think" json:"think,omitempty" min:"1ms" max:"24h" doc:"in place of rate: every device does something so often, on average"`
	Storm      Share       `key:"storm" json:"storm,omitempty" doc:"this share of the devices loses its connection at the phase's beginning and comes back at once, again and again until it is in"`
	Within     Duration    `key:"within" json:"within,omitempty" min:"1ms" max:"1h" doc:"a storm's devices come within this time (default 1s)"`
	Operations *Operations `key:"operations" json:"operations,omitempty" doc:"other shares than the mix's, in this phase"`
}

// A Duration is written as Go writes one: 1m30s.
type Duration time.Duration

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("want a duration, such as 250ms or 1m30s")
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes 1m30s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// A Share is a part of a whole, 0 to 1; in a file it is written 5%.
type Share float64

// UnmarshalText reads what MarshalText writes.
func (s *Share) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !percent || !(v >= 0 && v <= 100) {
		return errors.New("want a share, 0% to 100%")
	}
	*s = Share(v / 100)
	return nil
}

// MarshalText writes 5%.
func (s Share) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(s)*100, 'f', -1, 32) + "%"), nil
}

// defaultMix is what a file does not say.
func defaultMix() Mix {
	return Mix{
		Devices: 200, Brokers: 4, Seed: 1, Arrivals: "poisson", Connected: 0.8,
		Timeout: Duration(2 * time.Second), InFlight: 8192, LagLimit: Duration(10 * time.Millisecond), Prepare: Duration(2 * time.Minute),
		Topics: Topics{
			Publish: "sensors/${thing}/load", PublishDenied: "load/${thing}/denied",
			Subscribe: "sensors/${thing}/#", SubscribeDenied: "load/#",
		},
		Denied: 0.05, Away: Duration(time.Second), RevokedFor: Duration(2 * time.Second),
		Operations: Operations{Publish: 80, Subscribe: 10, Churn: 8, Permissions: 2},
	}
}

// Total is how long the phases last.
func (m *Mix) Total() time.Duration {
	var sum time.Duration
	for _, p := range m.Load {
		sum += time.Duration(p.For)
	}
	return sum
}

// Fit makes the mix last for d, by the same factor for each phase.
func (m *Mix) Fit(d time.Duration) {
	factor := float64(d) / float64(m.Total())
	for i := range m.Load {
		m.Load[i].For = Duration(time.Duration(float64(m.Load[i].For) * factor).Round(time.Microsecond))
	}
}

// Scale multiplies every rate so that the highest is rate a second.
func (m *Mix) Scale(rate float64) {
	highest := 0.0
	for i := range m.Load {
		from, to := m.rates(&m.Load[i])
		highest = max(highest, from, to)
	}
	if highest == 0 {
		return
	}
	for i := range m.Load {
		from, to := m.rates(&m.Load[i])
		to *= rate / highest
		m.Load[i].Rate, m.Load[i].To, m.Load[i].Think = from*rate/highest, &to, 0
	}
}

// rates are a phase's rates at its beginning and end.
func (m *Mix) rates(p *Phase) (from, to float64) {
	from = p.Rate
	if p.Think > 0 {
		from = float64(m.Devices) / time.Duration(p.Think).Seconds()
	}
	if to = from; p.To != nil {
		to = *p.To
	}
	return from, to
}

// of is the weights of a phase.
func (m *Mix) of(p *Phase) *Operations {
	if p.Operations != nil {
		return p.Operations
	}
	return &m.Operations
}

// Check says what of a mix contradicts itself or is too much, whoever made it.
func (m *Mix) Check() error {
	switch {
	case m.Devices < 1 || m.Devices > devicesMax:
		return fmt.Errorf("devices: %d, want 1 to %d", m.Devices, devicesMax)
	case m.Brokers < 1 || m.Brokers > brokersMax:
		return fmt.Errorf("brokers: %d, want 1 to %d", m.Brokers, brokersMax)
	case len(m.Load) == 0:
		return errors.New("load: no phases")
	case m.Total() > totalMax:
		return fmt.Errorf("load: the phases last %v, want at most %v", m.Total(), totalMax)
	}
	for i := range m.Load {
		if err := m.checkPhase(&m.Load[i]); err != nil {
			return fmt.Errorf("load[%d]: %w", i, err)
		}
	}
	return nil
}

func (m *Mix) checkPhase(p *Phase) error {
	from, to := m.rates(p)
	switch {
	case p.Think > 0 && (p.Rate > 0 || p.To != nil):
		return errors.New("rate and think are given: think is a rate by itself, devices ÷ think")
	case from > rateMax || to > rateMax:
		return fmt.Errorf("%g requests a second, want at most %d", max(from, to), rateMax)
	case p.Within > 0 && p.Storm == 0:
		return errors.New("within belongs to a storm: say which share of the devices it has")
	case time.Duration(p.Within) > time.Duration(p.For):
		return errors.New("within is longer than the phase")
	case from+to > 0 && m.of(p).sum() == 0:
		return errors.New("a rate, but no operations")
	}
	return nil
}

//go:embed mixes/*.yaml
var mixes embed.FS

// Names lists the mixes that come with the program.
func Names() []string {
	entries, err := fs.ReadDir(mixes, "mixes")
	if err != nil {
		panic(err) // it is embedded
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Named returns the file of a mix that comes with the program; false: there is none.
func Named(name string) ([]byte, bool) {
	doc, err := mixes.ReadFile("mixes/" + name + ".yaml")
	return doc, err == nil
}
