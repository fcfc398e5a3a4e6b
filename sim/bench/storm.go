package main

import (
	"context"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/sim/load/storm"
)

// stormBrokers is how many brokers a fleet comes back to: with their clients' bound, 256
// requests each, they ask for all that the desk takes at once.
const stormBrokers = 8

// comeBack measures how long it takes until every device of a fleet is in that comes back at
// once, as after the restart of a broker, with the cloud away: what is stored decides. The
// daemon is a process of its own. One device in a hundred is in quarantine, and an operator
// orders such all the time.
func comeBack(ctx context.Context, b *bench) ([]Row, error) {
	return ofEach(ctx, b, b.storms, stormOf)
}

func stormOf(ctx context.Context, b *bench, program string, f fleet) (rows []Row, err error) {
	s, err := newSite(b, program, f.devices)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	devices := stormDevices(f.devices)
	if err := s.fillWith(ctx, stormLives(devices)); err != nil {
		return nil, err
	}
	var p *process
	defer func() { p.kill() }()
	if p, err = s.run(ctx); err != nil {
		return nil, err
	}
	brokers, leave, err := s.brokers(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	ops, err := s.operator(ctx)
	if err != nil {
		return nil, err
	}
	defer ops.Close()
	for i := range devices {
		if devices[i].Barred {
			if err := quarantine(ctx, ops, devices[i].Thing); err != nil {
				return nil, err
			}
		}
	}
	// The fleet has the cores in common with what is measured. Its collector looks through the
	// stacks of as many goroutines as there are devices: in some runs that was half of its time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	before, fleetBefore := p.processorTime(), processorTime()
	orders, stop := orderOn(ctx, ops)
	r := storm.Run(ctx, brokers, devices)
	took, err := stop()
	if err != nil {
		return nil, err
	}
	if r.FalseAllows+r.FalseDenies+r.Left > 0 || r.In+r.Barred != len(devices) {
		return nil, fmt.Errorf("%d false allows, %d false denies, %d never had an answer, %d of %d in", r.FalseAllows, r.FalseDenies, r.Left, r.In, len(devices))
	}
	of := func(d time.Duration) []sample { return []sample{{ops: 1, took: d}} }
	seconds, millis := func(s sample) float64 { return s.took.Seconds() }, func(s sample) float64 { return micros(s.took) / 1000 }
	all := alone("storm/"+f.name, "s", of(r.Took), seconds, f.hold, f.aim)
	all.Note = fmt.Sprintf("%.0f/s; processor time of the daemon %.1f s, of the fleet %.1f s; %d tries, %d times busy, %d silent", float64(r.In)/r.Took.Seconds(), (p.processorTime() - before).Seconds(), (processorTime() - fleetBefore).Seconds(), r.Tries, r.Busy, r.Silent)
	mib := alone("storm/"+f.name+"/memory", " MiB", []sample{{ops: int(p.peakBytes() >> 10)}}, func(s sample) float64 { return float64(s.ops) / 1024 }, atMost(1024), nil)
	order := alone("storm/"+f.name+"/order-p99", "ms", of(took), millis, atMost(100), nil)
	order.Note = fmt.Sprintf("what an operator orders meanwhile (%d)", orders())
	return []Row{all, alone("storm/"+f.name+"/p99", "ms", of(r.Quantile(0.99)), millis, atMost(1000), nil), order, mib}, p.end(os.Interrupt)
}

// stormDevices makes a fleet. What is sent as a certificate is as long as one, and as little
// looked at as that of any device that is known: its digest is.
func stormDevices(n int) []storm.Device {
	devices := make([]storm.Device, n)
	for i := range devices {
		thing := messages.ThingName(fmt.Sprintf("pump-%05d", i))
		der, err := asn1.Marshal(struct {
			Name string
			Rest []byte
		}{string(thing), make([]byte, 600)})
		if err != nil {
			panic("bench: " + err.Error()) // of two fields
		}
		devices[i] = storm.Device{Thing: thing, DER: der, Barred: i%100 == 0}
	}
	return devices
}

// stormLives is what the fleet has left on record: it was verified, and is connected.
func stormLives(devices []storm.Device) func(yield func(eventlog.Batch) bool) {
	return func(yield func(eventlog.Batch) bool) {
		for i, d := range devices {
			id := messages.CertificateIDOf(d.DER)
			stream, session := opened(i, 0)
			session.(*messages.SessionOpened).CertificateId = string(id)
			verified := &messages.CertificateVerified{Source: messages.Source_SOURCE_CLOUD, NotAfterMs: lastsUntilMs, Der: d.DER, Subject: "CN=" + string(d.Thing)}
			attached := &messages.AttachmentVerified{CertificateId: string(id), Source: messages.Source_SOURCE_CLOUD}
			if !yield(batchOf(messages.CertificateStream(id), []messages.Event{verified})) || !yield(batchOf(stream, []messages.Event{attached, session})) {
				return
			}
		}
	}
}

// reach says where the daemon's NATS server is.
func (s *site) reach() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "run.json"))
	if err != nil {
		return "", err
	}
	var run struct{ NATS string }
	return run.NATS, json.Unmarshal(text, &run)
}

