package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// File is gatehouse.yaml, read and checked. Its zero fields mean what their comments
// say; ParseFile fills in the defaults.
type File struct {
	Dir   string `json:"dir"` // data directory: log, keys, snapshots
	Keys  Keys   `json:"keys"`
	NATS  NATS   `json:"nats"`
	MQTT  MQTT   `json:"mqtt"`
	Cloud Cloud  `json:"cloud"`
	HTTP  HTTP   `json:"http"`
	Trust Trust  `json:"trust"`
	Log   Log    `json:"log"`

	TokenExchange TokenExchange `json:"tokenExchange"`
	Registration  Registration  `json:"registration"`

	// PolicyFile names a file that holds only the device groups and is reloaded when
	// it changes. Empty: the groups stand in ClientDeviceAuth. Never both.
	PolicyFile       string  `json:"policyFile,omitempty"`
	ClientDeviceAuth Section `json:"clientDeviceAuth"`
}

// Keys says how the key store is opened.
type Keys struct {
	// PassphraseFile names the file whose first line encrypts the authority's key at
	// rest: best a systemd credential. Empty: the key lies in a file of mode 0400.
	PassphraseFile string `json:"passphraseFile,omitempty"`
	// PKCS11 reaches the token of pkcs11: URIs.
	PKCS11 PKCS11 `json:"pkcs11"`
}

// PKCS11 says how a PKCS#11 token is reached, where a pkcs11: URI does not say so itself.
type PKCS11 struct {
	Helper  string `json:"helper,omitempty"`  // the program gatehouse-pkcs11; empty: the one beside gatehouse, or on the path
	Module  string `json:"module,omitempty"`  // the token's library
	Token   string `json:"token,omitempty"`   // the token's name
	PINFile string `json:"pinFile,omitempty"` // its first line is the user's PIN
}

// NATS says where brokers meet Gatehouse: an embedded server (Listen) or an external
// one (URL). With neither, the embedded one listens on DefaultNATSListen.
type NATS struct {
	Listen string `json:"listen,omitempty"` // address of the embedded server
	URL    string `json:"url,omitempty"`    // external server: nats:// or tls://; several of one cluster are separated by commas
	Creds  string `json:"creds,omitempty"`  // credentials file for the external server
	TLS    TLS    `json:"tls"`              // embedded: what it serves (needed off loopback); external: what it is asked with
}

// TLS names the files of a TLS end.
type TLS struct {
	CA          string `json:"ca,omitempty"`          // PEM of the authorities that the other end is checked against
	Certificate string `json:"certificate,omitempty"` // PEM, leaf first
	PrivateKey  string `json:"privateKey,omitempty"`  // PEM of the certificate's key
}

// MQTT is the embedded broker. With no Listen there is none.
type MQTT struct {
	Listen        string   `json:"listen,omitempty"`        // TLS with client certificates; 8883 by custom
	TLSMinVersion string   `json:"tlsMinVersion"`           // "1.2" or "1.3"
	HostAddresses []string `json:"hostAddresses,omitempty"` // names and addresses devices dial, for the server certificate; localhost is always there
}

