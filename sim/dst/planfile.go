package dst

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Limits of a plan's file.
const (
	PlanBytesMax   = 64 << 20
	actionsMax     = 1_000_000
	textBytesMax   = 64 << 10
	nameBytesMax   = 70_000 // longer than any topic
	spanMax        = 20 * 366 * 24 * time.Hour
	clientsExtra   = 1_000_000 // clients that are no devices
	generationsMax = 1000
)

// ReadPlan reads a plan from its JSON. What it does not know, or what is out of bounds, is
// an error that says where.
func ReadPlan(r io.Reader) (*Plan, error) {
	data, err := io.ReadAll(io.LimitReader(r, PlanBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if len(data) > PlanBytesMax {
		return nil, fmt.Errorf("read plan: more than %d bytes", PlanBytesMax)
	}
	var f planFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("read plan: byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read plan: byte %d: more after its end", d.InputOffset())
	}
	p := f.plan()
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return p, nil
}

// MarshalJSON implements json.Marshaler: durations as Go writes them.
func (p *Plan) MarshalJSON() ([]byte, error) {
	f := planFile{
		Seed: p.Seed, Devices: p.Devices, Brokers: p.Brokers, Duration: span(p.Duration), Faults: p.Faults, Mode: p.Mode,
		Setup: p.Setup, Actions: make([]actionFile, len(p.Actions)),
	}
	for i := range p.Actions {
		f.Actions[i] = fileOf(&p.Actions[i])
	}
	if h := p.Herd; h != nil {
		f.Herd = &herdFile{h.Churn, h.Revoked, h.Publishes, h.Storms, h.Connected, span(h.Arrival)}
	}
	return json.Marshal(f)
}

// UnmarshalJSON implements json.Unmarshaler, as strictly as ReadPlan.
func (p *Plan) UnmarshalJSON(data []byte) error {
	read, err := ReadPlan(bytes.NewReader(data))
	if err == nil {
		*p = *read
	}
	return err
}

// Check says what is wrong with the plan.
func (p *Plan) Check() error {
	if err := p.Config.Check(); err != nil {
		return err
	}
	switch {
	case p.Devices == 0 || p.Brokers == 0 || p.Duration == 0:
		return errors.New("devices, brokers and duration must be said")
	case p.Setup.Newcomers < 0 || p.Setup.Newcomers > p.Devices:
		return fmt.Errorf("%d newcomers of %d devices", p.Setup.Newcomers, p.Devices)
	case len(p.Setup.Policy) > textBytesMax || len(p.Setup.Section) > textBytesMax:
		return fmt.Errorf("a document of more than %d bytes", textBytesMax)
	case len(p.Actions) > actionsMax:
		return fmt.Errorf("%d actions, at most %d", len(p.Actions), actionsMax)
	}
	if h := p.Herd; h != nil {
		if err := h.check(); err != nil {
			return err
		}
	}
	last := Action{ID: -1}
	for i := range p.Actions {
		a := &p.Actions[i]
		if err := a.check(p); err != nil {
			return fmt.Errorf("action %d (no. %d of the plan): %w", a.ID, i+1, err)
		}
		if a.At < last.At || a.ID <= last.ID {
			return fmt.Errorf("action %d (no. %d of the plan): comes after one of %v with number %d", a.ID, i+1, last.At, last.ID)
		}
		last = *a
	}
	return nil
}

func (h *Herd) check() error {
	for _, v := range []float64{h.Churn, h.Revoked, h.Connected} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("herd: a rate of %g, want 0 to 1", v)
		}
	}
	if !(h.Publishes >= 0 && h.Publishes <= 3600) || h.Storms < 0 || h.Storms > 1000 || h.Arrival < 0 || h.Arrival > spanMax {
		return errors.New("herd: publishes 0 to 3600, storms 0 to 1000, arrival not negative")
	}
	return nil
}