// brokers adds brokers and connects as each.
func (s *site) brokers(ctx context.Context) (all []*client.Client, leave func(), err error) {
	leave = func() {
		for _, c := range all {
			_ = c.Close()
		}
	}
	url, err := s.reach()
	if err != nil {
		return nil, leave, err
	}
	for i := range stormBrokers {
		name := fmt.Sprintf("broker-%d", i)
		add := exec.CommandContext(ctx, s.program, "broker", "add", name, "--dir", filepath.Join(s.dir, "data"))
		if said, err := add.CombinedOutput(); err != nil {
			return nil, leave, fmt.Errorf("add a broker: %w: %s", err, said)
		}
		creds, err := os.ReadFile(filepath.Join(s.dir, "data", "brokers", name+".creds"))
		if err != nil {
			return nil, leave, err
		}
		c, err := client.Connect(ctx, client.Config{Broker: messages.BrokerID(name), URL: url, Credentials: creds})
		if err != nil {
			return nil, leave, err
		}
		all = append(all, c)
	}
	for _, c := range all {
		if err := c.Ready(ctx); err != nil {
			return nil, leave, err
		}
	}
	return all, leave, nil
}

func (s *site) operator(context.Context) (*admin.Client, error) {
	url, err := s.reach()
	if err != nil {
		return nil, err
	}
	creds, err := os.ReadFile(filepath.Join(s.dir, "data", "brokers", authapi.OperatorAdmin+".creds"))
	if err != nil {
		return nil, err
	}
	return admin.Dial(url, authapi.OperatorAdmin, creds, nil)
}

// orderPatience is how long an operator waits; longer than the daemon tries.
const orderPatience = 30 * time.Second

// quarantine orders what restricts.
func quarantine(ctx context.Context, ops *admin.Client, thing messages.ThingName) error {
	ctx, cancel := context.WithTimeout(ctx, orderPatience) // an answer that is lost is not waited for
	defer cancel()
	return ops.Ask(ctx, "quarantine", map[string]string{"thing": string(thing), "reason": "bench"}, nil)
}

// orderOn has an operator put one device after the other into quarantine, which are none of
// the fleet, fifty a second, until stop, which returns the 99th percentile of the time until
// they were acknowledged.
func orderOn(ctx context.Context, ops *admin.Client) (count func() int, stop func() (time.Duration, error)) {
	over := make(chan struct{})
	var took []time.Duration
	var failed error
	var work sync.WaitGroup
	work.Go(func() {
		for i := 0; failed == nil; i++ {
			at := time.Now()
			failed = quarantine(ctx, ops, messages.ThingName(fmt.Sprintf("other-%d", i)))
			took = append(took, time.Since(at))
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() int { return len(took) }, func() (time.Duration, error) {
		close(over)
		work.Wait()
		slices.Sort(took)
		return took[(len(took)-1)*99/100], failed
	}
}
