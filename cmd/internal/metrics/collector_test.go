package metrics

import (
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// full is a snapshot in which everything has a value of its own.
func full() Snapshot {
	s := Snapshot{
		Version: "1.2.3", Mode: "serve", Started: now.Add(-time.Hour), Now: now, NowMs: now.UnixMilli(),
		Denials: map[messages.DenialClass]uint64{messages.DeniedByPolicy: 3, messages.DeniedLapsed: 4}, Panics: 5, Entities: 6,
		Counts: projections.Counts{Certificates: 7, Things: 8, Sessions: 9}, SessionsLimit: 2500,
		Trust:   projections.TrustReport{Things: 8, Trusted: 4, Hour: 1, Day: 2, Week: 3, OldestMs: 100_000, MedianMs: 50_000, SumMs: 200_000},
		TrustAt: now.Add(-3 * time.Second),
		Cloud:   &Cloud{Reachable: true, Load: cloudsync.Load{Known: 10, Strangers: 13, Background: 14, Asking: 11, Paused: 3 * time.Second}, QueueSize: 100, Limit: 12},
		Refresh: projections.Refresh{DueMs: now.Add(time.Minute).UnixMilli(), GoodMs: now.Add(-time.Hour).UnixMilli(),
			Last: &projections.RefreshRun{Failed: "x", Listed: 1, Renewed: 2, Removed: 3, Denied: 4, Unanswered: 5}},
		ClockUncertain: true, Log: eventlog.Stat{Head: eventlog.Head{Seq: 13}, JournalUsed: 14, FreeBytes: 15, Low: true, Repaired: 16, Failed: errors.New("x")}, LogBytes: 17,
		Problems: map[string]bool{"deviceGroups": true}, PolicyRecord: 18, CertificateEnd: now.Add(time.Hour), Certificates: someCertificates(),
		Registrations: &Registrations{Outcomes: map[string]uint64{"accepted": 3, "denied": 1}, Waiting: 2, GivenUp: 1, LastHour: 3},
		Credentials: &Credentials{
			Left: 90 * time.Second, Fetches: map[string]uint64{"granted": 40, "failed": 41}, HandOuts: 42, Refused: map[string]uint64{"token": 43, "user": 44},
		},
	}
	for i := range s.Trust.Ages {
		s.Trust.Ages[i] = min(i, 4)
	}
	for _, op := range authapi.Ops() {
		s.Requests = append(s.Requests, brokers.OpCounts{Op: op, Allowed: 20, Denied: 21, Late: 22, Dropped: 23, Panics: 24,
			Refused: map[string]uint64{"Busy": 25, "Service": 26, "InvalidCredential": 27, "InvalidClientDeviceAuthToken": 28}})
	}
	s.Requests[slices.Index(authapi.Ops(), authapi.OpCertificates)].Certificates = &brokers.CourierCounts{Subscribed: 30, Lapsed: 31, Issued: 32, Pushed: 33, Acknowledged: 34}
	return s
}

func of(s Snapshot) collector { return collector{func() Snapshot { return s }} }

// TestMetrics: the values, their names and labels.
func TestMetrics(t *testing.T) {
	want := `
		gatehouse_info{mode="serve",version="1.2.3"} 1
		gatehouse_requests_total{op="authorize",outcome="allowed"} 20
		gatehouse_requests_total{op="verify",outcome="invalid_client_device_auth_token"} 28
		gatehouse_requests_total{op="close",outcome="not_ready"} 0
		gatehouse_requests_late_total{op="token"} 22
		gatehouse_verify_client_device_identity_success_total 61
		gatehouse_get_client_device_auth_token_failure_total 75
		gatehouse_authorize_client_device_actions_failure_total 70
		gatehouse_subscribe_to_certificate_updates_success_total 30
		gatehouse_requests_total{op="certificates",outcome="busy"} 25
		gatehouse_broker_certificates_total{step="issued"} 32
		gatehouse_broker_certificates_total{step="acknowledged"} 34
		gatehouse_service_error_total 182
		gatehouse_denials_total{class="policy"} 3
		gatehouse_denials_total{class="lapsed"} 4
		gatehouse_denials_total{class="other"} 0
		gatehouse_devices 8
		gatehouse_sessions 9
		gatehouse_trusted_devices 4
		gatehouse_trust_lapsing_devices{within="24h"} 2
		gatehouse_trust_age_seconds_bucket{le="300"} 1
		gatehouse_trust_age_seconds_bucket{le="+Inf"} 4
		gatehouse_trust_age_seconds_sum 200
		gatehouse_trust_report_age_seconds 3
		gatehouse_cloud_reachable 1
		gatehouse_cloud_queue_waiting{about="known"} 10
		gatehouse_cloud_queue_waiting{about="strangers"} 13
		gatehouse_cloud_queue_waiting{about="background"} 14
		gatehouse_cloud_paused_seconds 3
		gatehouse_cloud_requests_running 11
		gatehouse_cloud_workers 12
		gatehouse_refresh_last_failed 1
		gatehouse_refresh_last{what="removed"} 3
		gatehouse_refresh_success_age_seconds 3600
		gatehouse_refresh_due_in_seconds 60
		gatehouse_clock_uncertain 1
		gatehouse_credentials_left_seconds 90
		gatehouse_credentials_served_total 42
		gatehouse_credentials_fetches_total{outcome="failed"} 41
		gatehouse_credentials_refused_total{reason="user"} 44
		gatehouse_log_records 13
		gatehouse_log_bytes 17
		gatehouse_log_failed 1
		gatehouse_document_problem{document="clientDeviceAuth"} 0
		gatehouse_document_problem{document="deviceGroups"} 1
		gatehouse_registrations_total{outcome="accepted"} 3
		gatehouse_registrations_given_up 1
		gatehouse_entity_panics_total 5`
	got := scrape(t, full())
	for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		if line = strings.TrimSpace(line); !strings.Contains(got, line+"\n") {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	for _, name := range brokers.ReferenceNames() {
		if help := "# HELP gatehouse_" + PrometheusName(name) + " The reference's " + name + " "; !strings.Contains(got, help) {
			t.Errorf("%s is not named in the help of its metric", name)
		}
	}
}

func scrape(t *testing.T, s Snapshot) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(func() Snapshot { return s }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestMetricsAreWellFormed: Prometheus' own rules for names and help, and that each metric
// is described and exported.
func TestMetricsAreWellFormed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(of(full())); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != len(descriptions) {
		t.Errorf("%d metrics are exported, %d described: %v", len(families), len(descriptions), err)
	}
}

// TestSeriesAreBounded: nothing that devices or brokers choose makes series.
func TestSeriesAreBounded(t *testing.T) {
	const bound = 200
	if n := testutil.CollectAndCount(of(full())); n > bound {
		t.Errorf("%d series, want at most %d", n, bound)
	}
	// Labels that are not of the closed lists are not exported.
	s := full()
	before := testutil.CollectAndCount(of(s))
	s.Denials["chosen by a stranger"] = 1
	s.Problems["also"] = true
	s.Requests[0].Refused["Surprise"] = 1
	if after := testutil.CollectAndCount(of(s)); after != before {
		t.Errorf("%d series, before %d", after, before)
	}
	// A daemon that has nothing yet exports what it has, and no wrong zeros.
	empty := scrape(t, Snapshot{Now: now, TrustAt: now})
	for _, absent := range []string{"refresh_success_age", "refresh_due_in", "cloud_queue_waiting", "server_certificate"} {
		if strings.Contains(empty, "\ngatehouse_"+absent) {
			t.Errorf("%s is exported though it is not known", absent)
		}
	}
}

func TestPrometheusName(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range brokers.ReferenceNames() {
		got := PrometheusName(name)
		if seen[got] {
			t.Errorf("%s is the name of two", got)
		}
		seen[got] = true
	}
	if got := PrometheusName("VerifyClientDeviceIdentity.Success"); got != "verify_client_device_identity_success_total" {
		t.Errorf("derived %s", got)
	}
	if got := PrometheusName("ServiceError"); got != "service_error_total" {
		t.Errorf("derived %s", got)
	}
}
