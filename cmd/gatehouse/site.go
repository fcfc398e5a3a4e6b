package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// siteFlags say whose configuration a command looks at, and how it asks AWS as operator.
type siteFlags struct {
	config, region, profile, endpoint, ca string
	roleAlias, credentialEndpoint         string
}

// coreSite is how this machine is configured as a core, and how an operator asks AWS about it.
// What is missing is empty: commands say what they could not look at.
type coreSite struct {
	dir     string // the daemon's; empty: not known
	dev     bool   // of `gatehouse dev`, with its emulated cloud
	file    string // gatehouse.yaml; empty: there is none
	config  config.File
	local   trace.Local
	control control.Config
	asker   *credentials.Operator // whose credentials control has; nil: the emulated cloud's administrator

	certificate, key string // files of the core
	rootsFile        string // by which the core verifies endpoints; empty: the system's
	roots            *x509.CertPool
	problems         []string // of the configuration file
	away             error    // why AWS cannot be asked
	serverName       string   // of the endpoints that the core asks; empty: their hosts
}

// siteOf finds out from the flags: a configuration file, else the directory of a dev, else
// what AWS's own tools are configured with.
func (a *app) siteOf(ctx context.Context, f siteFlags) (s *coreSite, err error) {
	s = &coreSite{dir: a.dir}
	switch {
	case f.config != "":
		err = s.ofFile(f)
	case a.dir != "" && isDevDir(a.dir):
		err = s.ofDev(ctx)
	}
	if err != nil {
		return nil, err
	}
	if f.region != "" {
		s.local.Region = f.region
	}
	if f.roleAlias != "" {
		s.local.RoleAlias = f.roleAlias
	}
	if f.credentialEndpoint != "" {
		s.local.Credentials = f.credentialEndpoint
	}
	if s.dev {
		return s, nil
	}
	return s, s.operator(ctx, f)
}

// operator says how the person who runs the command asks AWS: by the SDK's default chain. Who
// has none there asks as the core, if the daemon does that by the role, too.
func (s *coreSite) operator(ctx context.Context, f siteFlags) (err error) {
	c := s.config.Cloud
	if s.local.Region == "" {
		if s.local.Region = os.Getenv("AWS_REGION"); s.local.Region == "" {
			s.local.Region = os.Getenv("AWS_DEFAULT_REGION")
		}
	}
	s.control = control.Config{Region: s.local.Region, Endpoint: firstOf(f.endpoint, c.Control.Endpoint, os.Getenv("AWS_ENDPOINT_URL")), Now: time.Now}
	s.asker = &credentials.Operator{}
	if s.asker.Own, err = credentials.Default(ctx, credentials.Options{Region: s.local.Region, Profile: firstOf(f.profile, c.Control.Profile)}); err != nil {
		return err
	}
	if c.Control.Credentials == config.CredentialsTokenExchange && f.profile == "" {
		s.asker.Core = s.role
	}
	s.control.Credentials = s.asker
	s.control.Roots, err = rootsOf(firstOf(f.ca, c.Control.CA, c.CA, os.Getenv("AWS_CA_BUNDLE")))
	return err
}

