package dst

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets garbage lie as `gatehouse sim run` does: a run is small, and over soon.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