// Cloud says how AWS is reached. If it is not Configured Gatehouse is offline: only what
// it already trusts is let in.
type Cloud struct {
	// Verifier is who is asked about client devices: VerifierGreengrassData, the data plane
	// at Endpoint, or VerifierIoT, AWS IoT's published operations.
	Verifier       string        `json:"verifier"`
	Endpoint       string        `json:"endpoint,omitempty"` // host or host:port of the Greengrass data plane; 8443 if no port is given
	Region         string        `json:"region,omitempty"`
	ThingName      string        `json:"thingName,omitempty"` // the core's own
	Certificate    string        `json:"certificate,omitempty"`
	PrivateKey     string        `json:"privateKey,omitempty"`
	CA             string        `json:"ca,omitempty"` // PEM of the roots the endpoint is checked against; empty: the system's
	ConnectTimeout time.Duration `json:"-"`
	RequestTimeout time.Duration `json:"-"`
	// IoTDataEndpoint is where the core hears by MQTT that its addresses have changed: host or
	// host:port of the account's AWS IoT data endpoint; 8883 if no port is given. The addresses
	// come from Endpoint. Empty: they are not followed.
	IoTDataEndpoint string `json:"iotDataEndpoint,omitempty"`
	// CredentialEndpoint is where the credentials of RoleAlias come from: host or host:port of
	// the account's endpoint iot:CredentialProvider; 443 if no port is given. Empty, as both
	// are: there are none.
	CredentialEndpoint string `json:"credentialEndpoint,omitempty"`
	RoleAlias          string `json:"roleAlias,omitempty"`
	// Recheck is how often the cloud is asked about connected devices, so that a
	// revocation is noticed; 0: only as often as their trust needs it, twice per trust
	// duration. It costs two requests per device and interval.
	Recheck time.Duration `json:"-"`
	// RefreshRate bounds the questions that no device waits for, in requests a second.
	RefreshRate int        `json:"refreshRate"`
	Operations  Operations `json:"operations"`
	Control     Control    `json:"control"`
}

// Configured says whether there is a cloud to ask.
func (c Cloud) Configured() bool { return c.Endpoint != "" || c.Verifier == VerifierIoT }

// Control says how AWS' control planes are reached, which know the core by a role. Without
// Credentials they are not asked.
type Control struct {
	Credentials string `json:"credentials,omitempty"` // CredentialsDefault or CredentialsTokenExchange
	Profile     string `json:"profile,omitempty"`     // of the shared files; empty: AWS_PROFILE, or default
	Endpoint    string `json:"endpoint,omitempty"`    // https URL of an emulator or VPC endpoint; empty: AWS's own of the region
	CA          string `json:"ca,omitempty"`          // PEM of the roots the endpoint is checked against; empty: those of Cloud
}

// Operations overrides the paths of the data-plane operations that AWS does not
// publish (cloud spec 1.2). Empty: the built-in path, which is refused against real
// AWS hosts.
type Operations struct {
	VerifyClientDeviceIdentity                  string `json:"verifyClientDeviceIdentity,omitempty"`
	VerifyClientDeviceIoTCertificateAssociation string `json:"verifyClientDeviceIoTCertificateAssociation,omitempty"`
	PutCertificateAuthorities                   string `json:"putCertificateAuthorities,omitempty"`
}

// HTTP is the dashboard, metrics and health. With no Listen there is none.
type HTTP struct {
	Listen string `json:"listen,omitempty"`
}

// Trust says what stored trust is worth when its age is not known.
type Trust struct {
	// UnknownOffTime is what happens after a start of the machine whose clock is not
	// synchronised, so that nobody knows how long it was off: OffTimeStrict lets no stored
	// trust count until the time is known, OffTimeBudget lets it count for a shorter time.
	UnknownOffTime string `json:"unknownOffTime"`
}

// The values of Trust.UnknownOffTime.
const (
	OffTimeStrict = "strict"
	OffTimeBudget = "budget"
)

// Log is the operator's log, not the event log.
type Log struct {
	Level  string `json:"level"`  // debug, info, warn or error
	Format string `json:"format"` // text or json
}

// Defaults of gatehouse.yaml.
const (
	DefaultDir            = "/var/lib/gatehouse"
	DefaultNATSListen     = "127.0.0.1:4222"
	DefaultConnectTimeout = 5 * time.Second
	DefaultRequestTimeout = 10 * time.Second
	DefaultRefreshRate    = 10
	refreshRateMax        = 1000
	timeoutMax            = 5 * time.Minute
)

// The verifiers, and where a role's credentials come from.
const (
	VerifierGreengrassData = "greengrass-data"
	VerifierIoT            = "iot"
	CredentialsDefault     = "default" // the environment, shared files, or the container credentials endpoint

	CredentialsTokenExchange = "tokenExchange" // those of cloud.roleAlias
)

