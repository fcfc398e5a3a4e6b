package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// workshop is where an operator makes an authority with common tools.
type workshop struct {
	t   *testing.T
	dir string
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	need(t, "openssl")
	return &workshop{t, t.TempDir()}
}

func (w *workshop) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workshop) run(tool string, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// authority makes name.key and name.pem, signed by issuer ("": by itself), and
// name-chain.pem from itself to the root.
func (w *workshop) authority(name, issuer string, key ...string) {
	w.t.Helper()
	w.run("openssl", append([]string{"genpkey", "-out", name + ".key"}, key...)...)
	w.run("openssl", "req", "-new", "-key", name+".key", "-subj", "/CN="+name, "-out", name+".csr")
	extensions := "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
	if err := os.WriteFile(w.path("ext"), []byte(extensions), 0o600); err != nil {
		w.t.Fatal(err)
	}
	sign := []string{"-signkey", name + ".key"}
	if issuer != "" {
		sign = []string{"-CA", issuer + ".pem", "-CAkey", issuer + ".key", "-CAcreateserial"}
	}
	w.run("openssl", append([]string{"x509", "-req", "-in", name + ".csr", "-days", "365", "-extfile", "ext", "-out", name + ".pem"}, sign...)...)
	chain := w.read(name + ".pem")
	if issuer != "" {
		chain = append(chain, w.read(issuer+"-chain.pem")...)
	}
	w.write(name+"-chain.pem", chain)
}

func (w *workshop) read(name string) []byte {
	w.t.Helper()
	text, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *workshop) write(name string, text []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workshop) copy(from, to string) { w.write(to, w.read(from)) }

var (
	rsaKey = []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}
	ecKey  = []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}
)

// gate is a core without a cloud whose configuration is edited.
type gate struct {
	*dev
	file       string
	nats, mqtt string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	dir := t.TempDir()
	return &gate{
		dev:  &dev{t: t, dir: filepath.Join(dir, "data"), log: newBuffer(), done: make(chan error, 1)},
		file: filepath.Join(dir, "gatehouse.yaml"), nats: freeAddr(t), mqtt: freeAddr(t),
	}
}

func (g *gate) configure(keys, authority string) {
	g.t.Helper()
	text := fmt.Sprintf("dir: data\nkeys: %s\nnats: {listen: %q}\nmqtt: {listen: %q, hostAddresses: [localhost]}\nclientDeviceAuth:\n  certificateAuthority: %s\n",
		keys, g.nats, g.mqtt, authority)
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gate) serve(environment ...string) {
	g.t.Helper()
	path, err := binary()
	if err != nil {
		g.t.Fatal(err)
	}
	g.done = make(chan error, 1)
	cmd := exec.Command(path, "serve", "-c", g.file)
	cmd.Env = append(os.Environ(), environment...)
	g.run(cmd)
}

// refused starts the daemon, which must not come up, and returns what it says.
func (g *gate) refused(environment ...string) string {
	g.t.Helper()
	path, err := binary()
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "-c", g.file)
	cmd.Env = append(os.Environ(), environment...)
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if exitCode(err) != 1 {
		g.t.Fatalf("exit %v, want 1\n%s", err, out)
	}
	return string(out)
}

// shows has openssl look at the broker's certificate, trusting roots alone.
func (g *gate) shows(roots string) (ok bool, text string) {
	g.t.Helper()
	_, port, _ := net.SplitHostPort(g.mqtt)
	cmd := exec.Command("openssl", "s_client", "-connect", "localhost:"+port, "-CAfile", roots, "-verify_hostname", "localhost", "-verify_return_error", "-purpose", "sslserver", "-x509_strict")
	out, err := cmd.CombinedOutput()
	return err == nil && strings.Contains(string(out), "Verify return code: 0 (ok)"), string(out)
}

func (g *gate) mustShow(roots string) {
	g.t.Helper()
	if ok, text := g.shows(roots); !ok {
		g.t.Errorf("with %s:\n%s\n%s", filepath.Base(roots), text, g.log)
	}
}

