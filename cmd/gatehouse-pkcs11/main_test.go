package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"
)

const pin = "47110815"

// newToken makes a SoftHSM token "core" with an EC key "ca" of an id that is no UTF-8, and
// returns how it is reached.
func newToken(t *testing.T) object {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	run(t, "softhsm2-util", "--init-token", "--free", "--label", "core", "--pin", pin, "--so-pin", "12345678")
	module := softHSM(t)
	run(t, "pkcs11-tool", "--module", module, "--token-label", "core", "--login", "--pin", pin,
		"--keypairgen", "--key-type", "EC:prime256v1", "--label", "ca", "--id", "a1ff")
	return object{Token: token{Module: module, Label: "core", PIN: pin}, Label: "ca"}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("GATEHOUSE_E2E") != "1" {
			t.Skipf("%s is missing; set GATEHOUSE_E2E=1 to make this a failure", name)
		}
		t.Fatalf("%s is missing", name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
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

// asked serves requests one after the other, in one process.
func asked(t *testing.T, requests ...request) []answer {
	t.Helper()
	var in, out bytes.Buffer
	for i := range requests {
		requests[i].Number = uint64(i + 10)
		if err := json.NewEncoder(&in).Encode(requests[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := serve(&in, &out); err != nil {
		t.Fatal(err)
	}
	answers := make([]answer, len(requests))
	lines := json.NewDecoder(&out)
	for i := range answers {
		if err := lines.Decode(&answers[i]); err != nil || answers[i].Number != requests[i].Number {
			t.Fatalf("answer %d: %+v, %v", i, answers[i], err)
		}
	}
	return answers
}

func TestPINRefused(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("log in: %w", p11.Error(p11.CKR_PIN_INCORRECT)): true,
		p11.Error(p11.CKR_PIN_LOCKED):                              true,
		p11.Error(p11.CKR_DEVICE_REMOVED):                          false,
		errors.New("CKR_PIN_INCORRECT"):                            false,
	} {
		if got := pinRefused(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
	right := newToken(t)
	wrong, gone := right, right
	wrong.Token.PIN, gone.Token.Label = "00000000", "gone"
	a := asked(t, request{Op: "key", Object: wrong}, request{Op: "key", Object: gone}, request{Op: "key", Object: right})
	if !a[0].PINRefused || a[0].Error == "" || strings.Contains(a[0].Error, wrong.Token.PIN) {
		t.Errorf("a wrong PIN: %+v", a[0])
	}
	if a[1].PINRefused || a[1].Error == "" {
		t.Errorf("no such token: %+v", a[1])
	}
	if a[2].Error != "" || len(a[2].Public) == 0 {
		t.Errorf("the right PIN: %+v", a[2])
	}
}

// A token that is logged in to takes any PIN: a wrong one must be told all the same, and not
// be found after the next restart.
func TestAnotherPINLogsInAnew(t *testing.T) {
	right := newToken(t)
	wrong := right
	wrong.Token.PIN = "00000000"
	a := asked(t, request{Op: "key", Object: right}, request{Op: "key", Object: wrong}, request{Op: "key", Object: right})
	if a[0].Error != "" || !a[1].PINRefused || a[2].Error != "" {
		t.Errorf("right, wrong, right: %+v", a)
	}
}

// noisy is a library that prints when it is loaded.
const noisy = `#include <stdio.h>
__attribute__((constructor)) static void loaded(void) { printf("module 1.0 loaded\n"); fflush(stdout); }
`

// What a token's library prints is no answer.
func TestLibraryThatPrints(t *testing.T) {
	dir := t.TempDir()
	program, module, source := filepath.Join(dir, "gatehouse-pkcs11"), filepath.Join(dir, "noisy.so"), filepath.Join(dir, "noisy.c")
	if err := os.WriteFile(source, []byte(noisy), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "gcc", "-shared", "-fPIC", "-o", module, source)
	run(t, "go", "build", "-o", program, ".")
	line, err := json.Marshal(request{Number: 7, Op: "key", Object: object{Token: token{Module: module, Label: "core"}, Label: "ca"}})
	if err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	cmd := exec.Command(program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(line), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	var a answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil || a.Number != 7 || a.Error == "" {
		t.Errorf("answered %q: %v", &out, err)
	}
	if !strings.Contains(said.String(), "module 1.0 loaded") {
		t.Errorf("the library was not loaded, or did not print: %q", &said)
	}
}

// An id is bytes, be they no UTF-8; what looks like hex is not taken for it.
func TestID(t *testing.T) {
	byLabel := newToken(t)
	byID, hex := byLabel, byLabel
	byID.Label, byID.ID = "", []byte{0xa1, 0xff}
	hex.Label, hex.ID = "", []byte("a1ff")
	a := asked(t, request{Op: "key", Object: byLabel}, request{Op: "key", Object: byID}, request{Op: "key", Object: hex})
	if a[0].Error != "" || a[1].Error != "" || !bytes.Equal(a[0].Public, a[1].Public) {
		t.Errorf("by label %+v, by id %+v", a[0], a[1])
	}
	if a[2].Error == "" {
		t.Errorf("the id's hex for the id: %+v", a[2])
	}
}
