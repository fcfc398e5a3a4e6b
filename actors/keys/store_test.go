package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// open opens a store in a fresh path under the test's directory.
func open(t testing.TB, dir string, passphrase string) *Store {
	t.Helper()
	s, err := Open(dir, Options{Passphrase: []byte(passphrase)})
	if err != nil {
		t.Fatal(err)
	}
	s.rounds = 1000 // TestOpenSSLReadsEncryptedKeys has the production's count
	return s
}

// certify makes a self-signed certificate for a key, for its public half only.
func certify(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func newKey(t testing.TB, s Keys, caType string, known ...*x509.Certificate) crypto.Signer {
	t.Helper()
	key, err := s.NewAuthorityKey(caType, known...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func samePublic(a, b crypto.Signer) bool {
	return a.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.Public())
}

// keyFile returns the path of the only authority key in dir.
func keyFile(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "ca-*.key"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, error %v, want one key", found, err)
	}
	return found[0]
}

// rewrite replaces a key file, which is read-only.
func rewrite(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o400); err != nil {
		t.Fatal(err)
	}
}

// Both implementations of Keys keep the promises of the interface.
func TestKeys(t *testing.T) {
	for name, s := range map[string]Keys{
		"a plain store":        open(t, filepath.Join(t.TempDir(), "k"), ""),
		"an encrypted store":   open(t, filepath.Join(t.TempDir(), "k"), "correct horse"),
		"keys following seeds": NewSeeded([32]byte{1}),
	} {
		t.Run(name, func(t *testing.T) {
			first := newKey(t, s, TypeECDSAP256)
			if again := newKey(t, s, TypeECDSAP256); !samePublic(first, again) {
				t.Error("a key that no authority was logged for is not used again")
			}
			certificate := certify(t, first)
			second := newKey(t, s, TypeECDSAP256, certificate)
			if samePublic(first, second) {
				t.Error("the key of a known authority is given to a new one")
			}
			got, err := s.AuthorityKey(certificate)
			if err != nil || !samePublic(got, first) {
				t.Errorf("key of the authority: %v", err)
			}
			other := newKey(t, s, TypeRSA2048, certificate)
			if typeOf(other.Public()) != TypeRSA2048 {
				t.Errorf("type %s, want RSA_2048", typeOf(other.Public()))
			}
			if _, err := s.NewAuthorityKey("rsa_2048"); err == nil {
				t.Error("an unknown type is accepted")
			}
			stranger, err := s.NewServerKey()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.AuthorityKey(certify(t, stranger)); !errors.Is(err, ErrMissing) {
				t.Errorf("the key of an unknown authority: %v, want ErrMissing", err)
			}
			if next, err := s.NewServerKey(); err != nil || samePublic(stranger, next) {
				t.Errorf("two server keys are one (%v)", err)
			}
			signer, verifier, err := s.LogSigner()
			if err != nil {
				t.Fatal(err)
			}
			signature, err := signer.Sign([]byte("text"))
			if err != nil || !verifier.Verify([]byte("text"), signature) || verifier.Verify([]byte("texu"), signature) {
				t.Errorf("signature %x (%v) is not checked", signature, err)
			}
			if _, again, err := s.LogSigner(); err != nil || again.String() != verifier.String() {
				t.Errorf("the log's key changed (%v)", err)
			}
		})
	}
}

func TestStoreSurvivesReopen(t *testing.T) {
	for _, passphrase := range []string{"", "correct horse"} {
		dir := filepath.Join(t.TempDir(), "keys")
		s := open(t, dir, passphrase)
		certificate := certify(t, newKey(t, s, TypeECDSAP256))
		_, before, err := s.LogSigner()
		if err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, passphrase)
		key, err := s.AuthorityKey(certificate)
		if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(certificate.PublicKey) {
			t.Errorf("passphrase %q: %v", passphrase, err)
		}
		if _, after, err := s.LogSigner(); err != nil || after.String() != before.String() {
			t.Errorf("passphrase %q: log key %v (%v), want %v", passphrase, after, err, before)
		}
		text, err := os.ReadFile(keyFile(t, dir))
		if err != nil || bytes.Contains(text, []byte("ENCRYPTED")) != (passphrase != "") {
			t.Errorf("passphrase %q: stored as %.40q (%v)", passphrase, text, err)
		}
	}
}

