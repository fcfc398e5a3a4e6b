package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// ownAuthority is an authority as common tools make it.
type ownAuthority struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newOwn(t testing.TB, name string) ownAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ownAuthority{key, der}
}

func (o ownAuthority) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.der})
}

func (o ownAuthority) pkcs8(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(o.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPlain, Bytes: der})
}

func put(t testing.TB, path string, text []byte, mode os.FileMode) {
	t.Helper()
	_ = os.Remove(path)
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestOpenFiles: what operators write is read, and what cannot be is told with what to do;
// as long as nothing changes it is the same.
func TestOpenFiles(t *testing.T) {
	dir := t.TempDir()
	own, above := newOwn(t, "issuing"), newOwn(t, "above")
	cert, key, chain := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"), filepath.Join(dir, "chain.pem")
	uris := URIs{Certificate: "file://" + cert, PrivateKey: "file://" + key, Chain: "file://" + chain}
	put(t, cert, own.certificate(), 0o644)
	put(t, chain, append(own.certificate(), above.certificate()...), 0o644)
	put(t, key, own.pkcs8(t), 0o600)
	c := NewCustom(CustomOptions{Passphrase: []byte("correct")})
	defer c.Close()
	first, err := c.Open(t.Context(), uris)
	if err != nil {
		t.Fatal(err)
	}
	if string(first.Issuing) != string(own.der) || len(first.Others) != 2 || !own.key.PublicKey.Equal(first.Signer.Public()) {
		t.Errorf("opened %+v", first)
	}
	if again, err := c.Open(t.Context(), uris); err != nil || again != first {
		t.Errorf("opened again: %v, the same %t", err, again == first)
	}
	put(t, chain, own.certificate(), 0o644)
	second, err := c.Open(t.Context(), uris)
	if err != nil || second == first || second.Signer != first.Signer {
		t.Errorf("another chain: %v", err)
	}

	ec, err := x509.MarshalECPrivateKey(own.key)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})
	inner, err := x509.MarshalPKCS8PrivateKey(own.key)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := encryptKey(rand.Reader, inner, []byte("correct"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: blockEncrypted, Bytes: locked})
	old := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: ec})
	for _, v := range []struct {
		name string
		text []byte
		mode os.FileMode
		want error  // nil: it opens
		hint string // what the error says
	}{
		{"SEC 1", sec1, 0o400, nil, ""},
		{"with parameters before it", append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), sec1...), 0o440, nil, ""},
		{"encrypted", encrypted, 0o600, nil, ""},
		{"encrypted in the manner of old", old, 0o600, ErrLocked, "openssl pkcs8"},
		{"readable by all", sec1, 0o644, ErrUnsafe, "chmod"},
		{"writable by the group", sec1, 0o660, ErrUnsafe, "chmod"},
		{"two keys", append(sec1, sec1...), 0o600, ErrDamaged, "more than one"},
		{"a certificate", own.certificate(), 0o600, ErrDamaged, "want a private key"},
		{"nothing", nil, 0o600, ErrDamaged, "no private key"},
		{"garbage", pem.EncodeToMemory(&pem.Block{Type: blockPlain, Bytes: []byte("x")}), 0o600, ErrDamaged, ""},
		{"too long", make([]byte, fileBytesMax+1), 0o600, ErrDamaged, "bytes"},
	} {
		t.Run(v.name, func(t *testing.T) {
			put(t, key, v.text, v.mode)
			o, err := c.Open(t.Context(), uris)
			switch {
			case v.want == nil && (err != nil || !own.key.PublicKey.Equal(o.Signer.Public())):
				t.Errorf("not opened: %v", err)
			case v.want != nil && (!errors.Is(err, v.want) || !strings.Contains(err.Error(), v.hint) || !strings.Contains(err.Error(), "privateKeyUri")):
				t.Errorf("error %v, want %v with %q", err, v.want, v.hint)
			}
		})
	}
	put(t, key, encrypted, 0o600)
	for _, passphrase := range []string{"", "wrong"} {
		wrong := NewCustom(CustomOptions{Passphrase: []byte(passphrase)})
		if _, err := wrong.Open(t.Context(), uris); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "keys.passphraseFile") {
			t.Errorf("passphrase %q: %v", passphrase, err)
		}
	}
	put(t, key, sec1, 0o600)
	for name, bad := range map[string]struct {
		uris URIs
		want error
	}{
		"no certificate file":             {URIs{"file:///none.pem", uris.PrivateKey, ""}, ErrMissing},
		"no key file":                     {URIs{uris.Certificate, "file:///none.key", ""}, ErrMissing},
		"no chain file":                   {URIs{uris.Certificate, uris.PrivateKey, "file:///none.pem"}, ErrMissing},
		"a folder":                        {URIs{"file://" + dir, uris.PrivateKey, ""}, ErrUnsafe},
		"a key for a certificate":         {URIs{uris.PrivateKey, uris.PrivateKey, ""}, ErrCustom},
		"a relative path":                 {URIs{"file:ca.pem", uris.PrivateKey, ""}, ErrURI},
		"another machine's file":          {URIs{"file://host/ca.pem", uris.PrivateKey, ""}, ErrURI},
		"another scheme":                  {URIs{"https:///ca.pem", uris.PrivateKey, ""}, ErrURI},
		"a chain in a token":              {URIs{uris.Certificate, uris.PrivateKey, "pkcs11:object=x"}, ErrURI},
		"malformed":                       {URIs{"file:///%zz", uris.PrivateKey, ""}, ErrURI},
		"endless":                         {URIs{"file:///" + strings.Repeat("x", uriBytesMax), uris.PrivateKey, ""}, ErrURI},
		"a token, and no way to reach it": {URIs{uris.Certificate, "pkcs11:token=t;object=x?module-path=/m", ""}, ErrMissing},
	} {
		if _, err := c.Open(t.Context(), bad.uris); !errors.Is(err, bad.want) {
			t.Errorf("%s: %v, want %v", name, err, bad.want)
		}
	}
	if o, err := c.Open(t.Context(), uris); err != nil || o == nil {
		t.Errorf("at last the good one: %v", err)
	}
}

