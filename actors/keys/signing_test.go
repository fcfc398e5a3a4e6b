package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The C2SP signed-note format, held against the published example key of
// golang.org/x/mod/sumdb/note.
func TestLogSignerMakesNotes(t *testing.T) {
	const (
		secret    = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz" // the algorithm's byte and the seed
		verifier  = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
		text      = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
		signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=" // hash and signature
	)
	raw, err := base64.StdEncoding.DecodeString(secret)
	must(t, err)
	signer, v := newLogSigner(ed25519.NewKeyFromSeed(raw[1:]))
	signer.name, v.name = "PeterNeumann", "PeterNeumann"
	if v.String() != verifier {
		t.Errorf("verifier key %s, want %s", v, verifier)
	}
	signed, err := signer.Sign([]byte(text))
	must(t, err)
	line := base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, signer.KeyHash()), signed...))
	if line != signature || !v.Verify([]byte(text), signed) {
		t.Errorf("signature %s, want %s", line, signature)
	}
}

// The same seed gives the same keys and the same signatures; another seed others.
func TestSeededKeysRepeat(t *testing.T) {
	run := func(seed byte) (signatures [][]byte) {
		s := NewSeeded([32]byte{seed})
		for _, caType := range []string{TypeECDSAP256, TypeRSA2048} {
			key := newKey(t, s, caType)
			digest := sha256.Sum256([]byte(caType))
			signature, err := key.Sign(nil, digest[:], crypto.SHA256)
			must(t, err)
			signatures = append(signatures, signature)
		}
		server, err := s.NewServerKey()
		must(t, err)
		spki, err := x509.MarshalPKIXPublicKey(server.Public())
		must(t, err)
		return append(signatures, spki)
	}
	first, second, other := run(1), run(1), run(2)
	for i := range first {
		if !bytes.Equal(first[i], second[i]) {
			t.Errorf("%d differs under one seed", i)
		}
		if bytes.Equal(first[i], other[i]) {
			t.Errorf("%d is the same under two seeds", i)
		}
	}
}

func TestCurrentCertificate(t *testing.T) {
	s := NewSeeded([32]byte{4})
	var current Current
	if _, err := current.GetCertificate(&tls.ClientHelloInfo{}); !errors.Is(err, ErrNoCertificate) || current.Leaf() != nil {
		t.Errorf("before the first: %v", err)
	}
	first, err := s.NewServerKey()
	must(t, err)
	second, err := s.NewServerKey()
	must(t, err)
	firstLeaf, secondLeaf := certify(t, first), certify(t, second)
	must(t, current.Set([][]byte{firstLeaf.Raw}, first))
	for name, err := range map[string]error{
		"a key that does not belong": current.Set([][]byte{secondLeaf.Raw}, first),
		"no chain":                   current.Set(nil, first),
		"garbage":                    current.Set([][]byte{{1}}, first),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if !current.Leaf().Equal(firstLeaf) {
		t.Error("a refused certificate replaced the one in place")
	}
	must(t, current.Set([][]byte{secondLeaf.Raw}, second))
	held, err := current.GetCertificate(nil)
	if err != nil || !held.Leaf.Equal(secondLeaf) || held.PrivateKey != second {
		t.Errorf("after the exchange: %v", err)
	}
	if client, err := current.GetClientCertificate(nil); err != nil || client != held {
		t.Errorf("as a client: %v", err)
	}
}

// An encrypted key is a standard one: OpenSSL reads what we write, and we read what it
// writes.
func TestOpenSSLReadsEncryptedKeys(t *testing.T) {
	openssl := findOpenSSL(t)
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir, "correct horse")
	s.rounds = iterations
	certificate := certify(t, newKey(t, s, TypeECDSAP256))
	public, err := exec.CommandContext(t.Context(), openssl, "pkey", "-in", keyFile(t, dir), "-passin", "pass:correct horse", "-pubout", "-outform", "DER").Output()
	if err != nil || !bytes.Equal(public, certificate.RawSubjectPublicKeyInfo) {
		t.Errorf("openssl reads our key as %x (%v)", public, err)
	}
	plain, err := exec.CommandContext(t.Context(), openssl, "pkey", "-in", keyFile(t, dir), "-passin", "pass:correct horse").Output()
	must(t, err)
	convert := exec.CommandContext(t.Context(), openssl, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", "2048", "-passout", "pass:battery staple")
	convert.Stdin = bytes.NewReader(plain)
	theirs, err := convert.Output()
	must(t, err)
	rewrite(t, keyFile(t, dir), theirs)
	if _, err := open(t, dir, "battery staple").AuthorityKey(certificate); err != nil {
		t.Errorf("we read openssl's key: %v", err)
	}
	if _, err := open(t, dir, "battery stable").AuthorityKey(certificate); !errors.Is(err, ErrLocked) {
		t.Errorf("wrong passphrase for openssl's key: %v, want ErrLocked", err)
	}
}

// findOpenSSL fails where end-to-end tests must run, and skips elsewhere.
func findOpenSSL(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err == nil {
		return path
	}
	if os.Getenv("GATEHOUSE_E2E") == "1" {
		t.Fatalf("GATEHOUSE_E2E=1 and no openssl: %v", err)
	}
	t.Skipf("cross-check left out: %v", err)
	return ""
}

// FuzzParseKeyFile holds that a key file is a key, or one of the errors callers tell
// apart.
func FuzzParseKeyFile(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "keys")
	newKey(f, open(f, dir, ""), TypeECDSAP256)
	plain, err := os.ReadFile(keyFile(f, dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	s := &Store{} // no passphrase: a crafted count of rounds must cost nothing
	f.Fuzz(func(t *testing.T, text []byte) {
		signer, err := s.parse(text)
		if err == nil && signer.Public() == nil {
			t.Error("a signer without public key")
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLocked) {
			t.Errorf("%v is none of ours", err)
		}
	})
}
