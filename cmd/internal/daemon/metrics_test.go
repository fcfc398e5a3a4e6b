package daemon

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/projections"
)

// TestMetricsAreServed: on the status page, and tuned by the section as it changes.
func TestMetricsAreServed(t *testing.T) {
	c := newCore(t, "")
	get := func(path string) string {
		t.Helper()
		r, err := http.Get(strings.TrimSuffix(c.HTTPURL(), "/status") + path)
		must(t, err)
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		must(t, err)
		if r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s\n%s", path, r.Status, body)
		}
		return string(body)
	}
	for _, want := range []string{"\ngatehouse_devices 0\n", "\ngatehouse_cloud_reachable 0\n", "gatehouse_service_error_total 0", "go_goroutines", `gatehouse_authority_end_in_seconds{authority="issuing"} `, `gatehouse_certificates_undelivered 0`, `gatehouse_certificate_warnings 0`, `gatehouse_document_problem{document="clientDeviceAuth"} 0`} {
		if got := get("/metrics"); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	first, err := c.metricsReport(t.Context(), struct{}{})
	must(t, err)
	if first.Disabled || first.PeriodSeconds != 3600 || first.Emitted == nil || len(first.Total) != 9 {
		t.Errorf("at the start: %+v", first)
	}
	c.edit("clientDeviceAuth: {metrics: {aggregatePeriodSeconds: 60}}\n", replaced)
	second, err := c.metricsReport(t.Context(), struct{}{})
	must(t, err)
	if second.PeriodSeconds != 60 || !second.Emitted.At.After(first.Emitted.At) {
		t.Errorf("another period: %+v", second)
	}
	c.edit("clientDeviceAuth: {metrics: {disableMetrics: true}}\n", replaced)
	if got := get("/metrics.json"); !strings.Contains(got, `"disabled":true`) || !strings.Contains(got, `"ServiceError":0`) || !strings.Contains(got, `"authoritySeconds":{"issuing":15`) {
		t.Errorf("off: %s", got)
	}
	c.edit("clientDeviceAuth: {metrics: 5}\n", rejected)
	if got := get("/metrics"); !strings.Contains(got, `gatehouse_document_problem{document="clientDeviceAuth"} 1`) {
		t.Error("the rejected file does not show")
	}
}

// TestSurveyIsBounded: however often it is asked for, it costs at most its share.
func TestSurveyIsBounded(t *testing.T) {
	var s survey
	now, made := time.Unix(0, 0), 0
	trust := func() projections.TrustReport {
		made++
		now = now.Add(2 * time.Second) // a large fleet
		return projections.TrustReport{Things: made}
	}
	dir := t.TempDir()
	put(t, dir+"/a", "12345")
	for range 1000 {
		r, bytes, at := s.look(func() time.Time { return now }, trust, dir)
		if r.Things != made || bytes != 5 || at.After(now) {
			t.Fatalf("survey %d of %d, %d bytes, at %v", r.Things, made, bytes, at)
		}
		now = now.Add(time.Second)
	}
	if made < 8 || made > 11 { // every 100 s
		t.Errorf("made %d times in about a thousand seconds", made)
	}
}