func TestPKCS11URI(t *testing.T) {
	for uri, want := range map[string]string{
		"pkcs11:object=CustomerIntermediateCA;type=private":                                  `{"token":{"module":""},"object":"CustomerIntermediateCA"} `,
		"pkcs11:token=My%20token;object=a%3Bb;id=%01%02?pin-source=file:///p&module-path=/m": `{"token":{"module":"/m","token":"My token"},"object":"a;b","id":"AQI="} /p`,
		"PKCS11:slot-id=5;id=7371;vendor-x=1?pin-value=12%2634":                              `{"token":{"module":"","slot":"5","pin":"12\u002634"},"id":"NzM3MQ=="} `,
		"pkcs11:module-path=/m;serial=ab;object=a?pin-source=/run/pin":                       `{"token":{"module":"/m","serial":"ab"},"object":"a"} /run/pin`,
		"pkcs11:token=t;id=%a1%ff%01":                                                        `{"token":{"module":"","token":"t"},"id":"of8B"} `,
		"pkcs11:object=a?pin-value=%ff":                                                      "error",
		"pkcs11:object=%ff":                                                                  "error",
		"pkcs11:token=t":                                                                     "error",
		"pkcs11:":                                                                            "error",
		"file:object=a":                                                                      "error",
		"pkcs11:object=a;object=b":                                                           "error",
		"pkcs11:object=%zz":                                                                  "error",
		"pkcs11:object=a?pin-source=file://host/pin":                                         "error",
	} {
		o, pinFile, err := parsePKCS11(uri)
		text, _ := json.Marshal(o)
		got := string(text) + " " + pinFile
		if err != nil {
			if got = "error"; !errors.Is(err, ErrURI) {
				t.Errorf("%s: error %v", uri, err)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

// A PIN is in no error, however malformed the URI that holds it.
func TestRedacted(t *testing.T) {
	const pin = "47110815"
	for _, uri := range []string{
		"pkcs11:object=a?pin-value=" + pin, "pkcs11:object=a;pin-value=" + pin + ";token=t", "pkcs11:token=%zz?PIN-VALUE=" + pin + "&x=1",
		"pkcs11:pin-value=" + pin, ":bad pin-value=" + pin, "pkcs11:object=a?pin-value=" + pin + "&pin-value=" + pin,
	} {
		if got := (URIs{Certificate: uri, PrivateKey: uri, Chain: uri}).Redacted(); strings.Contains(fmt.Sprint(got), pin) {
			t.Errorf("%s: %v", uri, got)
		}
		c := NewCustom(CustomOptions{})
		if _, err := c.Open(t.Context(), URIs{Certificate: uri, PrivateKey: uri}); err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func FuzzPKCS11URI(f *testing.F) {
	f.Add("pkcs11:token=My%20token;object=a%3Bb;id=%01%02?pin-source=file:///p&module-path=/m")
	f.Add("pkcs11:slot-id=5;id=7371?pin-value=12%2634")
	f.Add("pkcs11:token=t;id=%a1%ff%01")
	f.Add("pkcs11:object=%ff;token=%fe")
	f.Fuzz(func(t *testing.T, uri string) {
		o, _, err := parsePKCS11(uri)
		if err != nil {
			if !errors.Is(err, ErrURI) || !reflect.ValueOf(o).IsZero() {
				t.Errorf("%+v, error %v", o, err)
			}
			return
		}
		if o.Label == "" && len(o.ID) == 0 {
			t.Errorf("%s names nothing", uri)
		}
		if pin := o.Token.PIN; len(pin) > 8 && strings.Contains(redact(uri), pin) && strings.Count(uri, pin) == 1 {
			t.Errorf("%q keeps its PIN", redact(uri))
		}
		line, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var arrived object
		if err := json.Unmarshal(line, &arrived); err != nil || arrived.digest() != o.digest() {
			t.Errorf("sent %+q, arrived %+q: %v", o, arrived, err)
		}
	})
}

func FuzzCustomKey(f *testing.F) {
	own := newOwn(f, "x")
	f.Add(own.pkcs8(f))
	f.Add(own.certificate())
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if signer, err := parseCustomKey(text, nil); (signer == nil) != (err != nil) || err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLocked) {
			t.Errorf("%v, %v", signer, err)
		}
		if list, err := parseCertificates(text); (len(list) == 0) != (err != nil) {
			t.Errorf("%d certificates, %v", len(list), err)
		}
	})
}

// script is a helper that answers as it was told, a line for each question.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	const number = `number() { n=${x#*:}; echo "\"number\":${n%%,*}"; }` // of the question in x
	put(t, path, []byte("#!/bin/sh\n"+number+"\n"+body), 0o700)
	return path
}

// TestHelper: what goes wrong with the program that reaches the token is an error, and the
// next question finds it started anew.
func TestHelper(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	for _, v := range []struct{ name, path, want string }{
		{"none", "/none/gatehouse-pkcs11", "no such file"},
		{"it ends at once", script(t, "exit 1\n"), "the helper"},
		{"it talks nonsense", script(t, "read x; echo nonsense\n"), "the helper's answer"},
		{"it answers endlessly", script(t, "read x; yes | tr -d '\\n'\n"), "ended without an answer"},
		{"the token says no", script(t, `while read x; do echo "{$(number),\"error\":\"CKR_PIN_LOCKED\"}"; done`), "CKR_PIN_LOCKED"},
		{"it answers nobody", script(t, `read x; echo '{"public":"AA=="}'`), "answer is to another question"},
		{"it hangs", script(t, "read x; exec sleep 60\n"), "does not answer"},
		{"it answers the second time", script(t, fmt.Sprintf(`read x; if [ -e %s ]; then echo "{$(number),\"public\":\"AA==\"}"; else touch %[1]s; exit 1; fi`, count)), "ended without an answer"},
	} {
		t.Run(v.name, func(t *testing.T) {
			h := &helper{path: v.path}
			defer h.close()
			var answer struct{ Public []byte }
			ask := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				return h.call(ctx, request{Op: "key"}, &answer)
			}
			err := ask()
			if !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), v.want) {
				t.Errorf("%v, want %s", err, v.want)
			}
			if v.name == "it answers the second time" {
				if err := ask(); err != nil || len(answer.Public) != 1 {
					t.Errorf("the second time: %v", err)
				}
			}
			h.close()
			if err := ask(); !errors.Is(err, ErrToken) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// A key in a token cannot sign a whole message; nothing is asked.
func TestTokenSigner(t *testing.T) {
	s := &tokenSigner{helper: &helper{path: "/none"}, public: newOwn(t, "x").key.Public()}
	if _, err := s.Sign(nil, []byte("message"), crypto.Hash(0)); !errors.Is(err, ErrToken) {
		t.Errorf("%v", err)
	}
	if _, err := s.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrToken) {
		t.Errorf("%v", err)
	}
}

// tokenOf is a Custom whose token is a script with one key: it takes the PIN that the file
// "good" holds, and notes each question in the file "asked".
func tokenOf(t *testing.T, own ownAuthority) (c *Custom, dir string, uris URIs) {
	t.Helper()
	dir = t.TempDir()
	spki, err := x509.MarshalPKIXPublicKey(own.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	path := script(t, fmt.Sprintf(`while read -r x; do echo "$x" >>%[1]s/asked; n=$(number)
case "$x" in *"\"pin\":\"$(cat %[1]s/good)\""*) ;; *) echo "{$n,"'"error":"CKR_PIN_INCORRECT","pinRefused":true}'; continue;; esac
case "$x" in *'"op":"key"'*) echo "{$n,"'"public":"%[2]s"}';; *'"op":"sign"'*) echo "{$n,"'"signature":"MQ=="}';; *) echo "{$n,"'"certificate":"%[3]s"}';; esac
done
`, dir, encode(spki), encode(own.der)))
	c = NewCustom(CustomOptions{PKCS11: PKCS11{Helper: path, Module: "/m", Token: "t", PINFile: filepath.Join(dir, "pin")}})
	t.Cleanup(c.Close)
	return c, dir, URIs{Certificate: "pkcs11:object=a", PrivateKey: "pkcs11:object=a"}
}

// asked counts the questions with a PIN.
func asked(t *testing.T, dir, pin string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), `"pin":"`+pin+`"`)
}

// A refused PIN is tried once, however often it is looked or signed: a token locks after a
// few. Another PIN, or the token named otherwise, is tried.
func TestRefusedPINIsTriedOnce(t *testing.T) {
	c, dir, uris := tokenOf(t, newOwn(t, "x"))
	put(t, filepath.Join(dir, "good"), []byte("right"), 0o600)
	put(t, filepath.Join(dir, "pin"), []byte("wrong\n"), 0o600)
	var first error
	for i := range 5 {
		_, err := c.Open(t.Context(), uris)
		if !errors.Is(err, ErrPIN) || !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "not tried again") {
			t.Fatalf("look %d: %v", i, err)
		}
		if first == nil {
			first = err
		} else if err.Error() != first.Error() { // or it would be on record at each look
			t.Errorf("look %d: %v, want %v", i, err, first)
		}
	}
	if n := asked(t, dir, "wrong"); n != 1 {
		t.Errorf("%d logins with a wrong PIN, want 1", n)
	}
	other := uris
	other.Certificate = "pkcs11:object=a;serial=2"
	if _, err := c.Open(t.Context(), other); !errors.Is(err, ErrPIN) || asked(t, dir, "wrong") != 2 {
		t.Errorf("another token: %v, %d logins", err, asked(t, dir, "wrong"))
	}
	put(t, filepath.Join(dir, "pin"), []byte("\xff\n"), 0o600) // would be sent as another
	if _, err := c.Open(t.Context(), uris); !errors.Is(err, ErrDamaged) {
		t.Errorf("a PIN that is no UTF-8: %v", err)
	}
	put(t, filepath.Join(dir, "pin"), []byte("right\n"), 0o600)
	opened, err := c.Open(t.Context(), uris)
	if err != nil {
		t.Fatal(err)
	}
	// the token's PIN changes under a signer in use
	put(t, filepath.Join(dir, "good"), []byte("new"), 0o600)
	before := asked(t, dir, "right")
	for range 3 {
		if _, err := opened.Signer.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrPIN) {
			t.Errorf("sign: %v", err)
		}
	}
	if n := asked(t, dir, "right") - before; n != 1 {
		t.Errorf("%d logins to sign, want 1", n)
	}
}

