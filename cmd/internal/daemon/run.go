package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
)

// Run says where a running daemon is to be found.
type Run struct {
	PID   int    `json:"pid"`
	Epoch string `json:"epoch"`
	NATS  string `json:"nats"`
	MQTT  string `json:"mqtt,omitempty"`
}

// runMaxBytes bounds the run file.
const runMaxBytes = 4 << 10

func runFile(dir string) string { return filepath.Join(dir, "run.json") }

// ReadRun reads the run file of the daemon in dir. One that was left by a crash names a
// daemon that no longer answers.
func ReadRun(dir string) (Run, error) {
	var r Run
	doc, err := readLimited(runFile(dir), runMaxBytes)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(doc, &r)
}

func (d *Daemon) writeRun(context.Context) error {
	doc, err := json.Marshal(Run{PID: os.Getpid(), Epoch: d.epoch, NATS: d.NATSURL(), MQTT: d.MQTTAddr()})
	if err != nil {
		return err
	}
	d.onClose(func() { _ = os.Remove(runFile(d.cfg.Dir)) })
	return WriteFile(runFile(d.cfg.Dir), doc, 0o600)
}
