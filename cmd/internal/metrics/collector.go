package metrics

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Handler serves the metrics for Prometheus, from a registry of its own. take is asked at
// each scrape.
func Handler(take func() Snapshot) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{take}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second})
}

// collector makes metrics of a snapshot. Every label has a closed list of values: what
// devices or brokers choose is none.
type collector struct{ take func() Snapshot }

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	e := exporter{to}
	s := c.take()
	e.gauge(info, 1, s.Version, s.Mode)
	e.gauge(startTime, float64(s.Started.UnixMilli())/1000)
	e.requests(s.Requests)
	for _, class := range messages.DenialClasses() {
		e.counter(denials, float64(s.Denials[class]), string(class))
	}
	e.counter(panics, float64(s.Panics))
	e.gauge(entities, float64(s.Entities))
	e.gauge(devices, float64(s.Counts.Things))
	e.gauge(certificates, float64(s.Counts.Certificates))
	e.gauge(sessions, float64(s.Counts.Sessions))
	e.gauge(pendingDevices, float64(s.Counts.Pending))
	e.gauge(sessionsLimit, float64(s.SessionsLimit))
	e.trust(s.Trust, s.Now.Sub(s.TrustAt))
	e.cloud(s.Cloud)
	e.refresh(s.Refresh, s.NowMs)
	e.gauge(clockUncertain, truth(s.ClockUncertain))
	e.log(s.Log, s.LogBytes)
	for _, document := range documents {
		e.gauge(documentProblem, truth(s.Problems[document]), document)
	}
	e.gauge(policyRecord, float64(s.PolicyRecord))
	if !s.CertificateEnd.IsZero() {
		e.gauge(certificateEnd, float64(s.CertificateEnd.Unix()))
	}
	e.certificates(s.Certificates)
	e.credentials(s.Credentials)
	e.registrations(s.Registrations)
}

// documents are the values of the label document.
var documents = []string{"clientDeviceAuth", "deviceGroups"}

// exporter writes metrics.
type exporter struct{ to chan<- prometheus.Metric }

func (e exporter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e exporter) counter(d *prometheus.Desc, v float64, labels ...string) {
	e.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (e exporter) requests(counts []brokers.OpCounts) {
	reference := brokers.ReferenceCounts(counts)
	for _, name := range brokers.ReferenceNames() {
		e.counter(referenced[name], float64(reference[name]))
	}
	for _, c := range counts {
		op := string(c.Op)
		e.counter(requests, float64(c.Allowed), op, "allowed")
		e.counter(requests, float64(c.Denied), op, "denied")
		for code := range messages.RefusalCode(messages.RefusalCodes) {
			e.counter(requests, float64(c.Refused[code.String()]), op, snake(code.String()))
		}
		e.counter(requestsLate, float64(c.Late), op)
		e.counter(requestsDropped, float64(c.Dropped), op)
		e.counter(requestPanics, float64(c.Panics), op)
		if n := c.Certificates; n != nil {
			e.counter(brokerCertificates, float64(n.Issued), "issued")
			e.counter(brokerCertificates, float64(n.Pushed), "pushed")
			e.counter(brokerCertificates, float64(n.Acknowledged), "acknowledged")
			e.counter(brokerCertificates, float64(n.Lapsed), "lapsed")
		}
	}
}

func (e exporter) trust(r projections.TrustReport, age time.Duration) {
	e.gauge(trusted, float64(r.Trusted))
	for within, n := range map[string]int{"1h": r.Hour, "24h": r.Day, "7d": r.Week} {
		e.gauge(lapsing, float64(n), within)
	}
	e.gauge(trustOldest, float64(r.OldestMs)/1000)
	e.gauge(trustMedian, float64(r.MedianMs)/1000)
	buckets := make(map[float64]uint64, len(r.Ages))
	for i, bound := range projections.AgeBoundsMs {
		buckets[float64(bound)/1000] = uint64(r.Ages[i])
	}
	e.to <- prometheus.MustNewConstHistogram(trustAge, uint64(r.Trusted), float64(r.SumMs)/1000, buckets)
	e.gauge(trustReportAge, max(0, age.Seconds()))
}

func (e exporter) cloud(c *Cloud) {
	if c == nil {
		e.gauge(cloudReachable, 0)
		return
	}
	e.gauge(cloudReachable, truth(c.Reachable))
	e.gauge(cloudQueueSize, float64(c.QueueSize))
	e.gauge(cloudWorkers, float64(c.Limit))
	e.gauge(cloudWaiting, float64(c.Load.Known), "known")
	e.gauge(cloudWaiting, float64(c.Load.Strangers), "strangers")
	e.gauge(cloudWaiting, float64(c.Load.Background), "background")
	e.gauge(cloudAsking, float64(c.Load.Asking))
	e.gauge(cloudPaused, c.Load.Paused.Seconds())
}

func (e exporter) refresh(r projections.Refresh, nowMs int64) {
	e.gauge(refreshRunning, truth(r.Began != nil))
	if r.DueMs != 0 {
		e.gauge(refreshDue, float64(r.DueMs-nowMs)/1000)
	}
	if r.GoodMs != 0 {
		e.gauge(refreshAge, float64(nowMs-r.GoodMs)/1000)
	}
	l := r.Last
	if l == nil {
		return
	}
	e.gauge(refreshFailed, truth(l.Failed != ""))
	for what, n := range map[string]uint64{"listed": l.Listed, "renewed": l.Renewed, "removed": l.Removed, "denied": l.Denied, "unanswered": l.Unanswered} {
		e.gauge(refreshLast, float64(n), what)
	}
}

func (e exporter) log(s eventlog.Stat, bytes uint64) {
	e.gauge(logRecords, float64(s.Head.Seq))
	e.gauge(logBytes, float64(bytes))
	e.gauge(logJournal, float64(s.JournalUsed))
	e.gauge(logFree, float64(s.FreeBytes))
	e.gauge(logLow, truth(s.Low))
	e.gauge(logRepaired, float64(s.Repaired))
	e.gauge(logFailed, truth(s.Failed != nil))
}

// descriptions are all metrics, as describe makes them.
var descriptions []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("gatehouse_"+name, help, labels, nil)
	descriptions = append(descriptions, d)
	return d
}

