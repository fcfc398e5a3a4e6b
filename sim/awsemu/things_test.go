package awsemu_test

import (
	"bytes"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// about sends a request about a certificate, which its header names.
func (w *world) about(t testing.TB, id messages.CertificateID, method, target string) *reply {
	t.Helper()
	r := w.signed(t, w.admin(), method, target, "")
	r.Header.Set("X-Amzn-Principal", "arn:aws:iot:eu-central-1:123456789012:cert/"+string(id)) // unsigned, as by the SDK
	return w.send(t, r)
}

func wantReply(t testing.TB, what string, got *reply, status int, part string) {
	t.Helper()
	if got.status != status || !strings.Contains(got.error()+got.text, part) {
		t.Errorf("%s: %d %s %s, want %d with %s", what, got.status, got.error(), got.text, status, part)
	}
}

// What a thing is, from its making to its end (cloud spec 4.1, 4.6).
func TestThingLife(t *testing.T) {
	w := newWorld(t)
	do := func(method, target, body string) *reply { t.Helper(); return w.api(t, w.admin(), method, target, body) }
	const described = `{"thingTypeName":"pump","attributePayload":{"attributes":{"site":"north","line":"4","row":"1","slot":"2"}}}`
	wantReply(t, "without its type", do("POST", "/things/pump-9", described), 404, "ResourceNotFoundException")
	wantReply(t, "type", do("POST", "/thing-types/pump", `{"thingTypeProperties":{"thingTypeDescription":"a pump","searchableAttributes":["site"]}}`), 200, `"thingTypeArn":"arn:aws:iot:eu-central-1:123456789012:thingtype/pump"`)
	made := do("POST", "/things/pump-9", described)
	wantReply(t, "create", made, 200, `"thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/pump-9"`)
	if again := do("POST", "/things/pump-9", described); again.status != 200 || again.body["thingId"] != made.body["thingId"] {
		t.Errorf("the same again: %d %s, want %s", again.status, again.text, made.text)
	}
	conflict := do("POST", "/things/pump-9", `{"thingTypeName":"pump"}`)
	wantReply(t, "with other attributes", conflict, 409, "ResourceAlreadyExistsException")
	if conflict.body["resourceId"] != made.body["thingId"] || conflict.body["resourceArn"] != made.body["thingArn"] {
		t.Errorf("conflict names %s", conflict.text)
	}
	wantReply(t, "with another type", do("POST", "/things/pump-9", strings.Replace(described, `"thingTypeName":"pump",`, "", 1)), 409, "ResourceAlreadyExistsException")
	wantReply(t, "four attributes without a type", do("POST", "/things/pump-8", `{"attributePayload":{"attributes":{"a":"1","b":"1","c":"1","d":"1"}}}`), 400, "3 without")
	wantReply(t, "a bad name", do("POST", "/things/pump-8", `{"attributePayload":{"attributes":{"a b":"1"}}}`), 400, "Map keys")
	wantReply(t, "a bad value", do("POST", "/things/pump-8", `{"attributePayload":{"attributes":{"a":"ü"}}}`), 400, "Map value")

	wantReply(t, "merge", do("PATCH", "/things/pump-9", `{"attributePayload":{"attributes":{"site":"south","line":""},"merge":true},"expectedVersion":1}`), 200, "{}")
	wantReply(t, "describe", do("GET", "/things/pump-9", ""), 200, `"attributes":{"row":"1","site":"south","slot":"2"}`)
	wantReply(t, "an old version", do("PATCH", "/things/pump-9", `{"expectedVersion":1}`), 409, "VersionConflictException")
	wantReply(t, "replace", do("PATCH", "/things/pump-9", `{"attributePayload":{"attributes":{"site":"north-2"}},"removeThingType":true}`), 200, "{}")
	if got := do("GET", "/things/pump-9", ""); got.body["version"] != 3.0 || got.body["thingTypeName"] != nil || got.body["thingId"] != made.body["thingId"] {
		t.Errorf("replaced: %s", got.text)
	}
	for query, want := range map[string]bool{
		"?attributeName=site&attributeValue=north-2": true, "?attributeName=site&attributeValue=north": false, "?thingTypeName=pump": false,
		"?attributeName=site&attributeValue=north&usePrefixAttributeValue=true": true, "?attributeName=line&attributeValue=4": false,
	} {
		if got := do("GET", "/things"+query, ""); got.status != 200 || strings.Contains(got.text, `"pump-9"`) != want || strings.Contains(got.text, `"pump-7"`) {
			t.Errorf("list %s: %d %s", query, got.status, got.text)
		}
	}
	wantReply(t, "half a filter", do("GET", "/things?attributeName=site", ""), 400, "go together")

	wantReply(t, "deprecate", do("POST", "/thing-types/pump/deprecate", "{}"), 200, "{}")
	wantReply(t, "a thing of a deprecated type", do("POST", "/things/pump-8", `{"thingTypeName":"pump"}`), 400, "deprecated")
	wantReply(t, "delete the type at once", do("DELETE", "/thing-types/pump", ""), 400, "5 minutes")
	wantReply(t, "an old version", do("DELETE", "/things/pump-9?expectedVersion=1", ""), 409, "VersionConflictException")
	if err := errors.Join(w.registry.Associate("core-1", noon, "pump-9"), w.registry.Attach("pump-9", w.pump.ID)); err != nil {
		t.Fatal(err)
	}
	wantReply(t, "delete while attached", do("DELETE", "/things/pump-9", ""), 400, "attached to one or more principals")
	wantReply(t, "detach", w.about(t, w.pump.ID, "DELETE", "/things/pump-9/principals"), 200, "{}")
	for range 2 { // who is not there is deleted
		wantReply(t, "delete", do("DELETE", "/things/pump-9?expectedVersion=3", ""), 200, "{}")
	}
	if got := w.registry.Associated("core-1"); len(got) != 0 {
		t.Errorf("a deleted thing is a client device still: %v", got)
	}
	if again := do("POST", "/things/pump-9", ""); again.body["thingId"] == made.body["thingId"] {
		t.Error("another thing of the name has the former's id")
	}
}

// A certificate belongs to many things, or to one exclusively.
func TestPrincipals(t *testing.T) {
	w := newWorld(t)
	id := w.pump.ID
	wantReply(t, "no such thing", w.about(t, id, "PUT", "/things/nobody/principals"), 404, "ResourceNotFoundException")
	wantReply(t, "no such certificate", w.about(t, messages.CertificateID(strings.Repeat("0", 64)), "PUT", "/things/valve-1/principals"), 404, "ResourceNotFoundException")
	wantReply(t, "no certificate", w.about(t, "x", "PUT", "/things/valve-1/principals"), 400, "InvalidRequestException")
	wantReply(t, "attach", w.about(t, id, "PUT", "/things/valve-1/principals"), 200, "{}")
	wantReply(t, "things", w.about(t, id, "GET", "/principals/things"), 200, `{"things":["pump-7","valve-1"]}`)
	first := w.about(t, id, "GET", "/principals/things?maxResults=1")
	wantReply(t, "a page", first, 200, `"things":["pump-7"]`)
	token := "?nextToken=" + first.body["nextToken"].(string)
	wantReply(t, "the next one", w.about(t, id, "GET", "/principals/things"+token), 200, `{"things":["valve-1"]}`)
	wantReply(t, "of another certificate", w.about(t, w.valve.ID, "GET", "/principals/things"+token), 400, "Invalid nextToken")
	wantReply(t, "exclusively, beside another", w.about(t, id, "PUT", "/things/valve-1/principals?thingPrincipalType=EXCLUSIVE_THING"), 400, "other things")
	wantReply(t, "detach", w.about(t, id, "DELETE", "/things/pump-7/principals"), 200, "{}")
	wantReply(t, "exclusively", w.about(t, id, "PUT", "/things/valve-1/principals?thingPrincipalType=EXCLUSIVE_THING"), 200, "{}")
	wantReply(t, "and another", w.about(t, id, "PUT", "/things/pump-7/principals"), 400, "other things")
	if err := w.registry.Attach("pump-7", id); err == nil {
		t.Error("an exclusive certificate was attached to another thing")
	}
	wantReply(t, "exclusive things", w.about(t, id, "GET", "/principals/things-v2?thingPrincipalType=EXCLUSIVE_THING"), 200, `{"principalThingObjects":[{"thingName":"valve-1","thingPrincipalType":"EXCLUSIVE_THING"}]}`)
	wantReply(t, "other things", w.about(t, id, "GET", "/principals/things-v2?thingPrincipalType=NON_EXCLUSIVE_THING"), 200, `{"principalThingObjects":[]}`)
	exclusive := w.api(t, w.admin(), "GET", "/things/valve-1/principals-v2?thingPrincipalType=EXCLUSIVE_THING", "")
	if objects := exclusive.body["thingPrincipalObjects"].([]any); len(objects) != 1 || !strings.HasSuffix(objects[0].(map[string]any)["principal"].(string), string(id)) {
		t.Errorf("exclusive principals: %s", exclusive.text)
	}
	wantReply(t, "detach", w.about(t, id, "DELETE", "/things/valve-1/principals"), 200, "{}")
	wantReply(t, "free again", w.about(t, id, "PUT", "/things/pump-7/principals"), 200, "{}")
	wantReply(t, "like any", w.about(t, id, "PUT", "/things/valve-1/principals"), 200, "{}")
}

// What was registered is there after a restart, as it was.
func TestRegistrationsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.json")
	kept := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	w := newWorldAt(t, atNoon, func(cfg *awsemu.Config) { cfg.Registry = kept })
	w.registry = kept
	if err := errors.Join(kept.AddCore("core-1"), kept.AddThing("valve-1")); err != nil {
		t.Fatal(err)
	}
	ca := w.factory(t, registering)
	pump := ca.Issue(t, "pump-9", noon)
	w.wantClosed(t, "first connection", pump, awsemu.ServerName)
	for _, r := range []*reply{
		w.api(t, w.admin(), "GET", "/registrationcode", ""), w.api(t, w.admin(), "POST", "/thing-types/pump", ""),
		w.api(t, w.admin(), "POST", "/things/pump-9", `{"thingTypeName":"pump","attributePayload":{"attributes":{"a":"b"}}}`),
		w.api(t, w.admin(), "POST", "/thing-types/pump/deprecate", "{}"),
		w.about(t, pump.ID, "PUT", "/things/pump-9/principals?thingPrincipalType=EXCLUSIVE_THING"),
	} {
		if r.status != http.StatusOK {
			t.Fatal(r.text)
		}
	}
	answers := func() (all []string) {
		t.Helper()
		for _, target := range []string{
			"/registrationcode", "/thing-types/pump", "/things/pump-9", "/things/pump-9/principals-v2", "/cacertificates", "/cacertificate/" + string(ca.ID()),
			"/certificates", "/certificates/" + string(pump.ID), "/certificates-by-ca/" + string(ca.ID()),
		} {
			got := w.api(t, w.admin(), "GET", target, "")
			if got.status != http.StatusOK {
				t.Errorf("%s: %s", target, got.text)
			}
			all = append(all, got.text)
		}
		return all
	}
	before, file := answers(), must[[]byte](t)(kept.Encode())
	again := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	if is := must[[]byte](t)(again.Encode()); !bytes.Equal(file, is) {
		t.Errorf("came back as %s, was %s", is, file)
	}
	w = newWorldAt(t, atNoon, func(cfg *awsemu.Config) { cfg.Registry = again })
	for i, after := range answers() {
		if after != before[i] {
			t.Errorf("came back as %s, was %s", after, before[i])
		}
	}
}
