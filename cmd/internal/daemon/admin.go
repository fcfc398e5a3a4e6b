package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// The operations of the admin service, and their bodies.
const (
	OpStatus     = "status"     // → Status
	OpDevices    = "devices"    // DevicesRequest → Devices
	OpDevice     = "device"     // DeviceRequest → DeviceDetail
	OpQuarantine = "quarantine" // DeviceRequest → Done
	OpRelease    = "release"    // DeviceRequest → Done
	OpForget     = "forget"     // DeviceRequest → Done
	OpExplain    = "explain"    // ExplainRequest → projections.Explanation
	OpRecords    = "records"    // RecordsRequest → Records
	OpLogVerify  = "log-verify" // VerifyRequest → VerifyReport (not "verify": that is a broker's operation)
	OpLogStat    = "log-stat"   // → LogStats
	OpBrokerAdd  = "broker-add" // BrokerRequest → BrokerAdded
	OpRefresh    = "refresh"    // → RefreshReport: begins one, due or not
	OpRefreshing = "refreshing" // → RefreshReport: what it did last, when it is due, how far it is
	OpTrustDue   = "trust-due"  // TrustDueRequest → TrustDue
	OpMetrics    = "metrics"    // → metrics.Report
	OpConfig     = "config"     // → ConfigReport

	OpCredentials = "credentials" // → CredentialsReport

	OpLogCheckpoint = "log-checkpoint" // → CheckpointReport
)

// Status describes a running daemon.
type Status struct {
	Version        string                 `json:"version"`
	Epoch          string                 `json:"epoch"`
	Mode           string                 `json:"mode"`
	Events         uint64                 `json:"events"`
	Root           string                 `json:"root"`
	Things         int                    `json:"things"`
	Certificates   int                    `json:"certificates"`
	Sessions       int                    `json:"sessions"`
	Pending        int                    `json:"pending,omitempty"` // devices that nobody registered, and that wait for the cloud
	Denied         uint64                 `json:"denied"`
	CloudReachable bool                   `json:"cloudReachable"`
	Addresses      *AddressReport         `json:"addresses,omitempty"` // as the cloud has them; absent: they are not followed
	TrustDuration  string                 `json:"trustDuration"`
	PolicyRevision string                 `json:"policyRevision"`
	Refresh        *RefreshReport         `json:"refresh,omitempty"`
	Documents      []DocumentReport       `json:"documents,omitempty"`
	RestartFor     []string               `json:"restartFor,omitempty"`
	Clock          ClockReport            `json:"clock"`
	NATS           string                 `json:"nats"`
	MQTT           string                 `json:"mqtt,omitempty"`
	Certificate    map[string]string      `json:"certificate,omitempty"` // of the embedded broker
	Log            map[string]json.Number `json:"log"`
	Credentials    *Credentials           `json:"credentials,omitempty"` // of the role; absent: none are handed out
	// Warnings say what is wrong with authorities, certificates, credentials and registration,
	// or will be.
	Warnings []string `json:"warnings,omitempty"`
}

// DevicesRequest asks for a page of devices, by name. Without a Limit it is as long as it
// may be.
type DevicesRequest struct {
	After messages.ThingName `json:"after,omitempty"`
	Limit int                `json:"limit,omitempty"`
}

// Devices is a page of devices.
type Devices struct {
	Devices []DeviceLine `json:"devices"`
	More    bool         `json:"more"`
}