// TestCustomAuthorityFromFiles: an intermediate with an EC key under an RSA root, made with
// openssl, issues what devices verify by the root; bad files change nothing, good ones do,
// and so does going back to a managed authority.
func TestCustomAuthorityFromFiles(t *testing.T) {
	w, g := newWorkshop(t), newGate(t)
	w.authority("root", "", rsaKey...)
	w.authority("first", "root", ecKey...)
	w.authority("second", "root", rsaKey...)
	custom := fmt.Sprintf(`{certificateUri: "file://%s", privateKeyUri: "file://%s", certificateChainUri: "file://%s"}`, w.path("ca.pem"), w.path("ca.key"), w.path("chain.pem"))
	g.configure("{}", custom)

	if out := g.refused(); !strings.Contains(out, "certificateUri") || !strings.Contains(out, "ca.pem is not there") {
		t.Errorf("without files:\n%s", out)
	}
	if files, _ := filepath.Glob(filepath.Join(g.dir, "keys", "ca-*")); len(files) > 0 {
		t.Errorf("a managed authority was made in its place: %v", files)
	}
	use := func(name string) {
		w.copy(name+".pem", "ca.pem")
		w.copy(name+"-chain.pem", "chain.pem")
		w.copy(name+".key", "ca.key")
	}
	use("first")
	g.serve()
	g.mustShow(w.path("root.pem"))
	g.mustShow(filepath.Join(g.dir, "ca.pem"))

	w.copy("second.key", "ca.key")
	g.log.await(t, "what was in force stays in force", 20*time.Second)
	g.mustShow(w.path("root.pem"))
	use("second")
	g.log.await(t, `custom authority in use" authority=`, 20*time.Second)
	deadline := time.After(20 * time.Second)
	for !bytes.Contains(g.read("ca.pem"), bytes.TrimSpace(w.read("second.pem"))) {
		select {
		case <-deadline:
			t.Fatalf("the second is not published\n%s", g.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !bytes.Contains(g.read("ca.pem"), bytes.TrimSpace(w.read("first.pem"))) {
		t.Error("the first is not published any more")
	}
	g.mustShow(w.path("root.pem"))

	g.configure("{}", "{caType: ECDSA_P256}")
	g.log.await(t, "authority made", 20*time.Second)
	g.mustShow(filepath.Join(g.dir, "ca.pem"))
	g.end(os.Interrupt)
	g.configure("{}", "{caType: ECDSA_P256}")
	g.serve() // the operator's keys are not opened any more: the managed one issues
	g.mustShow(filepath.Join(g.dir, "ca.pem"))
	if ok, _ := g.shows(w.path("root.pem")); ok {
		t.Error("the operator's authority still issues")
	}
	g.end(os.Interrupt)
	out, code := g.gatehouse("log", "cat")
	if code != 0 || !strings.Contains(out, "AuthorityRejected") || !strings.Contains(out, "AuthorityImported") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for _, name := range []string{"first", "second"} {
		g.noKey(w.read(name+".key"), out)
	}
	keys, _ := filepath.Glob(filepath.Join(g.dir, "keys", "ca-*.key"))
	if len(keys) != 1 {
		t.Fatalf("managed keys %v", keys)
	}
	managed, err := os.ReadFile(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	g.noKey(managed, out)
}

func (g *gate) read(name string) []byte {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		g.t.Fatal(err)
	}
	return text
}

// noKey looks for a private key in all that the daemon wrote but its key store: log files,
// its own log, and what is printed of events (reliability spec C-I3).
func (g *gate) noKey(text []byte, printed ...string) {
	g.t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		g.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		g.t.Fatal(err)
	}
	needles := [][]byte{secretOf(g.t, key), []byte(base64.StdEncoding.EncodeToString(der))[40:80], []byte(fmt.Sprintf("%x", secretOf(g.t, key)))}
	for _, needle := range needles {
		for _, out := range append(printed, g.log.String()) {
			if bytes.Contains([]byte(out), needle) {
				g.t.Error("a private key is in the output")
			}
		}
		err := filepath.WalkDir(g.dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				if e != nil && e.Name() == "keys" {
					return fs.SkipDir
				}
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, needle) {
				g.t.Errorf("a private key is in %s", path)
			}
			return err
		})
		if err != nil {
			g.t.Error(err)
		}
	}
}

