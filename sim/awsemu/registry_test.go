package awsemu_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

func TestRegistryRefusesWhatDoesNotFit(t *testing.T) {
	w := newWorld(t)
	r := w.registry
	for name, test := range map[string]struct {
		err  error
		want error // nil: any
	}{
		"attach to an unknown thing":      {r.Attach("nobody", w.pump.ID), awsemu.ErrNotFound},
		"attach an unknown certificate":   {r.Attach("pump-7", w.stranger.ID), awsemu.ErrNotFound},
		"detach from an unknown thing":    {r.Detach("nobody", w.pump.ID), awsemu.ErrNotFound},
		"revoke an unknown certificate":   {r.Revoke(w.stranger.ID), awsemu.ErrNotFound},
		"a status AWS does not have":      {r.SetStatus(w.pump.ID, "FINE"), nil},
		"a thing with a bad name":         {r.AddThing("a/b"), messages.ErrInvalidID},
		"the same certificate once more":  {r.Enroll("pump-8", w.pump, false), awsemu.ErrExists},
		"attach to what was not enrolled": {r.Attach("pump-8", w.pump.ID), awsemu.ErrNotFound},
		"enroll with a bad name":          {r.Enroll("a/b", w.stranger, false), messages.ErrInvalidID},
		"enroll what is no X.509":         {r.Enroll("pump-8", &awsemu.Identity{DER: []byte("x")}, false), nil},
		"a certificate that is no X.509":  {second(r.AddCertificate([]byte("x"), awsemu.StatusActive)), nil},
		"a certificate with a bad status": {second(r.AddCertificate(w.stranger.DER, "")), nil},
	} {
		if test.err == nil || (test.want != nil && !errors.Is(test.err, test.want)) {
			t.Errorf("%s: got %v, want %v", name, test.err, test.want)
		}
	}
	if err := errors.Join(r.AddThing("pump-7"), r.Attach("pump-7", w.pump.ID), r.Detach("valve-1", w.pump.ID)); err != nil {
		t.Errorf("repeating what is so already: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestListenersHearEachChangeOnce(t *testing.T) {
	w := newWorld(t)
	var heard []awsemu.Change
	w.registry.OnChange(func(c awsemu.Change) { heard = append(heard, c) })
	id := w.pump.ID
	for _, err := range []error{
		w.registry.Detach("pump-7", id), w.registry.Detach("pump-7", id), w.registry.Revoke(id), w.registry.Revoke(id),
		w.registry.Attach("valve-1", id), w.registry.AddThing("pump-8"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []awsemu.Change{
		{Certificate: id, Thing: "pump-7", Status: awsemu.StatusActive},
		{Certificate: id, Status: awsemu.StatusRevoked},
		{Certificate: id, Thing: "valve-1", Status: awsemu.StatusRevoked, Attached: true},
	}
	if !slices.Equal(heard, want) {
		t.Errorf("got %+v, want %+v", heard, want)
	}
}

func TestRegistrySurvivesInItsFile(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "registry.json")
	r := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path)) // no file yet
	for _, err := range []error{
		r.Enroll("core-1", w.core, true), r.Enroll("pump-7", w.pump, false), r.Enroll("valve-1", w.valve, false),
		r.Revoke(w.pump.ID), r.Detach("valve-1", w.valve.ID), r.Attach("pump-7", w.valve.ID), r.AddCore("core-2"),
		r.Associate("core-1", noon, "valve-1", "pump-7"), r.Associate("core-2", noon, "pump-7"), r.Disassociate("core-2", "pump-7"),
		second(r.SetConnectivity("core-1", noon, awsemu.Connectivity{ID: "a", Host: "10.0.0.1", Port: 8883, Metadata: "m"})), second(r.SetConnectivity("core-2", noon)),
		r.PutAuthorities("core-1", 2, w.devices.PEM()), r.PutAuthorities("core-1", 2, w.servers.PEM()), r.SetPolicy(w.core.ID, awsemu.PolicyMinimal),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, request := range map[string]string{"pump-7": `{"state":{"desired":{"n":1.50,"o":{"p":[1,null]}},"reported":{"n":1.50}}}`, "gone": `{"state":{"reported":{}}}`} {
		if _, refused := r.UpdateShadow(awsemu.ShadowID{Thing: name}, []byte(request), noon); refused != nil {
			t.Fatal(refused)
		}
	}
	if _, refused := r.DeleteShadow(awsemu.ShadowID{Thing: "gone"}, nil, noon); refused != nil {
		t.Fatal(refused)
	}
	again := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	was, is := must[[]byte](t)(r.Encode()), must[[]byte](t)(again.Encode())
	if !bytes.Equal(was, is) {
		t.Errorf("got %s, want %s", is, was)
	}
	if active, core := again.Caller(w.core.ID); !active || !core {
		t.Errorf("the core came back as active %v, core %v", active, core)
	}
	if info, _ := again.Certificate(w.pump.ID); info.Status != awsemu.StatusRevoked {
		t.Errorf("a revoked certificate came back %s", info.Status)
	}
	if got := again.Associated("core-1"); !slices.Equal(got, []awsemu.Association{{Thing: "pump-7", Since: noon}, {Thing: "valve-1", Since: noon}}) {
		t.Errorf("associations came back as %v", got)
	}
	if got := again.Associated("core-2"); got == nil || len(got) > 0 {
		t.Errorf("a core without devices any more came back with %#v", got)
	}
	if got := again.Connectivity("core-2"); got == nil || len(got) > 0 {
		t.Errorf("a core that was told no addresses came back with %#v", got)
	}
	if got := again.Authorities("core-1"); !slices.Equal(got, []string{string(w.servers.PEM()), string(w.devices.PEM())}) {
		t.Errorf("authorities came back as %v", got)
	}
	for _, name := range []string{"pump-7", "core-1-gci", "gone"} {
		before, refusedBefore := r.GetShadow(awsemu.ShadowID{Thing: name}, nil, noon)
		after, refusedAfter := again.GetShadow(awsemu.ShadowID{Thing: name}, nil, noon)
		if !bytes.Equal(before, after) || (refusedBefore == nil) != (refusedAfter == nil) || (name == "gone") != (before == nil) {
			t.Errorf("shadow %s was %s (%v), came back as %s (%v)", name, before, refusedBefore, after, refusedAfter)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v, want 0600", info.Mode(), err)
	}
	if left := must[[]string](t)(filepath.Glob(path + ".*")); len(left) > 0 {
		t.Errorf("temporary files were left: %v", left)
	}
}

// What cannot be saved has not happened.
func TestAChangeThatCannotBeSavedIsUndone(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "cloud")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := must[*awsemu.Registry](t)(awsemu.OpenRegistry(filepath.Join(dir, "registry.json")))
	if err := errors.Join(r.Enroll("pump-7", w.pump, false), r.AddCore("core-1"), r.AddThing("valve-1"), r.Associate("core-1", noon, "valve-1")); err != nil {
		t.Fatal(err)
	}
	before := must[[]byte](t)(r.Encode())
	r.OnChange(func(c awsemu.Change) { t.Errorf("told of %+v, which was not saved", c) })
	r.OnMessage(func(topic string, _ []byte) { t.Errorf("published at %s what was not saved", topic) })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"revoke": r.Revoke(w.pump.ID), "detach": r.Detach("pump-7", w.pump.ID), "thing": r.AddThing("pump-8"),
		"core": r.AddCore("pump-7"), "association": r.Associate("core-1", noon, "pump-7"), "certificate": second(r.AddCertificate(w.valve.DER, awsemu.StatusActive)),
		"another thing": r.Enroll("valve-1", w.valve, false), "another certificate": r.Enroll("pump-7", w.valve, true),
		"addresses": second(r.SetConnectivity("core-1", noon)), "authority": r.PutAuthorities("core-1", 2, w.devices.PEM()), "policy": r.SetPolicy(w.pump.ID, awsemu.PolicyMinimal),
	} {
		if err == nil {
			t.Errorf("%s: saved into a directory that is gone", name)
		}
	}
	if _, refused := r.UpdateShadow(awsemu.ShadowID{Thing: "pump-7"}, []byte(`{"state":{}}`), noon); refused == nil || refused.Code != 500 {
		t.Errorf("shadow: %+v", refused)
	}
	if after := must[[]byte](t)(r.Encode()); !bytes.Equal(before, after) {
		t.Errorf("got %s, want %s", after, before)
	}
}

func TestBadSeedsAreRefused(t *testing.T) {
	w := newWorld(t)
	pem := strings.ReplaceAll(string(w.pump.CertificatePEM), "\n", `\n`)
	seed := func(things, certificates string) string {
		return `{"formatVersion":"gatehouse/awsemu-1","things":[` + things + `],"certificates":[` + certificates + `]}`
	}
	good := seed(`{"thingName":"a"}`, `{"certificatePem":"`+pem+`","status":"ACTIVE","things":["a"]}`)
	if _, err := awsemu.ReadRegistry(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":              ``,
		"another version":    strings.Replace(good, "awsemu-1", "awsemu-2", 1),
		"unknown member":     strings.Replace(good, `"things"`, `"thinks"`, 1),
		"two values":         good + good,
		"bad name":           seed(`{"thingName":"a b"}`, ``),
		"thing twice":        seed(`{"thingName":"a"},{"thingName":"a"}`, ``),
		"bad status":         seed(``, `{"certificatePem":"`+pem+`","status":"FINE","things":[]}`),
		"unknown attachment": seed(``, `{"certificatePem":"`+pem+`","status":"ACTIVE","things":["b"]}`),
		"device unknown":     seed(`{"thingName":"a","core":true,"associatedClientDevices":[{"thingName":"b","since":"2026-11-21T12:00:00Z"}]}`, ``),
		"device of no core":  seed(`{"thingName":"a","associatedClientDevices":[]}`, ``),
		"device without day": seed(`{"thingName":"a","core":true,"associatedClientDevices":[{"thingName":"a","since":"x"}]}`, ``),
		"no PEM":             seed(``, `{"certificatePem":"x","status":"ACTIVE","things":[]}`),
		"two PEM blocks":     seed(``, `{"certificatePem":"`+pem+pem+`","status":"ACTIVE","things":[]}`),
	} {
		if _, err := awsemu.ReadRegistry(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A file from before there were associations is read, and keeps telling that it has none.
func TestAnOlderFileHasNoAssociations(t *testing.T) {
	r := must[*awsemu.Registry](t)(awsemu.ReadRegistry(strings.NewReader(`{"formatVersion":"gatehouse/awsemu-1","things":[{"thingName":"core-1","core":true}],"certificates":[]}`)))
	if got := r.Associated("core-1"); got != nil {
		t.Errorf("associations: %#v", got)
	}
	if text := must[[]byte](t)(r.Encode()); bytes.Contains(text, []byte("associatedClientDevices")) {
		t.Errorf("written as %s", text)
	}
}

// A batch happens as a whole or not at all, and is told as a whole.
func TestABatchIsAllOrNothing(t *testing.T) {
	w := newWorld(t)
	var heard []awsemu.Change
	w.registry.OnChange(func(c awsemu.Change) { heard = append(heard, c) })
	before := must[[]byte](t)(w.registry.Encode())
	err := w.registry.Update(func(b *awsemu.Batch) error {
		return errors.Join(b.AddThing("pump-8"), b.Associate("core-1", noon, "pump-8", "pump-7"), b.SetStatus(w.pump.ID, awsemu.StatusRevoked),
			b.Disassociate("core-1", "pump-7"), b.Associate("core-1", noon, "nobody"))
	})
	if !errors.Is(err, awsemu.ErrNotFound) || len(heard) > 0 {
		t.Errorf("got %v, told %v", err, heard)
	}
	if after := must[[]byte](t)(w.registry.Encode()); !bytes.Equal(before, after) {
		t.Errorf("got %s, want %s", after, before)
	}
	for name, err := range map[string]error{
		"of what is no core": w.registry.Associate("pump-7", noon, "valve-1"), "of nobody": w.registry.Associate("nobody", noon, "valve-1"),
		"from nobody": w.registry.Disassociate("nobody", "valve-1"),
	} {
		if !errors.Is(err, awsemu.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.registry.Associated("pump-7"); got != nil {
		t.Errorf("devices of a device: %v", got)
	}
}

// A fleet is enrolled and associated in one batch, saved once, and listed whole.
func TestAFleetIsOneChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.json")
	r := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	const devices = 20_000
	names := make([]messages.ThingName, devices)
	for i := range names {
		names[i] = messages.ThingName(fmt.Sprintf("device-%06d", i))
	}
	if err := r.Update(func(b *awsemu.Batch) error {
		if err := b.AddCore("core-1"); err != nil {
			return err
		}
		for _, name := range names {
			if err := b.AddThing(name); err != nil {
				return err
			}
		}
		return b.Associate("core-1", noon, names...)
	}); err != nil {
		t.Fatal(err)
	}
	all := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path)).Associated("core-1")
	if len(all) != devices || all[0].Thing != names[0] || all[devices-1].Thing != names[devices-1] {
		t.Errorf("%d devices came back", len(all))
	}
}

// FuzzSeed: any file is refused or comes back the same after a round trip.
func FuzzSeed(f *testing.F) {
	authority := must[*awsemu.Authority](f)(awsemu.NewAuthority("devices", noon))
	device := must[*awsemu.Identity](f)(authority.IssueDevice("pump-7", noon))
	registry := awsemu.NewRegistry()
	if err := registry.Enroll("pump-7", device, false); err != nil {
		f.Fatal(err)
	}
	f.Add(must[[]byte](f)(registry.Encode()))
	f.Add([]byte(`{"formatVersion":"gatehouse/awsemu-1","things":[{"thingName":"a","core":true}],"certificates":[]}`))
	f.Add([]byte(`{"formatVersion":"gatehouse/awsemu-1","things":[{"thingName":"a","core":true,"associatedClientDevices":[{"thingName":"a","since":"0001-01-01T00:00:00+23:59"}]}],"certificates":[]}`))
	ca := awsemutest.NewAuthority(f, "factory", noon, nil)
	if _, err := registry.AddAuthority(ca.Certificate.Raw, noon, awsemu.AuthorityOptions{AutoRegister: true, Mode: awsemu.ModeSNIOnly}); err != nil {
		f.Fatal(err)
	}
	f.Add(must[[]byte](f)(registry.Encode()))
	f.Add([]byte(`{"formatVersion":"gatehouse/awsemu-1","registrationCode":"` + strings.Repeat("0a", 32) + `","thingTypes":[{"thingTypeName":"pump","thingTypeId":"1","searchableAttributes":["site"],"creationDate":"2026-11-21T12:00:00Z"}],
		"things":[{"thingName":"a","thingTypeName":"pump","attributes":{"site":"b","none":""},"version":3}],"certificates":[]}`))
	f.Add([]byte(`{"formatVersion":"gatehouse/awsemu-1","things":null,"certificates":[{"things":["a"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := awsemu.ReadRegistry(bytes.NewReader(text))
		if err != nil {
			return
		}
		once := must[[]byte](t)(r.Encode())
		again, err := awsemu.ReadRegistry(bytes.NewReader(once))
		if err != nil {
			t.Fatalf("its own file form is refused: %v\n%s", err, once)
		}
		if twice := must[[]byte](t)(again.Encode()); !bytes.Equal(once, twice) {
			t.Errorf("got %s, want %s", twice, once)
		}
	})
}
