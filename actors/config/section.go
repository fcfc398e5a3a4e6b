package config

import (
	"encoding/json"
	"math"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Section holds the values in force of the configuration section clientDeviceAuth.
// Printed as JSON it is itself such a section, every key spelled out: what
// "config check --json" prints can be pasted back and means the same.
type Section struct {
	// DeviceGroups is the policy section in policy's canonical JSON; nil if there is
	// none, which denies everything.
	DeviceGroups json.RawMessage `json:"deviceGroups,omitempty"`

	// Policy is DeviceGroups as policy.ParseNode read it, nil if there is none.
	Policy *policy.Document `json:"-"`

	Certificates         Certificates         `json:"certificates"`
	Performance          Performance          `json:"performance"`
	CertificateAuthority CertificateAuthority `json:"certificateAuthority"`
	Security             Security             `json:"security"`
	Metrics              Metrics              `json:"metrics"`
	Sessions             Sessions             `json:"sessions"`
	Refresh              Refresh              `json:"refresh"`
}

// Certificates says how long the certificates issued here live. Read at each issue.
type Certificates struct {
	ServerCertificateValiditySeconds int  `json:"serverCertificateValiditySeconds"` // 60 to 864000
	ClientCertificateValiditySeconds int  `json:"clientCertificateValiditySeconds"` // 60 to 864000
	DisableCertificateRotation       bool `json:"disableCertificateRotation"`       // true: nothing is issued again once a first certificate exists
}

// ServerValidity is the life of a server certificate.
func (c Certificates) ServerValidity() time.Duration {
	return time.Duration(c.ServerCertificateValiditySeconds) * time.Second
}

// ClientValidity is the life of a client certificate.
func (c Certificates) ClientValidity() time.Duration {
	return time.Duration(c.ClientCertificateValiditySeconds) * time.Second
}

// Performance bounds sessions and cloud calls.
type Performance struct {
	MaxActiveAuthTokens        int `json:"maxActiveAuthTokens"`        // beyond it the session used longest ago ends
	CloudRequestQueueSize      int `json:"cloudRequestQueueSize"`      // beyond it a request is refused as busy
	MaxConcurrentCloudRequests int `json:"maxConcurrentCloudRequests"` // this many at once
}

// The types of a managed authority's key.
const (
	CATypeRSA2048   = "RSA_2048"
	CATypeECDSAP256 = "ECDSA_P256"
)

// CertificateAuthority chooses the authority that issues certificates. With both
// URIs set it is the operator's own (Custom), otherwise Gatehouse manages one.
type CertificateAuthority struct {
	CAType              string `json:"caType"` // CATypeRSA2048 or CATypeECDSAP256
	CertificateURI      string `json:"certificateUri,omitempty"`
	PrivateKeyURI       string `json:"privateKeyUri,omitempty"`
	CertificateChainURI string `json:"certificateChainUri,omitempty"`
}

// Custom says whether the operator brings the authority (client-device-auth spec
// 6.5: one URI alone is not enough).
func (c CertificateAuthority) Custom() bool { return c.CertificateURI != "" && c.PrivateKeyURI != "" }

// HSM says whether a custom authority's key lives in a PKCS#11 token.
func (c CertificateAuthority) HSM() bool {
	return c.Custom() && strings.HasPrefix(strings.ToLower(c.PrivateKeyURI), "pkcs11:")
}

// Security holds the offline trust.
type Security struct {
	ClientDeviceTrustDurationMinutes int `json:"clientDeviceTrustDurationMinutes"` // applies at once to what is stored
}

// TrustDurationMs is how long a device's last confirmation by the cloud is believed, in
// milliseconds: the longest, 4,085 years, is more than a time.Duration can say.
func (s Security) TrustDurationMs() int64 {
	return int64(s.ClientDeviceTrustDurationMinutes) * time.Minute.Milliseconds()
}

// Metrics says whether and how often metrics are emitted.
type Metrics struct {
	DisableMetrics         bool `json:"disableMetrics"`
	AggregatePeriodSeconds int  `json:"aggregatePeriodSeconds"`
}

// AggregatePeriod is the time between two emissions.
func (m Metrics) AggregatePeriod() time.Duration {
	return time.Duration(m.AggregatePeriodSeconds) * time.Second
}

// Sessions holds what Gatehouse adds to Greengrass.
type Sessions struct {
	// CloseOnRevoke ends live sessions when the device's certificate is revoked or
	// detached, or its trust lapses. false is Greengrass' behaviour: they live on.
	CloseOnRevoke bool `json:"closeOnRevoke"`
}

// Refresh holds what Gatehouse adds to Greengrass' daily refresh.
type Refresh struct {
	// MassRemovalGuard has a listing of the associated things that is empty, or would
	// remove many of those held, confirmed by a second one before anything is removed.
	MassRemovalGuard bool `json:"massRemovalGuard"`
}

// Defaults of client-device-auth spec 1.1, and the bounds it clamps to.
const (
	validitySecondsDefault = 604800
	validitySecondsMin     = 60
	validitySecondsMax     = 864000
	authTokensDefault      = 2500
	authTokensMax          = math.MaxInt32 - 1
	queueSizeDefault       = 100
	concurrentDefault      = 1
	trustMinutesMin        = 1 // and the default
	metricsSecondsDefault  = 3600
)

// DefaultSection returns the section of an empty configuration: it lets nobody in.
func DefaultSection() Section {
	return Section{
		Certificates: Certificates{ServerCertificateValiditySeconds: validitySecondsDefault, ClientCertificateValiditySeconds: validitySecondsDefault},
		Performance: Performance{MaxActiveAuthTokens: authTokensDefault, CloudRequestQueueSize: queueSizeDefault,
			MaxConcurrentCloudRequests: concurrentDefault},
		CertificateAuthority: CertificateAuthority{CAType: CATypeRSA2048},
		Security:             Security{ClientDeviceTrustDurationMinutes: trustMinutesMin},
		Metrics:              Metrics{AggregatePeriodSeconds: metricsSecondsDefault},
		Sessions:             Sessions{CloseOnRevoke: true},
		Refresh:              Refresh{MassRemovalGuard: true},
	}
}

// Parse reads the section clientDeviceAuth, JSON or YAML. previous is what is in
// force, nil at start: two keys keep their previous value when the new one is no
// good. The warnings say where a value in force is not the one written. On an error,
// which is of type Errors, the section is not to be used; keep previous.
func Parse(doc []byte, previous *Section) (Section, Warnings, error) {
	root, err := readDocument(doc)
	if err != nil {
		return Section{}, nil, err
	}
	r := &reader{}
	section := r.section(root, "", previous)
	warnings, err := r.result()
	return section, warnings, err
}

// sectionKeys are the keys of the section, as Greengrass spells them.
var sectionKeys = []string{"deviceGroups", "certificates", "performance", "certificateAuthority", "ca_type", "security", "metrics", "sessions", "refresh"}

func (r *reader) section(n *yaml.Node, path string, previous *Section) Section {
	s := DefaultSection()
	kept := s.Performance
	if previous != nil {
		kept = previous.Performance
	}
	root := r.object(n, path, lenient, sectionKeys...)
	r.certificates(root.child("certificates", "serverCertificateValiditySeconds", "clientCertificateValiditySeconds", "disableCertificateRotation"), &s.Certificates)
	r.performance(root.child("performance", "maxActiveAuthTokens", "cloudRequestQueueSize", "maxConcurrentCloudRequests"), kept, &s.Performance)
	r.authority(root.child("certificateAuthority", "caType", "certificateUri", "privateKeyUri", "certificateChainUri"), root, &s.CertificateAuthority)

	security := root.child("security", "clientDeviceTrustDurationMinutes")
	security.number("clientDeviceTrustDurationMinutes", &s.Security.ClientDeviceTrustDurationMinutes, func(v int) int { return max(v, trustMinutesMin) })

	metrics := root.child("metrics", "disableMetrics", "aggregatePeriodSeconds")
	metrics.boolean("disableMetrics", &s.Metrics.DisableMetrics)
	metrics.number("aggregatePeriodSeconds", &s.Metrics.AggregatePeriodSeconds, func(v int) int { return orElse(v > 0, v, metricsSecondsDefault) })

	sessions := root.child("sessions", "closeOnRevoke")
	sessions.boolean("closeOnRevoke", &s.Sessions.CloseOnRevoke)

	refresh := root.child("refresh", "massRemovalGuard")
	refresh.boolean("massRemovalGuard", &s.Refresh.MassRemovalGuard)

	if groups, groupsPath := root.get("deviceGroups"); groups != nil {
		r.deviceGroups(groups, groupsPath, &s)
	}
	return s
}

// deviceGroups hands the policy section to its own parser.
func (r *reader) deviceGroups(n *yaml.Node, path string, s *Section) {
	document, err := policy.ParseNode(n, policy.Options{Path: path})
	if err != nil {
		if problems := policy.ErrorsOf(err); problems != nil {
			r.problems = append(r.problems, problems...)
			return
		}
		r.fail(KindValue, n, path, err.Error(), "", "")
		return
	}
	r.warnings = append(r.warnings, document.Warnings...)
	s.DeviceGroups, s.Policy = document.Canonical(), document
}

func (r *reader) certificates(o object, c *Certificates) {
	clamp := func(v int) int { return min(max(v, validitySecondsMin), validitySecondsMax) }
	o.number("serverCertificateValiditySeconds", &c.ServerCertificateValiditySeconds, clamp)
	o.number("clientCertificateValiditySeconds", &c.ClientCertificateValiditySeconds, clamp)
	o.boolean("disableCertificateRotation", &c.DisableCertificateRotation)
}

func (r *reader) performance(o object, kept Performance, p *Performance) {
	o.number("maxActiveAuthTokens", &p.MaxActiveAuthTokens, func(v int) int { return min(max(v, 1), authTokensMax) })
	o.number("cloudRequestQueueSize", &p.CloudRequestQueueSize, func(v int) int { return orElse(v > 0, v, kept.CloudRequestQueueSize) })
	o.number("maxConcurrentCloudRequests", &p.MaxConcurrentCloudRequests, func(v int) int { return orElse(v > 0, v, kept.MaxConcurrentCloudRequests) })
}

func (r *reader) authority(o, root object, a *CertificateAuthority) {
	// The old name at the top level counts where the new one says nothing.
	if !r.caType(o, "caType", a) {
		r.caType(root, "ca_type", a)
	}
	a.CertificateURI = r.uri(o, "certificateUri", "file", "pkcs11")
	a.PrivateKeyURI = r.uri(o, "privateKeyUri", "file", "pkcs11")
	a.CertificateChainURI = r.uri(o, "certificateChainUri", "file")
	if (a.CertificateURI == "") != (a.PrivateKeyURI == "") {
		r.warn(KindValue, o.node, o.path, "only one of certificateUri and privateKeyUri is set: the managed authority stays in use", "set both for an authority of your own")
	}
}

// caType reads the type of the managed authority: a list whose first item counts, or
// text. It says whether the key held anything.
func (r *reader) caType(o object, key string, a *CertificateAuthority) bool {
	n, path := o.get(key)
	if n == nil {
		return false
	}
	first, items := n, 1
	if n.Kind == yaml.SequenceNode {
		if items = len(n.Content); items == 0 {
			return false
		}
		first = n.Content[0]
	}
	name := strings.TrimSpace(first.Value)
	switch {
	case first.Kind == yaml.ScalarNode && name == "":
		return false
	case first.Kind != yaml.ScalarNode || name != CATypeRSA2048 && name != CATypeECDSAP256:
		known := []string{CATypeRSA2048, CATypeECDSAP256}
		r.fail(KindValue, first, path, quoted(first)+" is no type of authority", "one of RSA_2048, ECDSA_P256 (exactly so)", didYouMean(nearest(name, known)))
		return true
	case items > 1:
		r.warn(KindValue, n, path, "more than one type: only the first is used", "remove the others")
	}
	a.CAType = name
	return true
}

// uri reads an address of key or certificate; empty is absent.
func (r *reader) uri(o object, key string, schemes ...string) string {
	text := o.text(key)
	if text == "" {
		return ""
	}
	n, path := o.get(key)
	if strings.Contains(strings.ToLower(text), "pin-value") { // the section is kept in the log
		r.fail(KindValue, n, path, "it holds the PIN", "pin-source=file:///path in the URI, or keys.pkcs11.pinFile", "what stands here is for everybody who reads the log")
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		r.fail(KindValue, n, path, quoted(n)+" is no URI with a scheme", strings.Join(schemes, ": or ")+":", "write file:///path/to/file for a file")
		return ""
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			return text
		}
	}
	r.fail(KindValue, n, path, "scheme "+u.Scheme+": cannot be read", strings.Join(schemes, ": or ")+":", "write file:///path/to/file for a file")
	return ""
}

func orElse(ok bool, value, otherwise int) int {
	if ok {
		return value
	}
	return otherwise
}
