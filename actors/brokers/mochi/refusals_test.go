package mochi

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestRefusalsDoNotFillTheLog: however many strangers knock, the log gets a bounded
// number of lines, and none is forgotten in the count.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var out bytes.Buffer
	logger, now := slog.New(slog.NewTextHandler(&out, nil)), time.Unix(1_700_000_000, 0)
	var r refusals
	for range 100_000 {
		r.tell(logger, now, "client", "stranger")
	}
	if n := strings.Count(out.String(), "\n"); n != refusalsPerMinute {
		t.Errorf("%d lines, want %d", n, refusalsPerMinute)
	}
	out.Reset()
	r.tell(logger, now.Add(time.Minute), "client", "sensor-1")
	if got := out.String(); !strings.Contains(got, "count=99940") || !strings.Contains(got, "client=sensor-1") {
		t.Errorf("the next minute: %s", got)
	}
	out.Reset()
	r.tell(logger, now.Add(-time.Hour), "client", "sensor-2") // the clock was set back
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "client=sensor-2") {
		t.Errorf("after the clock was set back: %s", got)
	}
}