// Reliability spec 4.4: dir 0700, files 0400, nobody else's.
func TestModesOfNewFiles(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir, "")
	newKey(t, s, TypeECDSAP256)
	if _, _, err := s.LogSigner(); err != nil {
		t.Fatal(err)
	}
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := fs.FileMode(0o400)
		if entry.IsDir() {
			want = 0o700
		}
		if count++; info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil || count != 4 {
		t.Errorf("%d entries, error %v, want the directory and 3 files", count, err)
	}
}

// Reliability spec 4.4 and C-I4: what is refused, and that nothing is changed by it.
func TestStoresThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir, key string)
		want  error
	}{
		{"a directory others may list", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o750)) }, ErrUnsafe},
		{"a directory others may enter", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o701)) }, ErrUnsafe},
		{"a key the group may read", func(t *testing.T, _, key string) { must(t, os.Chmod(key, 0o440)) }, ErrUnsafe},
		{"a key others may write", func(t *testing.T, _, key string) { must(t, os.Chmod(key, 0o602)) }, ErrUnsafe},
		{"a log key others may read", func(t *testing.T, dir, _ string) { must(t, os.Chmod(filepath.Join(dir, "log.key"), 0o404)) }, ErrUnsafe},
		{"a link for a key", func(t *testing.T, dir, key string) {
			must(t, os.Rename(key, dir+"/elsewhere"))
			must(t, os.Symlink(dir+"/elsewhere", key))
		}, ErrUnsafe},
		{"a directory for a key", func(t *testing.T, _, key string) { must(t, os.Remove(key)); must(t, os.Mkdir(key, 0o700)) }, ErrUnsafe},
		{"a pipe for a key", func(t *testing.T, _, key string) { must(t, os.Remove(key)); must(t, syscall.Mkfifo(key, 0o400)) }, ErrUnsafe},
		{"a giant for a key", func(t *testing.T, _, key string) { rewrite(t, key, make([]byte, 65<<10)) }, ErrUnsafe},
		{"a file for the store", func(t *testing.T, dir, _ string) { must(t, os.RemoveAll(dir)); must(t, os.WriteFile(dir, nil, 0o600)) }, ErrUnsafe},
		{"a link for the store", func(t *testing.T, dir, _ string) {
			must(t, os.Rename(dir, dir+"2"))
			must(t, os.Symlink(dir+"2", dir))
		}, ErrUnsafe},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			s := open(t, dir, "")
			newKey(t, s, TypeECDSAP256)
			if _, _, err := s.LogSigner(); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, dir, keyFile(t, dir))
			if _, err := Open(dir, Options{}); !errors.Is(err, c.want) {
				t.Errorf("open: %v, want %v", err, c.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no", "parent"), Options{}); err == nil {
		t.Error("a store without parent directory is made")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// foreign is the description of a file of another user.
type foreign struct{ fs.FileInfo }

func (f foreign) Sys() any { return &syscall.Stat_t{Uid: uint32(os.Geteuid()) + 1} }

func TestAnotherUsersFileIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(dir, 0o700))
	info, err := os.Stat(dir)
	must(t, err)
	if err := checkInfo(dir, info, "0700"); err != nil {
		t.Errorf("our own: %v", err)
	}
	if err := checkInfo(dir, foreign{info}, "0700"); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("another's: %v", err)
	}
}

