package awsemu_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// ask sends a request to the data plane as caller.
func (w *world) ask(t testing.TB, caller *awsemu.Identity, method, path, body string) (*http.Response, string, error) {
	t.Helper()
	config := w.tls(t, caller)
	config.NextProtos = []string{"x-amzn-http-ca"} // alone, as the device SDKs offer it
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	answer, err := client.Do(must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, w.emulator.URL()+path, strings.NewReader(body))))
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	return answer, string(must[[]byte](t)(io.ReadAll(answer.Body))), nil
}

const connectivityPath = "/greengrass/things/core-1/connectivityInfo"

func authoritiesBody(core string, certificates ...[]byte) string {
	texts := []string{}
	for _, c := range certificates {
		texts = append(texts, string(c))
	}
	text, _ := json.Marshal(map[string]any{"coreDeviceThingName": core, "coreDeviceCertificates": texts})
	return string(text)
}

// shadowVersion is the version of the addresses that the core-1's shadow tells of.
func (w *world) shadowVersion(t *testing.T) string {
	t.Helper()
	text, refused := w.registry.GetShadow(awsemu.ShadowID{Thing: "core-1-gci"}, nil, noon)
	if refused != nil {
		t.Fatal(refused)
	}
	var got struct {
		State struct{ Desired struct{ Version string } }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return got.State.Desired.Version
}

func TestConnectivityInfo(t *testing.T) {
	w := newWorld(t)
	want := func(what string, caller *awsemu.Identity, method, path, body string, status int, text string) string {
		t.Helper()
		answer, got, err := w.ask(t, caller, method, path, body)
		if err != nil || answer.StatusCode != status || !strings.Contains(got+answer.Header.Get("X-Amzn-ErrorType"), text) {
			t.Errorf("%s: got %v %s (%v), want %d with %s", what, answer, got, err, status, text)
		}
		return got
	}
	want("never told", w.core, "GET", connectivityPath, "", 404, "ResourceNotFoundException")
	first := want("update", w.core, "PUT", connectivityPath, `{"ConnectivityInfo":[{"Id":"1","HostAddress":"10.0.0.1","PortNumber":8883,"Metadata":""}]}`, 200, `"Version":"`)
	if version := w.shadowVersion(t); !strings.Contains(first, version) {
		t.Errorf("answered %s, the shadow says %s", first, version)
	}
	if got := want("get", w.core, "GET", connectivityPath, "", 200, ""); got != `{"ConnectivityInfo":[{"Id":"1","HostAddress":"10.0.0.1","PortNumber":8883,"Metadata":""}]}` {
		t.Errorf("got %s", got)
	}
	want("none at all", w.core, "PUT", connectivityPath, `{"ConnectivityInfo":[]}`, 200, `"Version":"`)
	want("get none", w.core, "GET", connectivityPath, "", 200, `{"ConnectivityInfo":[]}`)

	want("missing", w.core, "PUT", connectivityPath, `{}`, 400, "ValidationException")
	want("port", w.core, "PUT", connectivityPath, `{"ConnectivityInfo":[{"PortNumber":65536}]}`, 400, "ValidationException")
	want("no JSON", w.core, "PUT", connectivityPath, `nonsense`, 400, "SerializationException")
	want("another core's", w.core, "GET", "/greengrass/things/core-2/connectivityInfo", "", 403, "AccessDeniedException")
	want("by a device", w.pump, "GET", connectivityPath, "", 403, "AccessDeniedException")
	if _, _, err := w.ask(t, w.stranger, "GET", connectivityPath, ""); !errors.Is(err, io.EOF) {
		t.Errorf("by a stranger: %v", err)
	}

	// The same at the control plane, for who signs.
	if got := w.api(t, w.admin(), "PUT", connectivityPath, `{"ConnectivityInfo":[{"HostAddress":"core.local"}]}`); got.status != 200 || got.body["Version"] != w.shadowVersion(t) {
		t.Errorf("update as an administrator: %d %s", got.status, got.text)
	}
	if got := w.api(t, w.admin(), "GET", connectivityPath, ""); got.status != 200 || !strings.Contains(got.text, "core.local") {
		t.Errorf("get as an administrator: %d %s", got.status, got.text)
	}
	for path, status := range map[string]int{"/greengrass/things/nobody/connectivityInfo": 404, "/greengrass/things/pump-7/connectivityInfo": 404, "/greengrass/things/a%20b/connectivityInfo": 400} {
		if got := w.api(t, w.admin(), "GET", path, ""); got.status != status {
			t.Errorf("%s: %d %s, want %d", path, got.status, got.text, status)
		}
	}
	if got := w.api(t, roleKeys(w.emulator), "PUT", connectivityPath, `{"ConnectivityInfo":[]}`); got.status != 403 {
		t.Errorf("update by the core's role: %d %s", got.status, got.text)
	}
}

func TestPutCertificateAuthorities(t *testing.T) {
	w := newWorld(t)
	route := cloudsync.DefaultRoutes()[cloudsync.OpPutAuthorities]
	third := must[*awsemu.Authority](t)(awsemu.NewAuthority("third", noon))
	put := func(caller *awsemu.Identity, path, body string) (int, string) {
		t.Helper()
		answer, text, err := w.ask(t, caller, route.Method, path, body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Header.Get("X-Amzn-ErrorType") + text
	}
	own := route.PathFor("core-1")
	for _, pem := range [][]byte{w.devices.PEM(), w.servers.PEM(), w.servers.PEM(), third.PEM()} {
		if status, text := put(w.core, own, authoritiesBody("core-1", pem)); status != 200 || text != "{}" {
			t.Fatalf("put: %d %s", status, text)
		}
	}
	if got := w.registry.Authorities("core-1"); !slices.Equal(got, []string{string(third.PEM()), string(w.servers.PEM())}) {
		t.Errorf("the last two are %v", got)
	}
	for name, c := range map[string]struct {
		caller     *awsemu.Identity
		path, body string
		status     int
	}{
		"none":             {w.core, own, authoritiesBody("core-1"), 400},
		"a device's":       {w.core, own, authoritiesBody("core-1", w.pump.CertificatePEM), 400},
		"two in one":       {w.core, own, authoritiesBody("core-1", append(w.devices.PEM(), w.servers.PEM()...)), 400},
		"no PEM":           {w.core, own, authoritiesBody("core-1", []byte("x")), 400},
		"eleven":           {w.core, own, authoritiesBody("core-1", slices.Repeat([][]byte{third.PEM()}, 11)...), 400},
		"no JSON":          {w.core, own, "x", 400},
		"another name":     {w.core, own, authoritiesBody("core-2", third.PEM()), 400},
		"another core":     {w.core, route.PathFor("core-2"), authoritiesBody("core-2", third.PEM()), 403},
		"a device's wish":  {w.pump, own, authoritiesBody("core-1", third.PEM()), 403},
		"another method":   {w.core, own + "/x", authoritiesBody("core-1", third.PEM()), 404},
		"not a thing name": {w.core, route.PathFor("a%20b"), authoritiesBody("a b", third.PEM()), 400},
	} {
		if status, text := put(c.caller, c.path, c.body); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.status)
		}
	}
}

