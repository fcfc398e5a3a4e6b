package load

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bundleOf writes devices as a bundle.
func bundleOf(fleet []*Device) []byte {
	var doc []byte
	for _, d := range fleet {
		doc = AppendBundle(doc, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.DER}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: d.Key}))
	}
	return doc
}

func TestFleetsAreRead(t *testing.T) {
	made, err := makeStrangers(5)
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "fleet.pem")
	must(t, os.WriteFile(file, bundleOf(made), 0o600))
	folder := filepath.Join(dir, "devices")
	for i, d := range made[:3] {
		at := filepath.Join(folder, "pump-"+string('a'+rune(i)))
		must(t, os.MkdirAll(at, 0o700))
		doc := bundleOf([]*Device{d})
		end := bytes.Index(doc, []byte("-----BEGIN PRIVATE"))
		must(t, os.WriteFile(filepath.Join(at, "cert.pem"), append([]byte("a comment\n"), doc[:end]...), 0o600))
		if i < 2 {
			must(t, os.WriteFile(filepath.Join(at, "key.pem"), doc[end:], 0o600))
		}
	}
	must(t, os.WriteFile(filepath.Join(folder, "README"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(folder, "empty"), 0o700))
	for path, want := range map[string]string{file: "load-stranger-1 load-stranger-2 load-stranger-3 load-stranger-4", folder: "pump-a pump-b pump-c"} {
		fleet, err := ReadFleet(path, 4)
		must(t, err)
		var names []string
		for i, d := range fleet {
			names = append(names, string(d.Thing))
			if !bytes.Equal(d.DER, made[i].DER) || (d.Key == nil) != (path == folder && i == 2) {
				t.Errorf("%s of %s is another", d.Thing, path)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if _, err := ReadFleet(folder+"/empty", 1); err == nil || !strings.Contains(err.Error(), "no devices in it") {
		t.Error(err)
	}
	if _, err := ReadFleet(folder+"/none", 1); err == nil {
		t.Error("a folder that is not there is a fleet")
	}
}

// FuzzBundle: what is read as a fleet has certificates that can be parsed; what is not, is
// an error.
func FuzzBundle(f *testing.F) {
	made, err := makeStrangers(2)
	if err != nil {
		f.Fatal(err)
	}
	good := bundleOf(made)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("none"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		fleet, err := parseBundle(doc, 10)
		if err == nil && len(fleet) > 10 {
			t.Fatalf("%d devices", len(fleet))
		}
		for _, d := range fleet {
			if len(d.DER) == 0 || d.base64 == "" {
				t.Fatal("a device without a certificate")
			}
			if d.Key != nil {
				_, _ = d.tls() // it may be another's key, but must not panic
			}
		}
	})
}
