package dst

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const pendingPolicy = `{"formatVersion":"2021-03-05","definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"},` +
	`"pending":{"selectionRule":"thingName: *","policyName":"q"}},` +
	`"policies":{"p":{"s":{"effect":"ALLOW","operations":["mqtt:*"],"resources":["mqtt:clientId:*","mqtt:topic:own/*"]}},` +
	`"q":{"s":{"effect":"ALLOW","operations":["mqtt:*"],"resources":["mqtt:clientId:*","mqtt:topic:all"]}}}}`

// TestNewcomers: while the cloud is away, refused or silent, those that the fleet's authority has signed for are
// admitted as pending, and settled when it is back; those of a rogue are not.
func TestNewcomers(t *testing.T) {
	for _, how := range []string{"down", "unreachable"} {
		t.Run(how, func(t *testing.T) {
			p := &Plan{
				Config: Config{Seed: 5, Devices: 3, Brokers: 1, Duration: 10 * time.Minute, Faults: CloudDown, FaultsChosen: true},
				Setup:  Setup{Policy: pendingPolicy, Section: testSection, Newcomers: 2, Offline: true},
			}
			p.Actions = []Action{
				{Kind: FaultCloud, How: how, For: 5 * time.Minute},
				{At: time.Minute, Kind: Connect, Client: 1, Thing: 1, Cert: p.certOf(1, 0)},
				{At: 65 * time.Second, Kind: Publish, Client: 1, Name: "all"},
				{At: 65 * time.Second, Kind: Publish, Client: 1, Name: ownTopic(1)},
				{At: 70 * time.Second, Kind: Connect, Client: 2, Thing: 2, Cert: Cert{Of: 2, By: byRogue}},
				{At: 80 * time.Second, Kind: Connect, Client: 3, Thing: 2, Cert: Cert{Of: 2}},
				{At: 8 * time.Minute, Kind: Connect, Client: 2, Thing: 2, Cert: p.certOf(2, 0)},
			}
			for i := range p.Actions {
				p.Actions[i].ID = i + 1
			}
			r, err := Play(t.Context(), p, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Violation != nil {
				t.Errorf("%v", r.Violation)
			}
			pending, opened := r.Counts.Records[messages.KindDevicePending.String()], r.Counts.Records[messages.KindPendingSessionOpened.String()]
			if pending != 1 || opened != 1 || r.Counts.Allowed["publish"] < 1 || r.Counts.Denied["publish"] < 1 || r.Counts.Checks["S10"] == 0 {
				t.Errorf("%d pending, %d sessions; %+v", pending, opened, r.Counts)
			}
		})
	}
}

// pends puts on record that a device is pending, and has it get in.
func (f *forger) pends(device int, c Cert) {
	f.record(messages.DeviceStream(ThingOf(device)), &messages.DevicePending{CertificateId: string(IDOf(c)), Der: DER(c)})
	f.pendingIn(device, c)
}

func (f *forger) pendingIn(device int, c Cert) {
	d := digestNo(byte(10 + device))
	f.record(messages.DeviceStream(ThingOf(device)), &messages.PendingSessionOpened{Session: d[:], CertificateId: string(IDOf(c)), Broker: string(BrokerOf(0))})
	f.Asked(ask(device, 0, c, byte(10+device), f.at))
}

func (f *forger) pendingPublishes(device int, topic string) {
	f.Asked(&Ask{Op: Publish, Client: device, Broker: 0, Begun: f.at, Outcome: Allowed, Name: topic, Session: digestNo(byte(10 + device)), ClientThing: ThingOf(device)})
}

// TestPendingLies: what must not be of pending devices is seen, and what may is let pass.
func TestPendingLies(t *testing.T) {
	fleet := func(i int) Cert { return Cert{Of: i, By: byFleet} }
	for _, c := range []struct {
		want, name string
		lie        func(f *forger)
	}{
		{"", "all is as it should be", func(f *forger) {
			f.pends(1, fleet(1))
			f.pass(time.Second)
			f.pendingPublishes(1, "all")
			f.pends(2, fleet(2))
		}},
		{"S10", "a rogue's certificate", func(f *forger) { f.pends(1, Cert{Of: 1, By: byRogue}) }},
		{"S10", "a certificate that nobody signed", func(f *forger) { f.pends(1, Cert{Of: 1}) }},
		{"S10", "another's certificate", func(f *forger) { f.pends(1, fleet(2)) }},
		{"S10", "somebody who was registered", func(f *forger) { f.pends(0, fleet(0)) }},
		{"S10", "more than may be", func(f *forger) {
			for i := 1; i <= pendingMax+1; i++ {
				f.pends(i, fleet(i))
			}
		}},
		{"S10", "all has been well", func(f *forger) {
			f.pass(calmAfter + time.Second)
			f.pends(1, fleet(1))
		}},
		{"S10", "after it was withdrawn", func(f *forger) {
			f.pends(1, fleet(1))
			f.record(messages.DeviceStream(ThingOf(1)), &messages.PendingWithdrawn{CertificateId: string(IDOf(fleet(1)))})
			f.pass(time.Second)
			f.pendingIn(1, fleet(1))
		}},
		{"S10", "after the quarantine", func(f *forger) {
			f.pends(1, fleet(1))
			f.quarantine(1)
			f.pass(time.Second)
			f.record(messages.DeviceStream(ThingOf(1)), &messages.DeviceReleased{})
			f.pass(time.Second)
			f.pendingIn(1, fleet(1))
		}},
		{"S10", "for longer than trust lasts", func(f *forger) {
			f.pends(1, fleet(1))
			f.pass(15 * time.Minute)
			f.pendingIn(1, fleet(1))
		}},
		{"S10", "with a session for longer than trust lasts", func(f *forger) {
			f.pends(1, fleet(1))
			f.pass(15 * time.Minute)
			f.pendingPublishes(1, "all")
		}},
		{"S4", "as if it were registered", func(f *forger) {
			f.pends(1, fleet(1))
			f.pendingPublishes(1, ownTopic(1))
		}},
		{"S3", "as more before the cloud has said so", func(f *forger) {
			f.pends(1, fleet(1))
			f.pass(time.Second)
			f.opens(1, 0, fleet(1), 9)
			f.Asked(ask(1, 0, fleet(1), 9, f.at))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newForger(t, func(p *Plan) {
				p.Devices, p.Setup.Newcomers, p.Setup.Offline = pendingMax+2, pendingMax+1, true
			})
			f.record(messages.StreamPolicy, &messages.PolicyReplaced{Document: []byte(pendingPolicy)})
			f.pass(10 * time.Second)
			if c.lie(f); (f.violation == nil) != (c.want == "") || f.violation != nil && f.violation.Invariant != c.want {
				t.Errorf("got %v, want %q", f.violation, c.want)
			}
		})
	}
}