// tell makes core-1 one that can be discovered by pump-7.
func (w *world) tell(t testing.TB) {
	t.Helper()
	if err := errors.Join(
		w.registry.Associate("core-1", noon, "pump-7"), second(w.registry.SetConnectivity("core-1", noon, awsemu.Connectivity{ID: "a", Host: "10.0.0.1", Port: 8883})),
		w.registry.PutAuthorities("core-1", 2, w.devices.PEM()), w.registry.PutAuthorities("core-1", 2, w.servers.PEM()),
	); err != nil {
		t.Fatal(err)
	}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	want := func(what string, caller *awsemu.Identity, thing string, status int, text string) {
		t.Helper()
		answer, got, err := w.ask(t, caller, "GET", "/greengrass/discover/thing/"+thing, "")
		if err != nil || answer.StatusCode != status || !strings.Contains(got, text) {
			t.Errorf("%s: got %v %s (%v), want %d with %s", what, answer, got, err, status, text)
		}
	}
	const nothing = `{"errorMessage":"The thing provided for discovery was not found"}`
	want("without an association", w.pump, "pump-7", 404, nothing)
	if err := w.registry.Associate("core-1", noon, "pump-7"); err != nil {
		t.Fatal(err)
	}
	want("without an address", w.pump, "pump-7", 404, nothing)
	if _, err := w.registry.SetConnectivity("core-1", noon, awsemu.Connectivity{ID: "a", Host: "10.0.0.1", Port: 8883}); err != nil {
		t.Fatal(err)
	}
	want("without an authority", w.pump, "pump-7", 404, nothing)
	w.tell(t)

	newest, _ := json.Marshal(string(w.servers.PEM()))
	before, _ := json.Marshal(string(w.devices.PEM()))
	want("a device's own core", w.pump, "pump-7", 200, fmt.Sprintf(
		`{"GGGroups":[{"GGGroupId":"greengrassV2-coreDevice-core-1","Cores":[{"thingArn":"arn:aws:iot:eu-central-1:123456789012:thing/core-1",`+
			`"Connectivity":[{"Id":"a","HostAddress":"10.0.0.1","PortNumber":8883,"Metadata":""}]}],"CAs":[%s,%s]}]}`, newest, before))
	want("another device", w.valve, "pump-7", 403, `{"message":null,"traceId":"`)
	want("no device", w.valve, "a%20b", 403, `"message":null`)
	want("not associated", w.valve, "valve-1", 404, nothing)
	if err := w.registry.Revoke(w.pump.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.ask(t, w.pump, "GET", "/greengrass/discover/thing/pump-7", ""); !errors.Is(err, io.EOF) {
		t.Errorf("with a revoked certificate: %v, want no answer at all", err)
	}
}

// A device with nothing but curl learns where its core is, and can verify its server.
func TestDiscoveryByCurl(t *testing.T) {
	curl := tool(t, "curl")
	w := newWorldAt(t, nil) // curl goes by the machine's clock
	w.tell(t)
	dir := t.TempDir()
	files := w.files(t, dir, "pump", w.pump)
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "--fail", "--cacert", files.ca, "--cert", files.certificate, "--key", files.key,
		strings.Replace(w.emulator.URL(), "127.0.0.1", "localhost", 1)+"/greengrass/discover/thing/pump-7").CombinedOutput()
	var got struct {
		GGGroups []struct {
			Cores []struct {
				Connectivity []struct {
					HostAddress string
					PortNumber  int
				}
			}
			CAs []string
		}
	}
	if err != nil || json.Unmarshal(out, &got) != nil || len(got.GGGroups) != 1 || got.GGGroups[0].Cores[0].Connectivity[0].HostAddress != "10.0.0.1" || len(got.GGGroups[0].CAs) != 2 {
		t.Fatalf("%s, %v", out, err)
	}
	bundle := filepath.Join(dir, "bundle.pem")
	if err := os.WriteFile(bundle, []byte(strings.Join(got.GGGroups[0].CAs, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), tool(t, "openssl"), "verify", "-CAfile", bundle, files.certificate).CombinedOutput(); err != nil {
		t.Errorf("openssl verify with what was discovered: %s", out)
	}
	out, err = exec.CommandContext(t.Context(), curl, "-sS", "--cacert", files.ca, "--cert", files.certificate, "--key", files.key,
		strings.Replace(w.emulator.URL(), "127.0.0.1", "localhost", 1)+"/greengrass/discover/thing/valve-1").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), `{"message":null,"traceId":"`) {
		t.Errorf("about another thing: %s, %v", out, err)
	}
}