// DeviceLine is one device in a list.
type DeviceLine struct {
	Thing        messages.ThingName `json:"thing"`
	Groups       []string           `json:"groups"`
	Certificates int                `json:"certificates"`
	Sessions     int                `json:"sessions"`
	Quarantined  string             `json:"quarantined,omitempty"`
	Confirmed    *time.Time         `json:"confirmed,omitempty"`    // by the cloud, last
	TrustedUntil *time.Time         `json:"trustedUntil,omitempty"` // if the cloud stays away
	// Pending says how it was admitted, if nobody registered it, and what would be decided if
	// it connected now; absent: it is not pending.
	Pending *PendingDetail `json:"pending,omitempty"`
	// TrustAgeSeconds is how old the trust is that ends last: since certificate or
	// attachment were confirmed, whichever is longer ago. Absent if none counts.
	TrustAgeSeconds *int64 `json:"trustAgeSeconds,omitempty"`
	// Next is what would be decided if it connected now, with the certificate that serves
	// it best. Absent if none is known to belong to it: then the cloud decides.
	Next *NextConnect `json:"nextConnect,omitempty"`
}

// NextConnect is what would be decided if a device connected now.
type NextConnect struct {
	Online  Prediction `json:"online"`  // the cloud is reached, and says yes
	Offline Prediction `json:"offline"` // the cloud is away
}

// Prediction is one side of a NextConnect.
type Prediction struct {
	Allowed bool       `json:"allowed"`
	Reason  string     `json:"reason"`
	Until   *time.Time `json:"until,omitempty"` // offline: from then on refused
}

// DeviceRequest names a device, and why something is done to it.
type DeviceRequest struct {
	Thing  messages.ThingName `json:"thing"`
	Reason string             `json:"reason,omitempty"`
}

// DeviceDetail is all that is known of a device.
type DeviceDetail struct {
	DeviceLine
	Attachments []AttachmentDetail `json:"attachments"`
	Open        []SessionDetail    `json:"open"`
}

// AttachmentDetail is a certificate that belongs to a device.
type AttachmentDetail struct {
	Certificate  messages.CertificateID `json:"certificateId"`
	Verified     bool                   `json:"verified"`
	VerifiedAt   time.Time              `json:"verifiedAt"`
	ConfirmedAt  time.Time              `json:"confirmedAt"`
	NotAfter     *time.Time             `json:"notAfter,omitempty"`     // absent: its dates are not known
	TrustedUntil *time.Time             `json:"trustedUntil,omitempty"` // if the cloud stays away; absent: it does not count now
	TrustedNow   bool                   `json:"trustedNow"`
	AgeSeconds   int64                  `json:"trustAgeSeconds"` // since certificate or attachment were confirmed, whichever is longer ago
	Next         NextConnect            `json:"nextConnect"`
}

// SessionDetail is an open session.
type SessionDetail struct {
	Session  string    `json:"session"` // digest, shortened
	Broker   string    `json:"broker"`
	OpenedAt time.Time `json:"openedAt"`
	Event    uint64    `json:"event"`
}