// ParseFile reads gatehouse.yaml (YAML or JSON). previous is the section in force, as
// for Parse. Unknown keys outside clientDeviceAuth are errors. Paths are returned as
// written: Resolve makes them absolute.
func ParseFile(doc []byte, previous *Section) (File, Warnings, error) {
	root, err := readDocument(doc)
	if err != nil {
		return File{}, nil, err
	}
	r := &reader{}
	file := r.file(root, previous)
	warnings, err := r.result()
	return file, warnings, err
}

// ParseAny reads either gatehouse.yaml or a bare clientDeviceAuth section, as people
// paste it from a deployment. A document is a section if every key of its top level
// is one of the section's.
func ParseAny(doc []byte, previous *Section) (File, Warnings, error) {
	root, err := readDocument(doc)
	if err != nil {
		return File{}, nil, err
	}
	r := &reader{}
	if isSection(root) {
		file := defaultFile()
		file.NATS.Listen = DefaultNATSListen
		file.ClientDeviceAuth = r.section(root, "", previous)
		warnings, err := r.result()
		return file, warnings, err
	}
	file := r.file(root, previous)
	warnings, err := r.result()
	return file, warnings, err
}

func isSection(root *yaml.Node) bool {
	if root.Kind != yaml.MappingNode || len(root.Content) == 0 {
		return false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if !contains(sectionKeys, lenient, root.Content[i].Value) {
			return false
		}
	}
	return true
}

func defaultFile() File {
	return File{
		Dir:              DefaultDir,
		MQTT:             MQTT{TLSMinVersion: "1.2"},
		Cloud:            Cloud{Verifier: VerifierGreengrassData, ConnectTimeout: DefaultConnectTimeout, RequestTimeout: DefaultRequestTimeout, RefreshRate: DefaultRefreshRate},
		Trust:            Trust{UnknownOffTime: OffTimeStrict},
		Log:              Log{Level: "info", Format: "text"},
		TokenExchange:    defaultTokenExchange(),
		Registration:     defaultRegistration(),
		ClientDeviceAuth: DefaultSection(),
	}
}

func (r *reader) file(n *yaml.Node, previous *Section) File {
	f := defaultFile()
	root := r.object(n, "", strict, "dir", "keys", "nats", "mqtt", "cloud", "http", "trust", "log", "tokenExchange", "registration", "policyFile", "clientDeviceAuth")
	root.string("dir", &f.Dir)
	keys := root.child("keys", "passphraseFile", "pkcs11")
	keys.string("passphraseFile", &f.Keys.PassphraseFile)
	token := keys.child("pkcs11", "helper", "module", "token", "pinFile")
	token.string("helper", &f.Keys.PKCS11.Helper)
	token.string("module", &f.Keys.PKCS11.Module)
	token.string("token", &f.Keys.PKCS11.Token)
	token.string("pinFile", &f.Keys.PKCS11.PINFile)
	r.nats(root.child("nats", "listen", "url", "creds", "tls"), &f.NATS)
	r.mqtt(root.child("mqtt", "listen", "tlsMinVersion", "hostAddresses"), &f.MQTT)
	cloud := root.child("cloud", "verifier", "endpoint", "iotDataEndpoint", "credentialEndpoint", "roleAlias", "region", "thingName", "certificate", "privateKey", "ca", "connectTimeout", "requestTimeout", "recheck", "refreshRate", "operations", "control")
	r.cloud(cloud, &f.Cloud)
	exchange := root.child("tokenExchange", "listen", "directory", "refreshBefore", "credentialRetryInSec", "consumers")
	r.tokenExchange(exchange, &f.TokenExchange)
	r.checkTokenExchange(cloud, exchange, f.Cloud, f.TokenExchange)
	registration := root.child("registration", "authorities", "registrar", "offline")
	registration.list("authorities", &f.Registration.Authorities)
	f.Registration.Registrar = r.registrar(registration, &f.Cloud)
	offline := registration.child("offline", "enabled", "perHour", "max", "groupName")
	r.offline(offline, &f.Registration.Offline)
	http := root.child("http", "listen")
	http.address("listen", &f.HTTP.Listen)
	if n, path := http.get("listen"); n != nil && f.HTTP.Listen != "" && !loopback(f.HTTP.Listen) {
		r.fail(KindValue, n, path, fmt.Sprintf("%q is not on this machine alone", f.HTTP.Listen), "a loopback address, such as 127.0.0.1:8480", "the status page knows no users")
	}
	root.child("trust", "unknownOffTime").choice("unknownOffTime", &f.Trust.UnknownOffTime, OffTimeStrict, OffTimeBudget)
	log := root.child("log", "level", "format")
	log.choice("level", &f.Log.Level, "debug", "info", "warn", "error")
	log.choice("format", &f.Log.Format, "text", "json")
	root.string("policyFile", &f.PolicyFile)

	section, path := root.get("clientDeviceAuth")
	f.ClientDeviceAuth = r.section(section, path, previous)
	r.checkOffline(registration, offline, f)
	if policyFile, at := root.get("policyFile"); policyFile != nil && section != nil {
		inner := (&reader{}).object(section, path, lenient, sectionKeys...)
		if groups, groupsPath := inner.get("deviceGroups"); groups != nil {
			r.fail(KindConflict, policyFile, at, "the device groups are given twice: here and in "+groupsPath, "one of the two", "remove policyFile, or move deviceGroups into that file")
		}
	}
	return f
}

