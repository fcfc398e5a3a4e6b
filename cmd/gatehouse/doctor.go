package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/connectivity"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/awsreader"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/doctor"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func (a *app) doctorCommand() *cobra.Command {
	var f siteFlags
	var mosquitto string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host: files, identity, network, clock, AWS, log, brokers",
		Long: `Check this host as a core: files, their modes and owners; the core's certificate and key;
endpoints by name, port, TLS and ALPN; the clock; credentials; what AWS knows of the core
(all of ` + "`gatehouse aws trace`" + `), and live questions as the core; the daemon, its log and
disk; NATS, the embedded broker, and a mosquitto. Each check says what was found, and if
something is wrong, what was expected and what to do. Changes nothing, prints no secret,
and works with the daemon running or stopped; a stopped one cannot start for the up to 3 s
in which its log is read.

A check that cannot be done, or does not apply, is shown with "-", and why. --json prints
the form gatehouse/doctor-1: state, counts, and results (check, state, fault, found,
expected, do). Exit 1 if a check failed.`,
		Example: example("gatehouse doctor -c /etc/gatehouse/gatehouse.yaml", "gatehouse doctor --dir ./gh",
			"gatehouse doctor -c gatehouse.yaml --mosquitto /etc/mosquitto/mosquitto.conf --json"),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context(), f, mosquitto) },
	}
	f.add(c)
	c.Flags().StringVar(&mosquitto, "mosquitto", "", "`FILE` of a mosquitto's configuration, to check its listeners")
	return c
}

func (a *app) doctor(ctx context.Context, f siteFlags, mosquitto string) error {
	s, err := a.siteOf(ctx, f)
	if err != nil {
		return err
	}
	if s.dir == "" && s.file == "" {
		return &exitError{exitUsage, errors.New("which host? name its configuration with -c, or the daemon's directory with --dir")}
	}
	a.dir = s.dir
	r := doctor.Run(ctx, a.host(s, mosquitto))
	if err := a.show(r, r.WriteText); err != nil {
		return err
	}
	if r.State == doctor.Failed {
		return errQuiet
	}
	return nil
}

// host is what a doctor looks at.
func (a *app) host(s *coreSite, mosquitto string) *doctor.Host {
	h := &doctor.Host{
		Dir: s.dir, File: s.file, Config: s.config, Problems: s.problems, Dev: s.dev, Local: s.local,
		Certificate: s.certificate, Key: s.key, CA: s.rootsFile, ServerName: s.serverName,
		Endpoints: s.endpoints(), Mosquitto: mosquitto, Now: time.Now,
		Roots: func(file string) (*x509.CertPool, error) { return rootsOf(firstOf(file, s.rootsFile)) },
		Trace: func(ctx context.Context) (*trace.Report, error) {
			return s.trace(ctx, trace.Config{Local: s.local, Now: time.Now})
		},
		Authority: s.authority,
		Status:    a.daemonStatus,
	}
	if clock, err := actors.NewSystemClock(); err == nil {
		h.Synced = clock.Synced
	}
	switch given := s.config.Cloud.Control.Credentials; {
	case s.away != nil:
		h.NoCredentials = s.away.Error()
	case s.dev || given == config.CredentialsDefault:
		h.Credentials = s.credentialsUntil
	case given == config.CredentialsTokenExchange:
		h.NoCredentials = "the daemon's own come from the token exchange: see cloud.credentials and daemon.credentials; this command asks AWS by your default chain, else by the core's role"
	default:
		h.NoCredentials = "the core asks no control plane (cloud.control.credentials)"
	}
	if s.local.Greengrass != "" && s.certificate != "" {
		h.Live = s.live
	}
	return h
}

// daemonStatus asks the running daemon.
func (a *app) daemonStatus(ctx context.Context) (s daemon.Status, err error) {
	err = a.ask(ctx, daemon.OpStatus, nil, &s)
	if errors.Is(err, errNotRunning) {
		err = fmt.Errorf("%w: %w", doctor.ErrStopped, err)
	}
	return s, err
}

// authority asks AWS IoT about a registered CA.
func (s *coreSite) authority(ctx context.Context, id string) (trace.Authority, error) {
	if s.away != nil {
		return trace.Authority{}, s.away
	}
	reader, err := awsreader.New(s.control)
	if err != nil {
		return trace.Authority{}, err
	}
	defer reader.Close()
	return reader.Authority(ctx, id)
}

func (s *coreSite) credentialsUntil(ctx context.Context) (time.Time, error) {
	keys, err := s.control.Credentials.Retrieve(ctx)
	if err != nil || !keys.CanExpire {
		return time.Time{}, err
	}
	return keys.Expires, nil
}

const (
	alpnHTTP = "x-amzn-http-ca"
	alpnMQTT = "x-amzn-mqtt-ca"
)