// A signer that was opened with the former PIN would go on with it, and lock the token.
func TestAnotherPINIsAnotherSigner(t *testing.T) {
	c, dir, uris := tokenOf(t, newOwn(t, "x"))
	change := func(pin string) {
		put(t, filepath.Join(dir, "good"), []byte(pin), 0o600)
		put(t, filepath.Join(dir, "pin"), []byte(pin+"\n"), 0o600)
	}
	change("old")
	first, err := c.Open(t.Context(), uris)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Open(t.Context(), uris); err != nil || again != first {
		t.Errorf("opened again: %v, the same %t", err, again == first)
	}
	change("new")
	before := asked(t, dir, "old")
	second, err := c.Open(t.Context(), uris)
	if err != nil || second == first {
		t.Fatalf("with another PIN: %v, the same %t", err, second == first)
	}
	if _, err := second.Signer.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil || asked(t, dir, "old") != before {
		t.Errorf("sign: %v, %d more logins with the former PIN", err, asked(t, dir, "old")-before)
	}
	c.options.PKCS11.Module = "/another"
	if third, err := c.Open(t.Context(), uris); err != nil || third == second {
		t.Errorf("another module: %v, the same %t", err, third == second)
	}
}

// One stray line is one failed question: the answers after it would each be taken for
// that to the next.
func TestHelperOutOfStep(t *testing.T) {
	for name, stray := range map[string]string{
		"a word":              "module 1.0 loaded",
		"another's answer":    `{"number":7,"public":"MQ=="}`,
		"an answer to none":   `{"public":"MQ=="}`,
		"JSON, but no object": "5",
	} {
		t.Run(name, func(t *testing.T) {
			once := filepath.Join(t.TempDir(), "once")
			h := &helper{path: script(t, fmt.Sprintf(`while read -r x; do
if [ ! -e %[1]s ]; then touch %[1]s; echo '%[2]s'; fi
case "$x" in *'"op":"key"'*) echo "{$(number),"'"public":"MQ=="}';; *) echo "{$(number),"'"certificate":"Mg=="}';; esac
done
`, once, stray))}
			defer h.close()
			for i := range 4 {
				var answer struct{ Public, Certificate []byte }
				op := []string{"key", "certificate"}[i%2]
				err := h.call(t.Context(), request{Op: op}, &answer)
				if i == 0 {
					if !errors.Is(err, ErrToken) {
						t.Errorf("the stray line: %v", err)
					}
				} else if err != nil || (op == "key") != (string(answer.Public) == "1") || (op == "certificate") != (string(answer.Certificate) == "2") {
					t.Errorf("question %d, %s: %+v, %v", i, op, answer, err)
				}
			}
		})
	}
}