// TestCustomAuthorityInAToken: SoftHSM holds the key, and the certificate; the daemon never
// sees the key. A wrong PIN or a token that is gone refuses the start with what to do.
func TestCustomAuthorityInAToken(t *testing.T) {
	w := newWorkshop(t)
	need(t, "softhsm2-util", "pkcs11-tool", "gcc")
	build := exec.Command("go", "build", "-o", w.path("gatehouse-pkcs11"), ".")
	build.Dir = "../gatehouse-pkcs11"
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build gatehouse-pkcs11: %v\n%s", err, out)
	}
	module := softHSM(t)
	w.write("softhsm2.conf", []byte("directories.tokendir = "+w.path("tokens")+"\nobjectstore.backend = file\n"))
	if err := os.Mkdir(w.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", w.path("softhsm2.conf"))
	const pin = "47110815"
	w.run("softhsm2-util", "--init-token", "--free", "--label", "core", "--pin", pin, "--so-pin", "12345678")
	w.write("pin", []byte(pin+"\n"))
	w.write("wrong", []byte("00000000\n"))
	w.authority("root", "", ecKey...)
	for i, key := range [][]string{ecKey, rsaKey} {
		name := []string{"ec", "rsa"}[i]
		w.authority(name, "root", key...)
		w.run("softhsm2-util", "--import", name+".key", "--token", "core", "--label", name, "--id", fmt.Sprintf("0%d", i+1), "--pin", pin)
		w.run("openssl", "x509", "-in", name+".pem", "-outform", "DER", "-out", name+".der")
		w.run("pkcs11-tool", "--module", module, "--token-label", "core", "--login", "--pin", pin, "--write-object", name+".der", "--type", "cert", "--label", name, "--id", fmt.Sprintf("0%d", i+1))
	}
	keysWith := func(pinFile string) string {
		return fmt.Sprintf(`{pkcs11: {helper: %q, module: %q, token: core, pinFile: %q}}`, w.path("gatehouse-pkcs11"), module, w.path(pinFile))
	}
	for _, name := range []string{"ec", "rsa"} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			authority := fmt.Sprintf(`{certificateUri: "pkcs11:object=%s;type=cert", privateKeyUri: "pkcs11:object=%[1]s;type=private", certificateChainUri: "file://%s"}`, name, w.path(name+"-chain.pem"))
			g.configure("{}", authority)
			if out := g.refused(); !strings.Contains(out, "keys.pkcs11.helper") && !strings.Contains(out, "keys.pkcs11.module") {
				t.Errorf("without a helper:\n%s", out)
			}
			g.configure(keysWith("wrong"), authority)
			if out := g.refused(); !strings.Contains(out, "PKCS#11 token") || strings.Contains(out, "00000000") {
				t.Errorf("with a wrong PIN:\n%s", out)
			}
			g.configure(keysWith("pin"), authority)
			g.serve()
			g.mustShow(w.path("root.pem"))
			g.end(os.Interrupt)
			if strings.Contains(g.log.String(), pin) {
				t.Error("the PIN is in the log")
			}
			out, _ := g.gatehouse("log", "cat")
			g.noKey(w.read(name+".key"), out)
			if strings.Contains(out, pin) || !strings.Contains(out, "AuthorityImported") {
				t.Errorf("events:\n%s", out)
			}
			g.configure(strings.Replace(keysWith("pin"), "token: core", "token: gone", 1), authority)
			if out := g.refused(); !strings.Contains(out, "could not find PKCS#11 token") {
				t.Errorf("without the token:\n%s", out)
			}
		})
	}
}

// softHSM finds Debian's library.
func softHSM(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("softhsm2-util is there, and its library is not found")
	return ""
}

// secretOf is what must be nowhere.
func secretOf(t *testing.T, key any) []byte {
	t.Helper()
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		raw, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	case *rsa.PrivateKey:
		return key.Primes[0].Bytes()
	}
	t.Fatalf("a %T", key)
	return nil
}