func (r *reader) nats(o object, c *NATS) {
	o.address("listen", &c.Listen)
	o.servers("url", &c.URL, "nats", "tls")
	o.string("creds", &c.Creds)
	tls := o.child("tls", "ca", "certificate", "privateKey")
	tls.string("ca", &c.TLS.CA)
	tls.string("certificate", &c.TLS.Certificate)
	tls.string("privateKey", &c.TLS.PrivateKey)
	tls.both("certificate", "privateKey")
	switch {
	case c.Listen != "" && c.URL != "":
		r.fail(KindConflict, o.node, o.path, "listen and url are both given", "listen for the embedded server, or url for an external one", "remove one")
	case c.URL == "" && c.Creds != "":
		r.fail(KindConflict, o.node, o.path, "creds without url", "url of the external server the credentials are for", "the embedded server needs none")
	case c.URL == "" && !loopback(orDefault(c.Listen, DefaultNATSListen)) && c.TLS.Certificate == "":
		n, path := o.get("listen")
		r.fail(KindConflict, n, path, "an address beyond this machine without tls", "tls.certificate and tls.privateKey, or 127.0.0.1", "device tokens would cross the network in the clear")
	}
	if c.URL == "" {
		c.Listen = orDefault(c.Listen, DefaultNATSListen)
	}
}

func (r *reader) mqtt(o object, c *MQTT) {
	o.address("listen", &c.Listen)
	o.choice("tlsMinVersion", &c.TLSMinVersion, "1.2", "1.3")
	o.list("hostAddresses", &c.HostAddresses)
}

