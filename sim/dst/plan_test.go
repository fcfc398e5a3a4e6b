package dst

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func samplePlan() *Plan {
	return &Plan{
		Config: Config{Seed: 7, Devices: 3, Brokers: 2, Duration: time.Hour, Faults: Crash | CloudDown, FaultsChosen: true, Mode: Safety},
		Setup:  Setup{Policy: "formatVersion: x", Newcomers: 1, Battery: true},
		Herd:   &Herd{Churn: .01, Arrival: time.Minute},
		Actions: []Action{
			{ID: 1, At: time.Second, Kind: Connect, Client: 2, Broker: 1, Thing: 2, Cert: Cert{Of: 2, Gen: 1}},
			{ID: 4, At: time.Minute, Kind: FaultCloud, How: "down", For: time.Minute, Rate: .5},
			{ID: 9, At: time.Minute, Kind: FaultClock, How: "jump", Amount: -time.Hour},
		},
	}
}

// TestPlanRoundTrips: a plan that was written is read as it was.
func TestPlanRoundTrips(t *testing.T) {
	want := samplePlan()
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadPlan(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestPlanRefused: what is wrong with a plan is said with its place.
func TestPlanRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Plan)
		want  string
	}{
		"no devices":       {func(p *Plan) { p.Devices = 0 }, "must be said"},
		"thing":            {func(p *Plan) { p.Actions[0].Thing = 3 }, "action 1 (no. 1 of the plan): thing 3 of 3"},
		"broker":           {func(p *Plan) { p.Actions[0].Broker = 2 }, "broker 2 of 2"},
		"kind":             {func(p *Plan) { p.Actions[0].Kind = 0 }, "no kind"},
		"how":              {func(p *Plan) { p.Actions[1].How = "odd" }, `cloud "odd" is none of down,`},
		"how of none":      {func(p *Plan) { p.Actions[0].How = "odd" }, `connect "odd" is none of`},
		"order":            {func(p *Plan) { p.Actions[2].At = 0 }, "comes after one of 1m0s"},
		"number":           {func(p *Plan) { p.Actions[2].ID = 4 }, "with number 4"},
		"late":             {func(p *Plan) { p.Actions[2].At = 2 * time.Hour }, "the run has 1h0m0s"},
		"negative":         {func(p *Plan) { p.Actions[1].Amount = -1 }, "a duration out of bounds"},
		"herd":             {func(p *Plan) { p.Herd.Churn = 2 }, "herd: a rate of 2"},
		"newcomers":        {func(p *Plan) { p.Setup.Newcomers = 4 }, "4 newcomers of 3"},
		"spoilt":           {func(p *Plan) { p.Actions[0].Cert.Spoilt = "odd" }, "certificate"},
		"too many devices": {func(p *Plan) { p.Devices = DevicesMax + 1 }, "devices, want 1 to"},
	} {
		t.Run(name, func(t *testing.T) {
			p := samplePlan()
			c.spoil(p)
			if err := p.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, doc := range []string{`{`, `{"seed":1} x`, `{"sed":1}`, `{"actions":[{"kind":"odd"}]}`, `{"duration":"1x"}`, `{"faults":"odd"}`, `{"mode":"odd"}`} {
		if p, err := ReadPlan(strings.NewReader(doc)); err == nil {
			t.Errorf("%s: got %+v", doc, p)
		}
	}
}

// TestNames: every kind and fault has a name that is read back.
func TestNames(t *testing.T) {
	for k := Kind(1); k < kindsEnd; k++ {
		var got Kind
		if err := got.UnmarshalText([]byte(k.String())); err != nil || got != k {
			t.Errorf("%v: got %v, %v", k, got, err)
		}
		for _, how := range append(kinds[k].hows, "") {
			if f := (&Action{Kind: k, How: how}).Fault(); f&^AllFaults != 0 || f == 0 && k >= FaultStore && k < Restart && (how != "" || kinds[k].hows == nil) {
				t.Errorf("%v %q: fault %v", k, how, f)
			}
		}
	}
	for i, name := range faultNames {
		if f, err := ParseFaults(name); err != nil || f != 1<<i && name != "crash" {
			t.Errorf("%s: got %v, %v", name, f, err)
		}
	}
	if f, err := ParseFaults("net,crash"); err != nil || f != NetDrop|NetDelay|NetDuplicate|NetPartition|NetRestart|Crash {
		t.Errorf("net,crash: got %v, %v", f, err)
	}
	for i := range 100 {
		if got, ok := DeviceOf(ThingOf(i)); !ok || got != i {
			t.Errorf("device %d: %s is %d, %v", i, ThingOf(i), got, ok)
		}
	}
	for _, none := range []string{"", "sensor", "sensor-", "sensor-1", "sensor-00", "pump-x", "sensor--4", "other-1"} {
		if got, ok := DeviceOf(messages.ThingName(none)); ok {
			t.Errorf("%q is device %d", none, got)
		}
	}
}

// FuzzReadPlan: whatever is read is written and read again as the same.
func FuzzReadPlan(f *testing.F) {
	data, err := json.Marshal(samplePlan())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"seed":1,"devices":1,"brokers":1,"duration":"1h","faults":"none","mode":"both","setup":{},"actions":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadPlan(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := ReadPlan(bytes.NewReader(again))
		if err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("read %+v\nthen %+v, %v", p, q, err)
		}
	})
}
