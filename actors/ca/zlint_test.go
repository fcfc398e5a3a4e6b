package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// findZLint finds the tool, or fails where end-to-end tests must run, or skips.
func findZLint(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("zlint")
	switch {
	case err == nil:
		return path
	case os.Getenv("GATEHOUSE_E2E") == "1":
		t.Fatalf("GATEHOUSE_E2E=1 and no zlint; .ci/run tools installs it: %v", err)
	}
	t.Skipf("cross-check left out: %v", err)
	return ""
}

// zlint lists what zlint has to say against a certificate. All is asked that it knows of
// RFCs and of good custom; the rules of the programmes of browsers and operating systems,
// and of ETSI, are for public authorities, and this is none.
func zlint(t *testing.T, tool string, der []byte) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool, "-excludeSources", "CABF_BR,CABF_EV,CABF_SMIME_BR,Apple,Mozilla,ETSI_ESI",
		writePEM(t, t.TempDir(), "certificate.pem", der)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var results map[string]struct{ Result, Details string }
	if err := json.Unmarshal(out, &results); err != nil || len(results) < 100 {
		t.Fatalf("%d results: %v\n%s", len(results), err, out)
	}
	var found []string
	for rule, r := range results {
		if r.Result == "warn" || r.Result == "error" || r.Result == "fatal" {
			found = append(found, r.Result+" "+rule)
		}
	}
	slices.Sort(found)
	return found
}

// TestZLint: another linter has nothing to say against what is issued, without exception.
func TestZLint(t *testing.T) {
	tool := findZLint(t)
	for _, kind := range []string{TypeRSA2048, TypeECDSAP256} {
		key := keyOf(t, kind)
		authority := managed(t, key, true)
		if found := zlint(t, tool, authority.Certificate().Raw); len(found) > 0 {
			t.Errorf("%s authority: %v", kind, found)
		}
		for _, usage := range []Usage{Server, Client, ClientAndServer} {
			r := Request{Issuer: authority, Subscriber: "gatehouse-mqtt", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(0x5a), Now: noon}
			if usage.Serves() {
				r.Hosts = hosts(t, "core.local", "192.168.1.4", "FE80::1")
			}
			leaf := issue(t, profile(t, ProfileConfig{Usage: usage, Validity: 7 * 24 * time.Hour, KeyUsage: true}), r, key)
			if found := zlint(t, tool, leaf.Raw); len(found) > 0 {
				t.Errorf("%s %s: %v", kind, usage, found)
			}
		}
	}
	// It does speak: this one ends before it begins.
	broken := custom(t, x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "b"}, NotBefore: noon, NotAfter: noon.Add(-time.Hour)},
		nil, fixedKey(t, 7), fixedKey(t, 7))
	if found := zlint(t, tool, broken.Raw); !slices.Contains(found, "error e_validity_time_not_positive") {
		t.Errorf("nothing against a life of less than nothing: %v", found)
	}
}