// endpoints are those that the core, or an operator, asks (cloud spec 0).
func (s *coreSite) endpoints() (list []doctor.Endpoint) {
	if u, err := cloudsync.ParseEndpoint(s.local.Greengrass); s.local.Greengrass != "" && err == nil {
		e := doctor.Endpoint{Name: "greengrass", Address: u.Host, ServerName: s.serverName, Protocols: cloudsync.Protocols(), Identity: true, Setting: "cloud.endpoint"}
		if u.Port() == "443" {
			e.Needs = alpnHTTP
		} else {
			other := e
			other.Address, other.Needs = net.JoinHostPort(u.Hostname(), "443"), alpnHTTP
			e.Elsewhere = &other
		}
		list = append(list, e)
	}
	if address := withPort(s.local.Data, "8883"); address != "" {
		e := doctor.Endpoint{Name: "data", Address: address, ServerName: s.serverName, Identity: true, Setting: "cloud.iotDataEndpoint"}
		alpn := e
		alpn.Protocols, alpn.Needs = []string{alpnMQTT}, alpnMQTT
		if host, port, _ := net.SplitHostPort(address); port == "8883" {
			alpn.Address = net.JoinHostPort(host, "443")
			e.Elsewhere = &alpn
		} else {
			e = alpn
		}
		list = append(list, e)
	}
	if address := withPort(s.local.Credentials, "443"); address != "" {
		list = append(list, doctor.Endpoint{Name: "credentials", Address: address, ServerName: s.serverName, Identity: true, Setting: "cloud.credentialEndpoint"})
	}
	return append(list, s.controlEndpoints()...)
}

// controlEndpoints are those of the control planes, if the core asks them.
func (s *coreSite) controlEndpoints() (list []doctor.Endpoint) {
	c := s.config.Cloud
	add := func(name, address string) {
		list = append(list, doctor.Endpoint{Name: name, Address: address, Protocols: []string{"http/1.1"}, CA: firstOf(c.Control.CA, c.CA), Setting: "cloud.control.endpoint"})
	}
	switch {
	case s.control.Endpoint != "" && (s.dev || c.Control.Credentials != ""):
		add("control", withPort(s.control.Endpoint, "443"))
	case c.Control.Credentials != "" && c.Region != "":
		domain := c.Region + ".amazonaws.com"
		if strings.HasPrefix(c.Region, "cn-") {
			domain += ".cn"
		}
		add("control-greengrass", "greengrass."+domain+":443")
		if c.Verifier == config.VerifierIoT {
			add("control-iot", "iot."+domain+":443")
		}
	}
	return list
}

// withPort is host:port of host, host:port or a URL; "" of nothing.
func withPort(endpoint, port string) string {
	if _, rest, found := strings.Cut(endpoint, "://"); found {
		endpoint = strings.TrimSuffix(rest, "/")
	}
	if endpoint == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return net.JoinHostPort(strings.Trim(endpoint, "[]"), port)
	}
	return endpoint
}

// live puts two questions to the data plane as the core, which change nothing: about its own
// certificate, and its addresses.
func (s *coreSite) live(ctx context.Context) []doctor.Result {
	identity, err := tls.LoadX509KeyPair(s.certificate, s.key)
	if err != nil || s.roots == nil {
		return []doctor.Result{{Check: "live", State: doctor.Unknown, Found: "the core's certificate, key or roots cannot be used: see identity"}}
	}
	data := cloudsync.DataPlaneConfig{
		Endpoint: s.local.Greengrass, Identity: identity, Roots: s.roots, ServerName: s.serverName, Now: time.Now,
		Routes: routesOf(s.config.Cloud.Operations), Timeout: 10 * time.Second,
	}
	return []doctor.Result{liveIdentity(ctx, data), liveAddresses(ctx, data, s.local.Thing)}
}

func liveIdentity(ctx context.Context, data cloudsync.DataPlaneConfig) doctor.Result {
	r := doctor.Result{Check: "live.verify", State: doctor.OK, Found: "the data plane verifies certificates"}
	plane, err := cloudsync.NewDataPlane(data)
	if errors.Is(err, cloudsync.ErrUnpublishedPath) {
		r.State, r.Found = doctor.Unknown, "AWS does not publish the path of this question (cloud.operations)"
		return r
	}
	if err != nil {
		r.State, r.Found = doctor.Unknown, err.Error()
		return r
	}
	defer plane.Close()
	der := data.Identity.Certificate[0]
	a := plane.Ask(ctx, messages.CloudQuestion{Certificate: messages.CertificateIDOf(der), DER: der})
	if a.Verdict != messages.CloudConfirmed {
		r.State, r.Found, r.Expected = doctor.Failed, "asked about the core's own certificate: "+a.Detail, "VerifyClientDeviceIdentity answers"
		r.Do = []string{"see cloud.certificate, cloud.policies and cloud.service-role here"}
	}
	return r
}

func liveAddresses(ctx context.Context, data cloudsync.DataPlaneConfig, core messages.ThingName) doctor.Result {
	r := doctor.Result{Check: "live.connectivity", State: doctor.OK}
	source, err := connectivity.New(data, core)
	if err != nil {
		r.State, r.Found = doctor.Unknown, err.Error()
		return r
	}
	defer source.Close()
	hosts, known, err := source.Addresses(ctx)
	switch {
	case err != nil:
		r.State, r.Found, r.Expected = doctor.Failed, err.Error(), "GetConnectivityInfo answers"
		r.Do = []string{"see cloud.certificate and cloud.policies here"}
	case !known || len(hosts) == 0:
		r.Found = "the cloud has no addresses of the core: devices cannot discover it, if they do that"
	default:
		r.Found = "devices are told: " + strings.Join(hosts, ", ")
	}
	return r
}
