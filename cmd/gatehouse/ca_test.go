package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// signingRequest writes a key and a request for it, and returns the request's file.
func signingRequest(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"bridge.key": {Type: "PRIVATE KEY", Bytes: der}, "bridge.csr": {Type: "CERTIFICATE REQUEST", Bytes: csr}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "bridge.csr")
}

// serial is the serial number of the certificate that the broker shows to who trusts roots.
func (d *dev) serial(roots string) string {
	d.t.Helper()
	text, err := os.ReadFile(roots)
	if err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		d.t.Fatalf("no certificate in %s", roots)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", d.mqtt, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	return fmt.Sprintf("%040x", conn.ConnectionState().PeerCertificates[0].SerialNumber)
}

// TestAuthorityAtTheCommandLine: what is shown is what the broker shows, what is exported
// verifies it, orders are carried out and explained, and a stopped daemon's directory says
// the same.
func TestAuthorityAtTheCommandLine(t *testing.T) {
	d := startDev(t, "")
	here := t.TempDir()
	bundle := filepath.Join(here, "bundle.pem")
	d.must("1 certificates in", "ca", "export", "--out", bundle)
	first := answer[daemon.Certificates](d, "cert", "list").Certificates[0]
	if got := d.serial(bundle); got != first.Serial || !first.Delivered || !first.Subscribed || first.Next != ca.ReasonRotation {
		t.Errorf("the broker shows %s, listed is %+v", got, first)
	}

	d.must("1 certificates issued", "ca", "rotate", "gatehouse-mqtt", "--reason", "a drill")
	second := answer[daemon.Certificates](d, "cert", "list").Certificates[0]
	if got := d.serial(bundle); got != second.Serial || second.Serial == first.Serial {
		t.Errorf("after a rotation the broker shows %s, listed is %+v", got, second)
	}
	x := answer[projections.CertificateExplanation](d, "explain", "certificate", "gatehouse-mqtt")
	if x.Serial != second.Serial || x.Former != first.Serial || x.Answer != "an operator asked for it: a drill" || len(x.Events) < 4 {
		t.Errorf("explained %+v", x)
	}

	shown := answer[daemon.AuthorityReport](d, "ca", "replace", "--yes", "--reason", "it leaked")
	if len(shown.Authorities) != 2 || shown.Authorities[1].Issues || !shown.Authorities[1].Published || shown.Authorities[1].Reason != "operator: it leaked" || shown.Coming[0].What != ca.TurnIssues {
		t.Errorf("replaced: %+v", shown)
	}
	d.must("2 certificates in", "ca", "export", "--out", bundle)
	if got := d.serial(bundle); got != second.Serial {
		t.Errorf("the broker shows %s before the new authority issues", got)
	}
	d.must("made: operator: it leaked", "ca", "announced", "--by", "a test", "--yes")
	var issuing struct{ PEM string }
	if err := json.Unmarshal([]byte(d.must("", "ca", "export", "--issuing", "--json")), &issuing); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(bundle)
	if err != nil || !strings.HasPrefix(string(text), issuing.PEM) || strings.Count(issuing.PEM, "BEGIN") != 1 {
		t.Errorf("%v: issuing\n%s\nin\n%s", err, issuing.PEM, text)
	}

	names, _ := d.gatehouse("__complete", "ca", "rotate", "")
	if !strings.Contains(names, "gatehouse-mqtt") { // --dir stands behind: the directory is not known
		t.Setenv(dirVariable, d.dir)
		if names, _ = runProgram(t, "__complete", "ca", "rotate", ""); !strings.Contains(names, "gatehouse-mqtt") {
			t.Errorf("completion knows %s", names)
		}
	}
	live := answer[daemon.AuthorityReport](d, "ca", "show")
	d.end(os.Interrupt)
	stored := answer[daemon.AuthorityReport](d, "ca", "show")
	if len(stored.Authorities) != 2 || stored.Authorities[0] != live.Authorities[0] || stored.Authorities[1] != live.Authorities[1] {
		t.Errorf("stored %+v\nlive %+v", stored, live)
	}
	if list := answer[daemon.Certificates](d, "cert", "list").Certificates; list[0].Serial != second.Serial || list[0].Subscribed {
		t.Errorf("stored %+v", list)
	}
	if out := d.must("", "ca", "export"); out != string(text) {
		t.Errorf("the bundle of the log is another:\n%s", out)
	}
	if y := answer[projections.CertificateExplanation](d, "explain", "certificate", second.Serial[:12]); y.Answer != x.Answer {
		t.Errorf("stored %+v", y)
	}
	if out, code := d.gatehouse("ca", "rotate"); code != exitFailed || !strings.Contains(out, "no daemon is running") {
		t.Errorf("rotate without a daemon: exit %d\n%s", code, out)
	}
}

