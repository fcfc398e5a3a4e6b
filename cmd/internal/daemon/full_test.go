package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStartsOnAFullDisk: the log refuses records and grants; what was in force is, and what
// restricts is accepted (reliability spec 2.3, A7). The embedded broker, whose key lives in
// memory, needs another certificate at each start, and so space: it waits for that.
func TestStartsOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.json")
	write := func(doc string) {
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{}\n")
	full := Config{Policy: file, MQTTListen: "127.0.0.1:0", freeSpace: func(string) (uint64, error) { return 8 << 20, nil }}
	startDaemon(t, dir, Config{Policy: file}).Close()

	d := startDaemon(t, dir, full)
	if _, err := d.quarantine(t.Context(), DeviceRequest{Thing: "pump-1", Reason: "test"}); err != nil {
		t.Errorf("quarantine: %v", err)
	}
	if s, err := d.status(t.Context(), struct{}{}); err != nil || !strings.Contains(strings.Join(s.Warnings, "\n"), "no certificate yet") {
		t.Errorf("status: %v, %q", err, s.Warnings)
	}
	if end := d.snapshot().CertificateEnd; !end.IsZero() {
		t.Errorf("a certificate until %v", end)
	}
	d.Close()

	write(`{"formatVersion":"2021-03-05"}` + "\n") // edited while the daemon was down
	startDaemon(t, dir, full).Close()
}