// role opens the way to the role's credentials, as the daemon has it.
func (s *coreSite) role() (*tokenexchange.Provider, error) {
	identity, err := tls.LoadX509KeyPair(s.certificate, s.key)
	if err != nil {
		return nil, fmt.Errorf("the core's certificate and key cannot be used: %w", err)
	}
	return tokenexchange.NewProvider(tokenexchange.ProviderConfig{
		Endpoint: s.local.Credentials, RoleAlias: s.local.RoleAlias, Thing: s.local.Thing, Identity: identity, Roots: s.roots,
		Timeout: s.config.Cloud.RequestTimeout, ConnectTimeout: s.config.Cloud.ConnectTimeout, Now: time.Now,
	})
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func (s *coreSite) ofFile(f siteFlags) error {
	doc, err := readFile(f.config, config.DocumentBytesMax)
	if err != nil {
		return err
	}
	parsed, _, err := config.ParseFile(doc, nil)
	for _, e := range inFile(f.config, policy.ErrorsOf(err)) {
		s.problems = append(s.problems, e.Error())
	}
	if err != nil && len(s.problems) == 0 {
		s.problems = []string{err.Error()}
	}
	if s.file, err = filepath.Abs(f.config); err != nil {
		return err
	}
	s.config = parsed.Resolve(filepath.Dir(s.file))
	if s.dir == "" {
		s.dir = s.config.Dir
	}
	c := s.config.Cloud
	s.local = trace.Local{
		Thing: messages.ThingName(c.ThingName), Region: c.Region, Greengrass: c.Endpoint, Data: c.IoTDataEndpoint,
		Credentials: c.CredentialEndpoint, RoleAlias: c.RoleAlias,
		OwnVerifier: c.Verifier == config.VerifierIoT,
	}
	s.certificate, s.key, s.rootsFile = c.Certificate, c.PrivateKey, c.CA
	if s.roots, err = rootsOf(c.CA); err != nil {
		s.roots = nil // doctor says what is wrong with the file
	}
	s.readCertificate()
	return nil
}

// readCertificate takes the core's certificate's id from its file, if it is there.
func (s *coreSite) readCertificate() {
	if certificate, err := readCertificate(s.certificate); err == nil {
		s.local.Certificate = messages.CertificateIDOf(certificate.Raw)
	}
}

func isDevDir(dir string) bool {
	_, err := os.Stat(filepath.Join(cloudDir(dir), "authority.pem"))
	return err == nil
}

// ofDev finds the emulated cloud of a dev: its addresses by its socket, the operator's keys
// by aws.env.
func (s *coreSite) ofDev(ctx context.Context) error {
	s.dev = true
	core := filepath.Join(cloudDir(s.dir), "core")
	s.certificate, s.key, s.serverName = filepath.Join(core, "cert.pem"), filepath.Join(core, "key.pem"), awsemu.ServerName
	s.rootsFile = filepath.Join(cloudDir(s.dir), "authority.pem")
	var err error
	if s.roots, err = rootsOf(s.rootsFile); err != nil {
		return err
	}
	s.local = trace.Local{Region: awsemu.Region}
	if s.readCertificate(); s.local.Certificate != "" { // `sim cloud serve` has no core
		s.local.Thing, s.local.RoleAlias = coreThing, awsemu.TokenExchangeAlias
		s.config.Registration.Authorities = []string{filepath.Join(fleetDir(s.dir), "ca.pem")}
	}
	s.control = control.Config{Region: awsemu.Region, Roots: s.roots, Now: time.Now}
	s.away = s.ofCloud(ctx)
	return nil
}

// ofCloud finds the emulated cloud of a dev that runs.
func (s *coreSite) ofCloud(ctx context.Context) error {
	env, err := readAWSEnv(filepath.Join(s.dir, "aws.env"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the emulated cloud of %s does not run: start it with `gatehouse dev --dir %[1]s`", s.dir)
	}
	if err != nil {
		return err
	}
	s.control.Endpoint = env["AWS_ENDPOINT_URL"]
	s.control.Credentials = credentials.Static(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], "")
	info, err := awsemu.NewControlClient(controlSocket(s.dir)).Status(ctx)
	if err != nil {
		return err
	}
	s.local.Greengrass, s.local.Data, s.local.Credentials = info.Endpoint, strings.TrimPrefix(info.Endpoint, "https://"), info.Credentials
	return nil
}

// readAWSEnv reads what awsEnv wrote.
func readAWSEnv(file string) (map[string]string, error) {
	text, err := readFile(file, 64<<10)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, found := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !found || len(value) < 2 || value[0] != '\'' || value[len(value)-1] != '\'' {
			continue
		}
		env[name] = strings.ReplaceAll(value[1:len(value)-1], `'\''`, "'")
	}
	if env["AWS_ENDPOINT_URL"] == "" || env["AWS_ACCESS_KEY_ID"] == "" {
		return nil, fmt.Errorf("%s names no endpoint or no keys", file)
	}
	return env, nil
}

// prober asks the credentials endpoint as the core; nil, and why, if that cannot be.
func (s *coreSite) prober() (p *trace.Endpoint, why string) {
	switch {
	case s.local.Credentials == "":
		return nil, "no credentials endpoint is configured (cloud.credentialEndpoint)"
	case s.local.RoleAlias == "":
		return nil, "no role alias is configured (cloud.roleAlias)"
	case s.certificate == "":
		return nil, "the core's certificate and key are not at hand"
	}
	identity, err := tls.LoadX509KeyPair(s.certificate, s.key)
	if err != nil {
		return nil, fmt.Sprintf("the core's certificate and key cannot be used: %v", err)
	}
	if s.roots == nil {
		return nil, "cloud.ca cannot be read"
	}
	p, err = trace.NewEndpoint(trace.EndpointConfig{
		Endpoint: s.local.Credentials, Identity: &identity, Roots: s.roots, ServerName: s.serverName, Now: time.Now,
	})
	if err != nil {
		return nil, err.Error()
	}
	return p, ""
}