func (r *reader) cloud(o object, c *Cloud) {
	o.choice("verifier", &c.Verifier, VerifierGreengrassData, VerifierIoT)
	o.host("endpoint", &c.Endpoint, "greengrass-ats.iot.eu-central-1.amazonaws.com")
	o.host("iotDataEndpoint", &c.IoTDataEndpoint, "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com")
	o.host("credentialEndpoint", &c.CredentialEndpoint, "a1b2c3d4e5f6g7.credentials.iot.eu-central-1.amazonaws.com")
	o.checked("roleAlias", &c.RoleAlias, "1 to 128 of A-Z a-z 0-9 _ = , @ -", roleAliasPattern.MatchString)
	o.string("region", &c.Region)
	o.thing("thingName", &c.ThingName)
	o.string("certificate", &c.Certificate)
	o.string("privateKey", &c.PrivateKey)
	o.string("ca", &c.CA)
	o.duration("connectTimeout", &c.ConnectTimeout)
	o.duration("requestTimeout", &c.RequestTimeout)
	o.duration("recheck", &c.Recheck)
	o.count("refreshRate", &c.RefreshRate, refreshRateMax)
	operations := o.child("operations", "verifyClientDeviceIdentity", "verifyClientDeviceIoTCertificateAssociation", "putCertificateAuthorities")
	operations.urlPath("verifyClientDeviceIdentity", &c.Operations.VerifyClientDeviceIdentity)
	operations.urlPath("verifyClientDeviceIoTCertificateAssociation", &c.Operations.VerifyClientDeviceIoTCertificateAssociation)
	operations.urlPath("putCertificateAuthorities", &c.Operations.PutCertificateAuthorities)
	o.both("certificate", "privateKey")
	r.control(o.child("control", "credentials", "profile", "endpoint", "ca"), &c.Control)
	need := func(reason, hint string, keys ...string) {
		for _, key := range keys {
			if n, path := o.get(key); n == nil {
				r.fail(policy.KindMissing, o.node, path, "missing", "a value, since "+reason, hint)
			}
		}
	}
	switch {
	case c.Verifier == VerifierIoT && c.Control.Credentials == "":
		_, path := o.get("control")
		r.fail(policy.KindMissing, o.node, path+".credentials", "missing", "a value, since cloud.verifier is "+VerifierIoT, "AWS IoT knows the core by a role")
	case c.Verifier == VerifierIoT:
		need("cloud.verifier is "+VerifierIoT, "AWS IoT is asked about the core's own certificate first, to be sure of region and account", "region", "thingName", "certificate", "privateKey")
	case c.Control.Credentials != "":
		need("cloud.control.credentials is set", "requests are for one core, and signed for one region", "region", "thingName")
	}
	if c.Endpoint != "" && c.Verifier != VerifierIoT {
		need("cloud.endpoint is set", "the core speaks to the cloud with its own certificate", "thingName", "certificate", "privateKey")
	}
	if c.IoTDataEndpoint != "" {
		need("cloud.iotDataEndpoint is set", "it tells that the core's addresses have changed, which are then asked for", "endpoint")
	}
}

func (r *reader) control(o object, c *Control) {
	o.choice("credentials", &c.Credentials, CredentialsDefault, CredentialsTokenExchange)
	o.string("profile", &c.Profile)
	o.url("endpoint", &c.Endpoint, "https")
	o.string("ca", &c.CA)
	for _, key := range []string{"profile", "endpoint", "ca"} {
		if n, path := o.get(key); n != nil && c.Credentials == "" {
			r.fail(KindConflict, n, path, key+" without credentials", "credentials: "+CredentialsDefault, "the control plane is asked with a role's credentials or not at all")
		}
	}
	if n, path := o.get("profile"); n != nil && c.Credentials == CredentialsTokenExchange {
		r.fail(KindConflict, n, path, "profile with credentials: "+CredentialsTokenExchange, "credentials: "+CredentialsDefault, "a profile is of the shared files")
	}
}

// Resolve returns f with every relative path made relative to base, the directory of
// the file f was read from.
func (f File) Resolve(base string) File {
	for _, path := range []*string{&f.Dir, &f.PolicyFile, &f.Keys.PassphraseFile, &f.Keys.PKCS11.Helper, &f.Keys.PKCS11.Module, &f.Keys.PKCS11.PINFile, &f.NATS.Creds, &f.NATS.TLS.CA,
		&f.NATS.TLS.Certificate, &f.NATS.TLS.PrivateKey, &f.Cloud.Certificate, &f.Cloud.PrivateKey, &f.Cloud.CA, &f.Cloud.Control.CA, &f.TokenExchange.Directory} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(base, *path)
		}
	}
	f.Registration.Authorities = slices.Clone(f.Registration.Authorities)
	for i, path := range f.Registration.Authorities {
		if !filepath.IsAbs(path) {
			f.Registration.Authorities[i] = filepath.Join(base, path)
		}
	}
	return f
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