// TestIssueToComponent: the certificate lets its holder do everything, without the cloud;
// none is issued that cannot be written down.
func TestIssueToComponent(t *testing.T) {
	d := startDev(t, "")
	folder := filepath.Join(d.dir, "devices", "bridge")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	csr := signingRequest(t, folder)
	if err := os.Rename(filepath.Join(folder, "bridge.key"), filepath.Join(folder, "key.pem")); err != nil {
		t.Fatal(err)
	}
	before := d.must("", "cert", "list")
	if out, code := d.gatehouse("cert", "issue", "bridge", "--csr", csr, "--out", filepath.Join(folder, "key.pem")); code != exitFailed || !strings.Contains(out, "not overwritten") {
		t.Errorf("over a key: exit %d\n%s", code, out)
	}
	if after := d.must("", "cert", "list"); after != before {
		t.Errorf("a certificate was issued that nobody got:\n%s", after)
	}
	out := d.must("Whoever holds its key may", "cert", "issue", "bridge", "--csr", csr, "--out", filepath.Join(folder, "cert.pem"), "--validity", "2h", "--reason", "the bridge")
	if !strings.Contains(out, `"gatehouse cert revoke bridge" takes the certificate back`) {
		t.Error(out)
	}
	issued := answer[daemon.Certificates](d, "cert", "list").Certificates[1]
	if issued.Subscriber != "bridge" || issued.Usage != "CLIENT" || issued.Reason != "operator: the bridge" || issued.NotAfter.Sub(issued.NotBefore) != 2*time.Hour {
		t.Errorf("listed %+v", issued)
	}
	d.must("the cloud is away", "sim", "cloud", "off")
	b := connectDemo(t, d)
	if !b.authorize(t, b.token(t, "bridge"), "mqtt:topic:anything/at/all") {
		t.Error("the component may not publish")
	}
	token := b.token(t, "bridge")
	out = d.must("component bridge: certificates taken back: 1; sessions ended: 2\n", "cert", "revoke", "bridge", "--reason", "it leaked")
	if strings.Contains(out, "Broker") {
		t.Error(out)
	}
	if _, failure := b.ask(t, "authorize", map[string]any{"clientDeviceAuthToken": token, "operation": "mqtt:publish", "resource": "mqtt:topic:a"}); failure != "InvalidClientDeviceAuthToken" {
		t.Errorf("its session: %q", failure)
	}
	if _, failure := b.ask(t, "token", mqttCredential("bridge", b.pem(t, "bridge"))); failure != "InvalidCredential" {
		t.Errorf("another session: %q", failure)
	}
	d.must("taken back", "cert", "list")
	if revoked := answer[daemon.Certificates](d, "cert", "list").Certificates[1]; !revoked.Withdrawn || revoked.Serial != issued.Serial {
		t.Errorf("listed %+v", revoked)
	}
	d.must("it makes nobody an internal component since", "explain", "certificate", "bridge")
	if x := answer[projections.CertificateExplanation](d, "explain", "certificate", "bridge"); x.Events[len(x.Events)-1].Kind != "ComponentWithdrawn" || x.Events[len(x.Events)-1].Note != "operator: it leaked" {
		t.Errorf("explained %+v", x)
	}
	// Without --out the certificate alone is on standard output.
	doc := answer[daemon.IssuedCertificate](d, "cert", "issue", "bridge", "--csr", csr)
	if block, rest := pem.Decode([]byte(doc.Certificate)); block == nil || len(rest) > 0 || doc.Name != "bridge" {
		t.Errorf("%+v", doc)
	}
	if again := answer[daemon.Certificates](d, "cert", "list").Certificates[1]; again.Withdrawn || again.Serial != doc.Serial {
		t.Errorf("given back: %+v", again)
	}
}

