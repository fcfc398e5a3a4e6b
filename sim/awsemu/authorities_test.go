package awsemu_test

import (
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// A core that starts offline publishes its authority when the network comes, and a device
// discovers it, and after a change the old one beside the new one.
func TestAuthorityIsPublishedWhenTheNetworkComes(t *testing.T) {
	w := newWorld(t)
	if err := errors.Join(w.registry.Associate("core-1", noon, "pump-7"), second(w.registry.SetConnectivity("core-1", noon, awsemu.Connectivity{Host: "10.0.0.1"})), w.emulator.Offline(true)); err != nil {
		t.Fatal(err)
	}
	a := must[*cloudsync.Authorities](t)(cloudsync.NewAuthorities(w.config(t, w.core), "core-1"))
	defer a.Close()
	var up atomic.Bool
	u := must[*cloudsync.Uploader](t)(cloudsync.NewUploader(cloudsync.UploaderConfig{Put: a.Put, NetworkUp: up.Load}))
	discovered := func() []string {
		t.Helper()
		_, text, err := w.ask(t, w.pump, "GET", "/greengrass/discover/thing/pump-7", "")
		var got struct{ GGGroups []struct{ CAs []string } }
		if err != nil || json.Unmarshal([]byte(text), &got) != nil || len(got.GGGroups) != 1 {
			t.Fatalf("%s, %v", text, err)
		}
		return got.GGGroups[0].CAs
	}
	uploaded := make(chan error)
	go func() { uploaded <- u.Upload(t.Context(), w.devices.PEM(), untold) }()
	if err := w.emulator.Offline(false); err != nil {
		t.Fatal(err)
	}
	up.Store(true)
	u.NetworkChanged(true)
	if err := <-uploaded; err != nil {
		t.Fatal(err)
	}
	if got := discovered(); !slices.Equal(got, []string{string(w.devices.PEM())}) {
		t.Errorf("discovered %v", got)
	}
	if err := u.Upload(t.Context(), slices.Concat(w.devices.PEM(), w.servers.PEM()), untold); err != nil {
		t.Fatal(err)
	}
	if got := discovered(); !slices.Equal(got, []string{string(w.servers.PEM()), string(w.devices.PEM())}) {
		t.Errorf("discovered %v", got)
	}
}

// untold hears nothing.
func untold([]byte) error { return nil }

// Each way in which the cloud can fail is told apart from a no, and a no from a yes.
func TestFaultsOfPutting(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, w.core)
	cfg.Timeout = time.Second
	a := must[*cloudsync.Authorities](t)(cloudsync.NewAuthorities(cfg, "core-1"))
	defer a.Close()
	for _, c := range []struct {
		fault   awsemu.Fault
		failure messages.CloudFailure
	}{
		{awsemu.Fault{Status: 429, ErrorType: "ThrottlingException", RetryAfter: 7 * time.Second}, messages.FailureThrottled},
		{awsemu.Fault{Status: 500, ErrorType: "InternalServerException"}, messages.FailureServer},
		{awsemu.Fault{Status: 403, ErrorType: "AccessDeniedException"}, messages.FailureRefused},
		{awsemu.Fault{Drop: true}, messages.FailureUnreachable},
		{awsemu.Fault{Blackhole: true}, messages.FailureUnreachable},
		{awsemu.Fault{Truncate: true}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleGarbage}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleHTML}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleGzip}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleOversized}, messages.FailureNotService},
	} {
		c.fault.Operation = cloudsync.OpPutAuthorities
		w.setFaults(t, c.fault)
		put, ok := errors.AsType[*cloudsync.PutError](a.Put(t.Context(), w.devices.PEM()))
		if !ok || put.Answer.Verdict != messages.CloudSilent || put.Answer.Failure != c.failure || put.Answer.RetryAfter != c.fault.RetryAfter {
			t.Errorf("%+v: %+v", c.fault, put)
		}
	}
	w.setFaults(t)
	if err := a.Put(t.Context(), w.devices.PEM()); err != nil {
		t.Error(err)
	}
	other := must[*cloudsync.Authorities](t)(cloudsync.NewAuthorities(cfg, "core-2"))
	defer other.Close()
	if put, ok := errors.AsType[*cloudsync.PutError](other.Put(t.Context(), w.devices.PEM())); !ok || put.Answer.Failure != messages.FailureRefused {
		t.Errorf("for another core: %+v", put)
	}
}