var (
	info      = describe("info", "1; the labels say which Gatehouse this is.", "version", "mode")
	startTime = describe("start_time_seconds", "When the daemon started, in Unix time.")

	requests           = describe("requests_total", "Requests of brokers, by operation and outcome.", "op", "outcome")
	requestsLate       = describe("requests_late_total", "Requests answered with Busy because the core took too long; also counted as busy.", "op")
	requestsDropped    = describe("requests_dropped_total", "Requests not answered: the reply subject was not the broker's own.", "op")
	requestPanics      = describe("request_panics_total", "Requests that met a bug, answered with Service.", "op")
	brokerCertificates = describe("broker_certificates_total", "Certificates for brokers that ask over NATS: issued, pushed (again, too), acknowledged; and subscriptions that lapsed because nobody asked.", "step")
	denials            = describe("denials_total", "Refusals of devices and of their actions, by what they were for.", "class")
	panics             = describe("entity_panics_total", "Handlers of entities that panicked.")
	entities           = describe("entities", "Entities resident in memory.")

	devices        = describe("devices", "Devices something is stored about.")
	certificates   = describe("certificates", "Certificates something is stored about.")
	sessions       = describe("sessions", "Open sessions.")
	pendingDevices = describe("pending_devices", "Devices that nobody registered, admitted as pending until the cloud decides.")
	sessionsLimit  = describe("sessions_limit", "performance.maxActiveAuthTokens.")

	trusted        = describe("trusted_devices", "Devices whose stored trust counts now: they get in without the cloud.")
	lapsing        = describe("trust_lapsing_devices", "Devices whose trust lapses within the time of the label, if the cloud stays away.", "within")
	trustAge       = describe("trust_age_seconds", "Age of the trust that counts now, one observation a device; not over time.")
	trustOldest    = describe("trust_age_oldest_seconds", "Age of the oldest trust that counts now.")
	trustMedian    = describe("trust_age_median_seconds", "Median age of the trust that counts now.")
	trustReportAge = describe("trust_report_age_seconds", "Age of the numbers about trust: they are worked out now and then, since all devices are looked at.")

	cloudReachable = describe("cloud_reachable", "1 if the cloud answered when it was last tried.")
	cloudWaiting   = describe("cloud_queue_waiting", "Questions that wait for their turn at the cloud: about devices that are known here, about strangers, and of the refresh.", "about")
	cloudAsking    = describe("cloud_requests_running", "Questions that are being asked.")
	cloudPaused    = describe("cloud_paused_seconds", "Time until the refresh asks on, after the cloud failed; 0: it is not held up.")
	cloudQueueSize = describe("cloud_queue_size", "performance.cloudRequestQueueSize.")
	cloudWorkers   = describe("cloud_workers", "performance.maxConcurrentCloudRequests.")

	refreshRunning = describe("refresh_running", "1 while stored trust is refreshed.")
	refreshFailed  = describe("refresh_last_failed", "1 if the last refresh failed; then nothing was removed.")
	refreshLast    = describe("refresh_last", "What the last refresh did: things listed; confirmations renewed, denied, unanswered; entries removed.", "what")
	refreshAge     = describe("refresh_success_age_seconds", "Time since a refresh completed; absent until one did.")
	refreshDue     = describe("refresh_due_in_seconds", "Time until the next refresh is due; negative when overdue.")

	clockUncertain = describe("clock_uncertain", "1 while the time is not known, so that trust from before the start does not count.")

	logRecords  = describe("log_records", "Records in the event log.")
	logBytes    = describe("log_bytes", "Size of the event log's files.")
	logJournal  = describe("log_journal_used_bytes", "Bytes written in the current journal file.")
	logFree     = describe("log_free_bytes", "Free space of the log's file system, as last seen.")
	logLow      = describe("log_space_low", "1 if space is short, so that grants are refused.")
	logRepaired = describe("log_repaired_records", "Records brought back from the journal at the last start.")
	logFailed   = describe("log_failed", "1 if an append failed, so that nothing is answered.")

	documentProblem = describe("document_problem", "1 if what the document's file holds is not in force; see gatehouse config show.", "document")
	policyRecord    = describe("policy_record", "The record that put the policy in force.")
	certificateEnd  = describe("server_certificate_not_after_seconds", "When the embedded broker's certificate ends, in Unix time.")
)

// referenced are the reference's metrics under names that Prometheus takes.
var referenced = func() map[string]*prometheus.Desc {
	all := map[string]*prometheus.Desc{}
	for _, name := range brokers.ReferenceNames() {
		all[name] = describe(PrometheusName(name), "The reference's "+name+" ("+brokers.ReferenceNamespace+").")
	}
	return all
}()

var humps = regexp.MustCompile(`[A-Z][a-z]+`)

// PrometheusName derives, one to one, what follows "gatehouse_" from a name of the
// reference: VerifyClientDeviceIdentity.Success is verify_client_device_identity_success_total.
func PrometheusName(reference string) string { return snake(reference) + "_total" }

// snake writes CamelCase.Words as lower case with underscores.
func snake(text string) string {
	return strings.ToLower(strings.Join(humps.FindAllString(text, -1), "_"))
}