// TestBadCertificateOrders: each is refused with what to do, and changes nothing.
func TestBadCertificateOrders(t *testing.T) {
	d := startDev(t, "")
	here := t.TempDir()
	csr := signingRequest(t, here)
	write := func(name, text string) string {
		path := filepath.Join(here, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(csr)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	block.Bytes[len(block.Bytes)-1] ^= 1
	before := d.must("", "cert", "list", "--json") + d.must("", "ca", "export")
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"cert", "issue", "bridge"}, "--csr: which file?", exitUsage},
		{[]string{"cert", "issue"}, "accepts 1 arg", exitUsage},
		{[]string{"cert", "issue", "a b", "--csr", csr}, "component name", exitFailed},
		{[]string{"cert", "issue", strings.Repeat("x", 65), "--csr", csr}, "want 1 to 64", exitFailed},
		{[]string{"cert", "issue", "gatehouse-mqtt", "--csr", filepath.Join(here, "none.csr")}, "no such file", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", write("garbage.csr", "garbage")}, "openssl req -new", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", write("empty.csr", "")}, "openssl req -new", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", write("huge.csr", strings.Repeat("x", 1<<20))}, "huge.csr", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", write("large.csr", strings.Repeat("x", 40<<10))}, "want 1 to", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", filepath.Join(here, "bridge.key")}, "want CERTIFICATE REQUEST", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", write("forged.csr", string(pem.EncodeToMemory(block)))}, "no proof of the private key", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--validity", "1s"}, "1m0s to 240h0m0s", exitUsage},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--validity", "8760h"}, "1m0s to 240h0m0s", exitUsage},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--validity", "-1h"}, "1m0s to 240h0m0s", exitUsage},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--out", filepath.Join(here, "bridge.key")}, "not overwritten", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--out", here}, "is not a file", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--out", "/nonexistent/x.pem"}, "no such file", exitFailed},
		{[]string{"cert", "issue", "bridge", "--csr", csr, "--reason", "two\nlines"}, "one line", exitFailed},
		{[]string{"cert", "revoke"}, "accepts 1 arg", exitUsage},
		{[]string{"cert", "revoke", "a b"}, "component name", exitFailed},
		{[]string{"cert", "revoke", "nobody"}, "gatehouse cert list", exitFailed},
		{[]string{"cert", "revoke", "nobody", "--reason", "two\nlines"}, "one line", exitFailed},
		{[]string{"ca", "rotate", "nobody"}, "gatehouse cert list", exitFailed},
		{[]string{"ca", "rotate", "gatehouse-mqtt", "nobody"}, "nobody subscribes", exitFailed},
		{[]string{"ca", "rotate", "--reason", strings.Repeat("x", 201)}, "at most 200 bytes", exitFailed},
		{[]string{"ca", "replace"}, "say --yes", exitUsage},
		{[]string{"ca", "replace", "--yes", "--reason", "\x1b[2J"}, "one line", exitFailed},
		{[]string{"ca", "announced", "--yes"}, "issues already", exitFailed},
		{[]string{"ca", "announced"}, "say --yes", exitUsage},
		{[]string{"ca", "replace", "it"}, "unknown command", exitUsage},
		{[]string{"ca", "shw"}, "did you mean show", exitUsage},
		{[]string{"ca", "export", "--out", filepath.Join(here, "bridge.key")}, "not overwritten", exitFailed},
		{[]string{"ca", "export", "--out", "/dev/null"}, "is not a file", exitFailed},
		{[]string{"explain", "certificate", "nobody"}, "gatehouse cert list", exitFailed},
		{[]string{"explain", "certificate", "00000"}, "at least 6 digits", exitFailed},
		{[]string{"explain", "certficate", "x"}, "explain takes", exitUsage},
		{[]string{"explain", "certificate", "x", "--last"}, "explain takes", exitUsage},
	} {
		if out, code := d.gatehouse(c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("gatehouse %.80q: exit %d, want %d and %q in:\n%.600s", c.args, code, c.code, c.want, out)
		}
	}
	if after := d.must("", "cert", "list", "--json") + d.must("", "ca", "export"); withoutTime(after) != withoutTime(before) {
		t.Errorf("something has changed:\n%s\n%s", before, after)
	}
	key, err := os.ReadFile(filepath.Join(here, "bridge.key"))
	if err != nil || !strings.Contains(string(key), "PRIVATE KEY") {
		t.Errorf("the key is gone: %v\n%s", err, key)
	}
}