// Each new operation of the data plane can be made to fail in each way.
func TestFaultsOfTheNewOperations(t *testing.T) {
	w := newWorld(t)
	w.tell(t)
	route := cloudsync.DefaultRoutes()[cloudsync.OpPutAuthorities]
	for op, c := range map[cloudsync.Operation]struct {
		caller             *awsemu.Identity
		method, path, body string
	}{
		awsemu.OpGetConnectivityInfo:    {w.core, "GET", connectivityPath, ""},
		awsemu.OpUpdateConnectivityInfo: {w.core, "PUT", connectivityPath, `{"ConnectivityInfo":[{"HostAddress":"10.0.0.1","PortNumber":1}]}`},
		cloudsync.OpPutAuthorities:      {w.core, route.Method, route.PathFor("core-1"), authoritiesBody("core-1", w.devices.PEM())},
		awsemu.OpDiscover:               {w.pump, "GET", "/greengrass/discover/thing/pump-7", ""},
	} {
		calls := w.emulator.Calls(op)
		for status, name := range map[int]string{429: "ThrottlingException", 500: "InternalServerException", 403: "AccessDeniedException"} {
			w.setFaults(t, awsemu.Fault{Operation: op, Status: status, ErrorType: name})
			if answer, text, err := w.ask(t, c.caller, c.method, c.path, c.body); err != nil || answer.StatusCode != status || answer.Header.Get("X-Amzn-ErrorType") != name {
				t.Errorf("%s %d: %v %s, %v", op, status, answer, text, err)
			}
		}
		w.setFaults(t, awsemu.Fault{Operation: op, Drop: true})
		if _, _, err := w.ask(t, c.caller, c.method, c.path, c.body); !errors.Is(err, io.EOF) {
			t.Errorf("%s dropped: %v", op, err)
		}
		w.setFaults(t, awsemu.Fault{Operation: op, Mangle: fault.MangleGarbage})
		if _, text, err := w.ask(t, c.caller, c.method, c.path, c.body); err != nil || json.Valid([]byte(text)) {
			t.Errorf("%s mangled: %s, %v", op, text, err)
		}
		w.setFaults(t)
		if answer, text, err := w.ask(t, c.caller, c.method, c.path, c.body); err != nil || answer.StatusCode != 200 || !json.Valid([]byte(text)) {
			t.Errorf("%s after all that: %v %s, %v", op, answer, text, err)
		}
		if got := w.emulator.Calls(op) - calls; got != 6 {
			t.Errorf("%s was counted %d times, want 6", op, got)
		}
	}
}

// The certificates that are put are those that are discovered, byte by byte.
func TestAuthoritiesAreNotChanged(t *testing.T) {
	w := newWorld(t)
	w.tell(t)
	block, _ := pem.Decode([]byte(w.registry.Authorities("core-1")[0]))
	want, _ := pem.Decode(w.servers.PEM())
	if block == nil || !slices.Equal(block.Bytes, want.Bytes) {
		t.Error("the authority's DER came out otherwise")
	}
}
