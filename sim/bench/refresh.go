package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// What connects while trust is refreshed, and how fast the refresh asks.
const (
	arrivalsPerSecond = 100
	refreshWorkers    = 4                // performance.maxConcurrentCloudRequests
	quietTime         = 30               // rounds of connecting without a refresh, half before and half after
	refreshPatience   = 40 * time.Minute // for the whole refresh
)

// swapCloud is a cloud that gives way to another.
type swapCloud struct{ now atomic.Pointer[actors.Cloud] }

func (s *swapCloud) use(c actors.Cloud) { s.now.Store(&c) }

// Ask implements actors.Cloud.
func (s *swapCloud) Ask(q messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	return (*s.now.Load()).Ask(q, done)
}

// refresh measures devices that connect, each asked about in an emulated cloud, while all
// stored trust is refreshed at the configured rate, beside the same without a refresh.
func refresh(ctx context.Context, b *bench) (rows []Row, err error) {
	cloud := &swapCloud{}
	cloud.use(kindCloud{})
	h, err := openHouse(ctx, b, b.devices, 1, cloud)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	real, lister, end, err := emulated(b, h)
	if err != nil {
		return nil, err
	}
	defer end()
	cloud.use(real)
	real.OnNetworkChange(h.core.sys.SetNetwork)
	if err := real.Settle(ctx); err != nil {
		return nil, err
	}
	h.core.sys.SetNetwork(real.NetworkUp())
	refresher := actors.NewRefresher(h.core.sys, lister, h.core.views, h.core.machine, slog.New(slog.DiscardHandler))
	defer refresher.Close()

	a := &arrivals{house: h}
	if _, err := a.run(ctx, b.round, nil); err != nil { // not counted
		return nil, err
	}
	before, err := a.run(ctx, quietTime/2*b.round, nil)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	answer, err := refresher.Run(ctx)
	if err != nil || answer.Outcome != messages.RefreshBegun {
		return nil, fmt.Errorf("refresh: %+v, %w", answer, err)
	}
	during, err := a.run(ctx, refreshPatience, func() bool {
		s := refresher.Status()
		return s.Phase == "" && s.Done == 2*len(h.devices)
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	if s := refresher.Status(); s.Renewed != 2*len(h.devices) || s.Removed+s.Denied+s.Unanswered != 0 {
		return nil, fmt.Errorf("the refresh did %+v, want %d renewed", s, 2*len(h.devices))
	}
	after, err := a.run(ctx, quietTime/2*b.round, nil)
	if err != nil {
		return nil, err
	}
	quiet := sample{ops: before.ops + after.ops, took: before.took + after.took, latencies: append(before.latencies, after.latencies...)}
	slices.Sort(quiet.latencies)
	p99 := latency("refresh/authenticate-p99", []sample{during}, []sample{quiet}, atMost(1.5), nil)
	p99.Note = fmt.Sprintf("%d connects a second; %d devices refreshed at %d questions a second in %.0f s", arrivalsPerSecond, len(h.devices), b.refreshRate, took.Seconds())
	pace := Row{Name: "refresh/rate", Unit: "/s", Ours: float64(2*len(h.devices)) / took.Seconds(), Reference: float64(b.refreshRate)}
	pace.Ratio = pace.Ours / pace.Reference
	pace.Spread = [2]float64{pace.Ratio, pace.Ratio}
	return []Row{p99, pace.judged()}, nil
}

// emulated starts an emulated cloud that knows the devices of h, all associated with its
// core, and what asks it. The cloud is a process of its own, as it is in the field: its
// garbage is not to be collected at the devices' cost.
func emulated(b *bench, h *house) (c *cloudsync.Cloud, lister *associations.Lister, end func(), err error) {
	var closers []func()
	end = func() {
		for _, f := range slices.Backward(closers) {
			f()
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	authority, err := awsemu.NewAuthority("bench cloud", time.Now())
	if err != nil {
		return nil, nil, nil, err
	}
	core, err := authority.IssueDevice(benchCore, time.Now())
	if err != nil {
		return nil, nil, nil, err
	}
	dir, err := b.folder("cloud")
	if err == nil {
		err = seed(dir, authority, core, h.devices)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	at, stop, err := startChild(dir)
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, stop)
	identity, err := core.TLS()
	if err != nil {
		return nil, nil, nil, err
	}
	c, err = cloudsync.New(cloudsync.Config{
		DataPlane: cloudsync.DataPlaneConfig{Endpoint: at.Data, ServerName: awsemu.ServerName, Identity: identity, Roots: authority.Pool(), Now: time.Now},
		Queue:     cloudsync.QueueConfig{Workers: refreshWorkers, RefreshRate: b.refreshRate},
	})
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, c.Close)
	lister, err = associations.New(associations.Config{Core: benchCore, Control: control.Config{
		Region: awsemu.Region, Endpoint: at.Control, Credentials: credentials.Static(at.Key, at.Secret, at.Session), Roots: authority.Pool(), Now: time.Now,
	}})
	if err == nil {
		closers = append(closers, lister.Close)
	}
	return c, lister, end, err
}

// arrivals are devices that connect at a fixed rate, whether the last ones were answered
// or not: a latency counts from when the device came.
type arrivals struct {
	house *house
	next  int
}

// run lets devices come for d, or until over says so.
func (a *arrivals) run(ctx context.Context, d time.Duration, over func() bool) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var got sample
	subject := authapi.Subject(brokerName, authapi.OpAuthenticate)
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		at := start.Add(time.Duration(n) * time.Second / arrivalsPerSecond)
		if at.Sub(start) >= d || over != nil && over() {
			break
		}
		time.Sleep(time.Until(at))
		i := a.next % len(a.house.devices)
		a.next++
		wg.Go(func() {
			m, err := a.house.core.broker.Request(subject, a.house.bodies[i], patience)
			took := time.Since(at)
			if err == nil {
				err = judged(m, 0, i, func(_, i int, body []byte) error {
					_, err := a.house.admitted(i, body)
					return err
				})
			}
			if err != nil {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got.latencies = append(got.latencies, took)
		})
	}
	wg.Wait()
	got.ops, got.took = len(got.latencies), time.Since(start)
	slices.Sort(got.latencies)
	return got, context.Cause(ctx)
}