func (a *Action) check(p *Plan) error {
	if a.Kind == 0 || a.Kind >= kindsEnd {
		return errors.New("no kind")
	}
	info := &kinds[a.Kind]
	in := func(v, end int) bool { return v >= 0 && v < end }
	switch {
	case a.At < 0 || a.At > p.Duration:
		return fmt.Errorf("at %v, the run has %v", a.At, p.Duration)
	case !in(a.Client, p.Devices+clientsExtra):
		return fmt.Errorf("client %d", a.Client)
	case !in(a.Broker, p.Brokers):
		return fmt.Errorf("broker %d of %d", a.Broker, p.Brokers)
	case !in(a.Thing, p.Devices):
		return fmt.Errorf("thing %d of %d", a.Thing, p.Devices)
	case a.Count < 0 || a.Thing+a.Count > p.Devices:
		return fmt.Errorf("%d things from %d on, of %d", a.Count, a.Thing, p.Devices)
	case a.Cert.Of < -(p.Devices+clientsExtra) || a.Cert.Of >= p.Devices || !in(a.Cert.Gen, generationsMax) || !slices.Contains(spoilt, a.Cert.Spoilt) || !slices.Contains(signers, a.Cert.By):
		return fmt.Errorf("certificate %+v", a.Cert)
	case a.Cert.By == byFleet && a.Cert.Of >= 0 && !p.newcomer(a.Cert.Of):
		return fmt.Errorf("certificate %+v: the fleet's authority signs for newcomers", a.Cert)
	case len(a.Text) > textBytesMax || len(a.Name) > nameBytesMax:
		return fmt.Errorf("a text of more than %d bytes, or a name of more than %d", textBytesMax, nameBytesMax)
	case a.For < 0 || a.For > spanMax || a.Amount.Abs() > spanMax || a.Amount < 0 && a.Kind != FaultClock && a.How != "time":
		return errors.New("a duration out of bounds")
	case !(a.Rate >= -1 && a.Rate <= 1):
		return fmt.Errorf("rate %g", a.Rate)
	case info.hows == nil && a.How != "" || info.hows != nil && !slices.Contains(info.hows, a.How):
		return fmt.Errorf("%s %q is none of %s", info.name, a.How, strings.Join(info.hows, ", "))
	}
	return nil
}

var (
	spoilt  = []string{"", "expired", "future", "garbage"}
	signers = []string{byNobody, byFleet, byRogue}
)

// span is a duration as people write it.
type span time.Duration

// MarshalText implements encoding.TextMarshaler.
func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

// planFile is a plan in its file.
type planFile struct {
	Seed     uint64       `json:"seed"`
	Devices  int          `json:"devices"`
	Brokers  int          `json:"brokers"`
	Duration span         `json:"duration"`
	Faults   Faults       `json:"faults"`
	Mode     Mode         `json:"mode"`
	Setup    Setup        `json:"setup"`
	Herd     *herdFile    `json:"herd,omitempty"`
	Actions  []actionFile `json:"actions"`
}

type herdFile struct {
	Churn     float64 `json:"churn"`
	Revoked   float64 `json:"revoked"`
	Publishes float64 `json:"publishes"`
	Storms    int     `json:"storms"`
	Connected float64 `json:"connected"`
	Arrival   span    `json:"arrival"`
}

type actionFile struct {
	ID     int     `json:"id"`
	At     span    `json:"at"`
	Kind   Kind    `json:"kind"`
	Client int     `json:"client,omitempty"`
	Broker int     `json:"broker,omitempty"`
	Thing  int     `json:"thing,omitempty"`
	Cert   Cert    `json:"cert,omitzero"`
	Name   string  `json:"name,omitempty"`
	Text   string  `json:"text,omitempty"`
	How    string  `json:"how,omitempty"`
	For    span    `json:"for,omitzero"`
	Amount span    `json:"amount,omitzero"`
	Rate   float64 `json:"rate,omitempty"`
	Count  int     `json:"count,omitempty"`
}

func fileOf(a *Action) actionFile {
	return actionFile{a.ID, span(a.At), a.Kind, a.Client, a.Broker, a.Thing, a.Cert, a.Name, a.Text, a.How, span(a.For), span(a.Amount), a.Rate, a.Count}
}

func (f *planFile) plan() *Plan {
	p := &Plan{
		Config: Config{Seed: f.Seed, Devices: f.Devices, Brokers: f.Brokers, Duration: time.Duration(f.Duration), Faults: f.Faults, FaultsChosen: true, Mode: f.Mode},
		Setup:  f.Setup,
	}
	if h := f.Herd; h != nil {
		p.Herd = &Herd{h.Churn, h.Revoked, h.Publishes, h.Storms, h.Connected, time.Duration(h.Arrival)}
	}
	for _, a := range f.Actions {
		p.Actions = append(p.Actions, Action{a.ID, time.Duration(a.At), a.Kind, a.Client, a.Broker, a.Thing, a.Cert, a.Name, a.Text, a.How, time.Duration(a.For), time.Duration(a.Amount), a.Rate, a.Count})
	}
	return p
}
