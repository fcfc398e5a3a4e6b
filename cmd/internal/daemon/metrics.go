package daemon

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// measures is what the daemon counts with.
type measures struct {
	started   time.Time
	aggregate atomic.Pointer[metrics.Aggregate]
	tuning    sync.Mutex // held while the aggregation is configured
	survey    survey
}

// startMetrics begins to emit the reference's metrics.
func (d *Daemon) startMetrics(context.Context) error {
	d.measures.started = time.Now()
	a := metrics.NewAggregate(func() map[string]uint64 { return brokers.ReferenceCounts(d.desk.Counts()) }, time.Now, d.clock.AfterFunc)
	d.onClose(a.Close)
	d.measures.aggregate.Store(a)
	d.tuneMetrics()
	return nil
}

// tuneMetrics takes the section's metrics into force.
func (d *Daemon) tuneMetrics() {
	d.measures.tuning.Lock()
	defer d.measures.tuning.Unlock()
	if a := d.measures.aggregate.Load(); a != nil {
		m := d.views.Section().Metrics // here, so that the newest is the last to be taken
		a.Configure(m.DisableMetrics, m.AggregatePeriod())
	}
}

func (d *Daemon) metricsReport(context.Context, struct{}) (metrics.Report, error) {
	a := d.measures.aggregate.Load()
	if a == nil {
		return metrics.Report{}, messages.Refuse(messages.RefusedNotReady, "starting")
	}
	r := a.Report()
	r.Certificates = d.certificateMetrics()
	return r, nil
}

// certificateMetrics is nil while there is no authority.
func (d *Daemon) certificateMetrics() *metrics.Certificates {
	a := d.authority.Load()
	if a == nil {
		return nil
	}
	s, now, upload := a.Describe(), moment(d.trust.NowMs()), d.uploadReport()
	c := metrics.CertificatesOf(s, now)
	c.Warnings = len(warnings(s, upload, now))
	if upload != nil {
		c.UploadsFailed = upload.Failed
		if upload.Since != nil {
			c.UploadFailingSeconds = max(0, time.Since(*upload.Since).Seconds())
		}
	}
	return c
}

// survey is what takes its time to find out, and so is kept for a while.
type survey struct {
	mu       sync.Mutex
	at       time.Time // guarded by mu, as all below
	took     time.Duration
	trust    projections.TrustReport
	logBytes uint64
}

// A survey is made anew after surveyEvery, or after surveyShare times what the last one
// took, so that a fleet of any size costs at most a fiftieth of a processor.
const (
	surveyEvery = 10 * time.Second
	surveyShare = 50
)

// look returns the survey, no older than the bounds say, and when it was made.
func (s *survey) look(now func() time.Time, trust func() projections.TrustReport, dir string) (projections.TrustReport, uint64, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began := now(); s.at.IsZero() || began.Sub(s.at) >= max(surveyEvery, surveyShare*s.took) {
		s.trust, s.logBytes = trust(), bytesIn(dir)
		s.at, s.took = began, now().Sub(began)
	}
	return s.trust, s.logBytes, s.at
}

// bytesIn sums up the files of a folder; what vanishes meanwhile is not counted.
func bytesIn(dir string) (sum uint64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}

// snapshot is what there is to export now.
func (d *Daemon) snapshot() metrics.Snapshot {
	section := d.views.Section()
	trust := d.sys.Trust()
	s := metrics.Snapshot{
		Version: Version, Mode: d.cfg.Mode, Started: d.measures.started, Now: time.Now(), NowMs: d.trust.NowMs(),
		Requests: d.desk.Counts(), Denials: d.denials.Counts(), Panics: d.sys.Panics(), Entities: d.sys.Live(),
		Counts: d.views.Counts(), SessionsLimit: section.Performance.MaxActiveAuthTokens,
		Refresh: d.views.Refresh(), ClockUncertain: d.trust.SinceMs() != 0, Log: d.log.Stat(),
		Problems: map[string]bool{}, PolicyRecord: d.views.Document(messages.StreamPolicy).Seq,
	}
	s.Trust, s.LogBytes, s.TrustAt = d.measures.survey.look(time.Now, func() projections.TrustReport {
		return d.views.TrustDue(projections.TrustQuery{Trust: trust, NowMs: d.trust.NowMs()})
	}, LogDir(d.cfg.Dir))
	for _, document := range documentsOf(d.views, &d.documents) {
		s.Problems[document.Document] = document.Problem != nil
	}
	s.Certificates, s.Credentials, s.Registrations = d.certificateMetrics(), d.credentialMetrics(), d.registrationMetrics()
	if d.certificate != nil {
		if leaf := d.certificate.Leaf(); leaf != nil {
			s.CertificateEnd = leaf.NotAfter
		}
	}
	if d.cfg.Cloud != nil {
		s.Cloud = &metrics.Cloud{Reachable: d.sys.NetworkUp(), QueueSize: section.Performance.CloudRequestQueueSize, Limit: section.Performance.MaxConcurrentCloudRequests}
		if c, ok := d.cloud.(*cloudsync.Cloud); ok {
			s.Cloud.Load = c.Waiting()
		}
	}
	return s
}

// serveMetrics adds the metrics to the status page: for Prometheus, and with the
// reference's names.
func (d *Daemon) serveMetrics(mux *http.ServeMux) {
	mux.Handle("GET /metrics", metrics.Handler(d.snapshot))
	mux.HandleFunc("GET /metrics.json", func(w http.ResponseWriter, r *http.Request) {
		report, err := d.metricsReport(r.Context(), struct{}{})
		if err != nil {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(report) // the reader went away
	})
}