// ExplainRequest asks why. With Operation and Resource it is about now, else about the
// last refusal: of Thing, of Certificate (a prefix), or of anybody.
type ExplainRequest struct {
	Thing       string `json:"thing,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	Operation   string `json:"operation,omitempty"`
	Resource    string `json:"resource,omitempty"`
}

// BrokerRequest names a broker to be let in, or to be removed.
type BrokerRequest struct {
	Name messages.BrokerID `json:"name"`
	// Certificates are the types it may have from now on, SERVER and CLIENT or none; nil:
	// those it might have before, SERVER where nobody said anything.
	Certificates *[]string `json:"certificates,omitempty"`
}

// BrokerRemoved says what became of a broker.
type BrokerRemoved struct {
	Name     messages.BrokerID `json:"name"`
	Sessions int               `json:"sessions"` // that were open, and end
	// External: the NATS server is not the embedded one, so that its configuration still
	// lets the broker in; the daemon refuses what it asks.
	External bool `json:"external"`
}

// BrokerAdded says where a broker's credentials are.
type BrokerAdded struct {
	Name messages.BrokerID `json:"name"`
	File string            `json:"file"`
	URL  string            `json:"url"`
	// Certificates are the types it may have.
	Certificates []string `json:"certificates"`
	// External: the NATS server is not the embedded one, so Entry must be added to its
	// configuration by hand.
	External bool   `json:"external"`
	Entry    string `json:"entry"`
}

// devicesPage bounds a page of devices: an answer must fit a NATS message of 64 KiB.
const devicesPage = 40

// handle makes a Handler of a typed function.
func handle[Q, A any](f func(context.Context, Q) (A, error)) admin.Handler {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		var q Q
		if len(body) > 0 {
			if err := json.Unmarshal(body, &q); err != nil {
				return nil, messages.Refuse(messages.RefusedInvalidArguments, "request: %v", err)
			}
		}
		a, err := f(ctx, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

// startAdmin answers operators, from when all that they may ask about is there.
func (d *Daemon) startAdmin(context.Context) error {
	handlers := admin.Handlers{
		Admin: map[string]admin.Handler{
			OpQuarantine: handle(d.quarantine),
			OpRelease:    handle(d.release),
			OpForget:     handle(d.forget),
			OpBrokerAdd:  handle(d.brokerAdd),
			OpRefresh:    handle(d.refreshNow),

			OpBrokerRemove: handle(d.brokerRemove),

			OpRegistrationRetry:   handle(d.registrationRetry),
			OpRegistrationDismiss: handle(d.registrationDismiss),
		},
		Audit: map[string]admin.Handler{
			OpStatus:     handle(d.status),
			OpDevices:    handle(d.devices),
			OpDevice:     handle(d.device),
			OpExplain:    handle(d.explain),
			OpRecords:    handle(d.records),
			OpLogVerify:  handle(d.verify),
			OpLogStat:    handle(d.logStat),
			OpRefreshing: handle(d.refreshReport),
			OpConfig:     handle(d.configReport),
			OpTrustDue:   handle(d.trustDue),
			OpMetrics:    handle(d.metricsReport),

			OpCredentials: handle(d.credentialsReport),

			OpLogCheckpoint: handle(d.checkpoint),

			OpRegistrations: handle(d.registrationsReport),
		},
	}
	orders, looks := d.certificateHandlers()
	maps.Copy(handlers.Admin, orders)
	maps.Copy(handlers.Audit, looks)
	s, err := admin.Serve(d.conn, handlers, d.logger)
	if err != nil {
		return err
	}
	d.onClose(s.Close)
	return nil
}

func (d *Daemon) status(ctx context.Context, _ struct{}) (Status, error) {
	head, stat, counts := d.log.Head(), d.log.Stat(), d.views.Counts()
	s := Status{
		Version: Version, Epoch: d.epoch, Mode: d.cfg.Mode, Events: head.Seq, Root: head.Root.String(),
		Things: counts.Things, Certificates: counts.Certificates, Sessions: counts.Sessions, Pending: counts.Pending, Denied: d.denials.Total(),
		CloudReachable: d.sys.NetworkUp(), Addresses: d.addressReport(),
		TrustDuration:  durationText(d.views.TrustDurationMs()),
		PolicyRevision: d.views.Policy().Revision(), Documents: documentsOf(d.views, &d.documents), RestartFor: d.documents.restartFor(),
		NATS: d.NATSURL(), MQTT: d.MQTTAddr(),
		Clock: clockReport(d.trust.Status(d.views.TrustDurationMs())),
		Log: map[string]json.Number{
			"stored": number(stat.Stored), "repaired": number(stat.Repaired),
			"journalUsed": number(stat.JournalUsed), "journalBytes": number(stat.JournalBytes), "freeBytes": number(stat.FreeBytes),
		},
	}
	refresh, err := d.refreshReport(ctx, struct{}{})
	if err != nil {
		return Status{}, err
	}
	s.Refresh = &refresh
	if d.certificate != nil {
		s.Certificate = d.certificate.Describe()
	}
	if a := d.authority.Load(); a != nil {
		s.Warnings = warnings(a.Describe(), d.uploadReport(), moment(d.trust.NowMs()))
		if d.certificate != nil && s.Certificate == nil {
			s.Warnings = append(s.Warnings, "the embedded MQTT broker has no certificate yet: no device can connect to it; see the log")
		}
	}
	s.Credentials = d.credentialsNow()
	s.Warnings = append(s.Warnings, credentialWarnings(s.Credentials)...)
	s.Warnings = append(s.Warnings, d.registrarWarnings()...)
	s.Warnings = append(s.Warnings, registrationWarnings(d.cfg.Registration, d.views, d.sys.NetworkUp(), d.trust.NowMs())...)
	return s, nil
}

// durationText spells milliseconds, also more of them than a time.Duration holds.
func durationText(ms int64) string {
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return fmt.Sprintf("%dh", ms/time.Hour.Milliseconds())
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func number(n uint64) json.Number { return json.Number(fmt.Sprint(n)) }

func (d *Daemon) devices(_ context.Context, q DevicesRequest) (Devices, error) {
	if q.Limit <= 0 || q.Limit > devicesPage {
		q.Limit = devicesPage
	}
	return ListDevices(d.views, d.sys.Trust(), d.trust.NowMs(), q), nil
}

// ListDevices makes a page of the known devices; without a Limit it holds all of them.
func ListDevices(v *projections.Views, trust messages.Trust, nowMs int64, q DevicesRequest) Devices {
	page := Devices{Devices: []DeviceLine{}}
	for _, name := range v.Things() {
		if name <= q.After {
			continue
		}
		if q.Limit > 0 && len(page.Devices) == q.Limit {
			page.More = true
			break
		}
		if device, ok := v.Device(name); ok {
			page.Devices = append(page.Devices, line(v, device, trust, nowMs))
		}
	}
	return page
}

func line(v *projections.Views, device projections.Device, trust messages.Trust, nowMs int64) DeviceLine {
	l := DeviceLine{
		Thing: device.Thing, Groups: device.Groups, Certificates: len(device.Attachments),
		Sessions: len(device.Sessions), Quarantined: device.Quarantined,
	}
	var best int64
	c := circumstances(v, device, trust, nowMs)
	l.Pending = pendingDetail(v, device, c)
	for i, a := range device.Attachments {
		confirmed := moment(a.ConfirmedMs)
		if l.Confirmed == nil || confirmed.After(*l.Confirmed) {
			l.Confirmed = &confirmed
		}
		next := projections.Predict(a, c)
		end, _ := a.TrustEndMs(trust, nowMs)
		if i > 0 && end <= best && (l.Next.Online.Allowed || !next.Online.Allowed) {
			continue
		}
		l.Next = nextConnect(next)
		if best = end; end > 0 {
			until, age := moment(end), ageSeconds(a, nowMs)
			l.TrustedUntil, l.TrustAgeSeconds = &until, &age
		}
	}
	return l
}

// circumstances are what, beside a certificate, decides about a device.
func circumstances(v *projections.Views, device projections.Device, trust messages.Trust, nowMs int64) projections.Circumstances {
	connect, _ := v.ConnectAllowed(device.Thing)
	return projections.Circumstances{Trust: trust, NowMs: nowMs, Quarantined: device.Quarantined, ConnectAllowed: connect}
}

// ageSeconds is how old the trust in a certificate and its attachment is.
func ageSeconds(a projections.Attachment, nowMs int64) int64 {
	return max(0, nowMs-a.SinceMs()) / 1000
}

func nextConnect(o projections.Outlook) *NextConnect {
	n := &NextConnect{
		Online:  Prediction{Allowed: o.Online.Allowed, Reason: fmt.Sprintf("%.200s", o.Online.Reason)},
		Offline: Prediction{Allowed: o.Offline.Allowed, Reason: fmt.Sprintf("%.200s", o.Offline.Reason)},
	}
	if o.Offline.Allowed {
		until := moment(o.Offline.UntilMs)
		n.Offline.Until = &until
	}
	return n
}

func moment(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func (d *Daemon) device(_ context.Context, q DeviceRequest) (DeviceDetail, error) {
	return ShowDevice(d.views, d.sys.Trust(), d.trust.NowMs(), q.Thing)
}

// ShowDevice describes one device.
func ShowDevice(v *projections.Views, trust messages.Trust, nowMs int64, name messages.ThingName) (DeviceDetail, error) {
	device, ok := v.Device(name)
	if !ok {
		return DeviceDetail{}, messages.Refuse(messages.RefusedInvalidArguments, "nothing is stored about thing %.128q; see `gatehouse device list`", name)
	}
	detail := DeviceDetail{DeviceLine: line(v, device, trust, nowMs), Attachments: []AttachmentDetail{}, Open: []SessionDetail{}}
	c := circumstances(v, device, trust, nowMs)
	for _, a := range device.Attachments {
		one := AttachmentDetail{
			Certificate: a.Certificate, Verified: a.Trust.Verified, VerifiedAt: moment(a.Trust.VerifiedMs),
			ConfirmedAt: moment(a.ConfirmedMs), AgeSeconds: ageSeconds(a, nowMs),
			Next: *nextConnect(projections.Predict(a, c)),
		}
		if a.NotAfterMs != 0 {
			notAfter := moment(a.NotAfterMs)
			one.NotAfter = &notAfter
		}
		if end, _ := a.TrustEndMs(trust, nowMs); end > 0 {
			until := moment(end)
			one.TrustedUntil, one.TrustedNow = &until, true
		}
		detail.Attachments = append(detail.Attachments, one)
	}
	for _, s := range device.Sessions {
		detail.Open = append(detail.Open, SessionDetail{
			Session: s.Digest.Short(), Broker: string(s.Broker), OpenedAt: moment(s.OpenedMs), Event: s.OpenedSeq,
		})
	}
	return detail, nil
}

// Done answers an order.
type Done struct {
	Event uint64 `json:"event"` // the last record it made; 0: it changed nothing
}

func (d *Daemon) order(ctx context.Context, c messages.Command) (Done, error) {
	reply, err := d.sys.Do(ctx, c, messages.Cause{Request: "operator"})
	if err != nil {
		return Done{}, err
	}
	done, ok := reply.(messages.Done)
	if !ok {
		return Done{}, fmt.Errorf("unexpected reply %T", reply)
	}
	return Done{Event: done.Seq}, nil
}

// thing reads a device's name from a request.
func thing(q DeviceRequest) (messages.ThingName, error) {
	name, err := messages.ParseThingName(string(q.Thing))
	if err != nil {
		return "", messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	return name, nil
}

func (d *Daemon) quarantine(ctx context.Context, q DeviceRequest) (Done, error) {
	name, err := thing(q)
	if err != nil {
		return Done{}, err
	}
	return d.order(ctx, messages.QuarantineDevice{Thing: name, Source: messages.Source_SOURCE_OPERATOR, Reason: q.Reason})
}

func (d *Daemon) release(ctx context.Context, q DeviceRequest) (Done, error) {
	name, err := thing(q)
	if err != nil {
		return Done{}, err
	}
	return d.order(ctx, messages.ReleaseDevice{Thing: name, Source: messages.Source_SOURCE_OPERATOR, Reason: q.Reason})
}

func (d *Daemon) forget(ctx context.Context, q DeviceRequest) (Done, error) {
	name, err := thing(q)
	if err != nil {
		return Done{}, err
	}
	return d.order(ctx, messages.ForgetDevice{Thing: name, Source: messages.Source_SOURCE_OPERATOR, Reason: q.Reason})
}

func (d *Daemon) explain(ctx context.Context, q ExplainRequest) (projections.Explanation, error) {
	x := &projections.Explainer{Views: d.views, Log: d.log, Trust: d.sys.Trust, NowMs: d.trust.NowMs}
	return Explain(ctx, x, q)
}