// Reliability spec C-I4: a key store that exists and cannot be opened refuses. Neither
// AuthorityKey nor NewAuthorityKey makes anything then.
func TestKeysThatCannotBeOpened(t *testing.T) {
	for _, c := range []struct {
		name       string
		passphrase string // of the reopened store; the key is encrypted by "correct horse"
		spoil      func(t *testing.T, dir, key string)
		want       error
	}{
		{"a wrong passphrase", "battery staple", nil, ErrLocked},
		{"no passphrase", "", nil, ErrLocked},
		{"half a file", "correct horse", func(t *testing.T, _, key string) {
			text, err := os.ReadFile(key)
			must(t, err)
			rewrite(t, key, text[:len(text)/2])
		}, ErrDamaged},
		{"an empty file", "correct horse", func(t *testing.T, _, key string) { rewrite(t, key, nil) }, ErrDamaged},
		{"another block", "correct horse", func(t *testing.T, _, key string) {
			rewrite(t, key, []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
		}, ErrDamaged},
		{"something behind the key", "correct horse", func(t *testing.T, _, key string) {
			text, err := os.ReadFile(key)
			must(t, err)
			rewrite(t, key, append(text, text...))
		}, ErrDamaged},
		{"another authority's key under its name", "correct horse", func(t *testing.T, _, key string) {
			other := filepath.Join(t.TempDir(), "other")
			newKey(t, open(t, other, ""), TypeECDSAP256)
			text, err := os.ReadFile(keyFile(t, other))
			must(t, err)
			rewrite(t, key, text)
		}, ErrMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			certificate := certify(t, newKey(t, open(t, dir, "correct horse"), TypeECDSAP256))
			if c.spoil != nil {
				c.spoil(t, dir, keyFile(t, dir))
			}
			s := open(t, dir, c.passphrase)
			if key, err := s.AuthorityKey(certificate); !errors.Is(err, c.want) || key != nil {
				t.Errorf("AuthorityKey: %v, want %v", err, c.want)
			}
			if key, err := s.NewAuthorityKey(TypeECDSAP256); !errors.Is(err, c.want) || key != nil {
				t.Errorf("NewAuthorityKey with an empty log: %v, want %v", err, c.want)
			}
			keyFile(t, dir) // still exactly one
		})
	}
}

func TestLostKeysAreNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir, "")
	certificate := certify(t, newKey(t, s, TypeECDSAP256))
	if _, _, err := s.LogSigner(); err != nil {
		t.Fatal(err)
	}
	must(t, os.Remove(keyFile(t, dir)))
	must(t, os.Remove(filepath.Join(dir, "log.key")))
	s = open(t, dir, "")
	if _, err := s.AuthorityKey(certificate); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "restore the key store from its backup") {
		t.Errorf("authority: %v, want ErrMissing", err)
	}
	if _, _, err := s.LogSigner(); !errors.Is(err, ErrMissing) {
		t.Errorf("log: %v, want ErrMissing", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%v in the store, want log.pub alone", entries)
	}
}

// A crash between the log key and its public half, or in the middle of a write.
func TestCrashesInTheStoreAreMended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	_, before, err := open(t, dir, "").LogSigner()
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "log.pub")))
	must(t, os.WriteFile(filepath.Join(dir, tempPrefix+"0123"), []byte("half a ke"), 0o400))
	_, after, err := open(t, dir, "").LogSigner()
	if err != nil || after.String() != before.String() {
		t.Errorf("log key %v (%v), want %v", after, err, before)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	must(t, os.Remove(filepath.Join(dir, "log.pub")))
	must(t, os.WriteFile(filepath.Join(dir, "log.pub"), []byte("gatehouse.local/log+00000000+AAAA\n"), 0o400))
	if _, _, err := open(t, dir, "").LogSigner(); !errors.Is(err, ErrMismatch) {
		t.Errorf("another log's public half: %v, want ErrMismatch", err)
	}
}

func TestAFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, writeFile(path, []byte("first")))
	if err := writeFile(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: %v, want ErrExist", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
		t.Errorf("got %q (%v), want the first", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