// withoutTime takes the moment of the answer out of it.
func withoutTime(doc string) string {
	before, rest, _ := strings.Cut(doc, `"at": "`)
	_, rest, _ = strings.Cut(rest, `"`)
	return before + rest
}

// TestConfirm: only a clear yes is one.
func TestConfirm(t *testing.T) {
	for in, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "": false, "\n": false, "n\n": false, "yep\n": false, strings.Repeat("y", 1000): false} {
		var said strings.Builder
		a, c := &app{err: &said}, &cobra.Command{}
		c.SetIn(strings.NewReader(in))
		if err := a.confirm(c, "end the world"); (err == nil) != want || !strings.Contains(said.String(), "This will end the world. Go on?") {
			t.Errorf("%.10q: %v after %q", in, err, said.String())
		}
	}
}

// TestUploadFailureShows: the cloud that does not take a new authority is in status, in
// `ca show` and in the metrics, until it does; nothing waits for it.
func TestUploadFailureShows(t *testing.T) {
	d := startDev(t, "")
	d.must("", "sim", "cloud", "fault", "--operation", "PutCertificateAuthorities", "--status", "403", "--error", "AccessDeniedException")
	d.must("does not issue", "ca", "replace", "--yes")
	shows := func(ok func(daemon.AuthorityReport) bool) daemon.AuthorityReport {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			r := answer[daemon.AuthorityReport](d, "ca", "show")
			if ok(r) {
				return r
			}
			if time.Now().After(end) {
				t.Fatalf("%+v\n%s", r, d.log)
			}
		}
	}
	r := shows(func(r daemon.AuthorityReport) bool { return r.Upload.Since != nil })
	if r.Upload.Failed == 0 || r.Authorities[1].Uploaded || !strings.Contains(r.Upload.Error, "AccessDenied") {
		t.Errorf("%+v", r.Upload)
	}
	const warning = "warning: the cloud does not take the authorities since "
	d.must(warning, "status")
	d.must(warning, "cert", "list")
	if m := answer[metrics.Report](d, "metrics"); m.Certificates.UploadsFailed == 0 || m.Certificates.Warnings == 0 || m.Certificates.Issued["first"] != 1 {
		t.Errorf("%+v", m.Certificates)
	}
	d.must("certificates issued, first: 1 since the start", "metrics")
	cloudIsBack(d)
	shows(func(r daemon.AuthorityReport) bool { return r.Authorities[1].Uploaded && r.Upload.Since == nil })
	if out := d.must("", "status"); strings.Contains(out, "warning:") {
		t.Error(out)
	}
}
