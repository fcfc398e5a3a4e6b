package awsemu

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

const (
	controlTimeout     = 30 * time.Second
	controlAnswerMax   = 64 << 20
	idPrefixMin        = 8
	certificateFileMax = 64 << 10
)

// ControlClient gives orders to an emulated cloud through its control socket.
type ControlClient struct {
	path   string
	client *http.Client
}

// NewControlClient returns a client of the socket at path. It connects with each order.
func NewControlClient(path string) *ControlClient {
	dialer := &net.Dialer{}
	return &ControlClient{path: path, client: &http.Client{
		Timeout: controlTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Status returns what the emulated cloud tells about itself.
func (c *ControlClient) Status(ctx context.Context) (*ControlInfo, error) {
	info := &ControlInfo{}
	if err := c.do(ctx, http.MethodGet, pathStatus, nil, info); err != nil {
		return nil, err
	}
	return info, nil
}

// Seed returns the file form of what the emulated cloud knows now.
func (c *ControlClient) Seed(ctx context.Context) (json.RawMessage, error) {
	var text json.RawMessage
	if err := c.do(ctx, http.MethodGet, pathSeed, nil, &text); err != nil {
		return nil, err
	}
	return text, nil
}

// SetOnline brings the cloud back or takes it away.
func (c *ControlClient) SetOnline(ctx context.Context, online bool) error {
	return c.order(ctx, pathOnline, controlOrder{Online: &online})
}

// SetStatus changes the status of the certificate that given means; see Resolve.
func (c *ControlClient) SetStatus(ctx context.Context, given string, status Status) (messages.CertificateID, error) {
	id, err := c.Resolve(ctx, given)
	if err != nil {
		return "", err
	}
	return id, c.order(ctx, pathCertificate, controlOrder{Certificate: id, Status: status})
}

// Revoke revokes the certificate that given means; see Resolve.
func (c *ControlClient) Revoke(ctx context.Context, given string) (messages.CertificateID, error) {
	return c.SetStatus(ctx, given, StatusRevoked)
}

// Attach attaches the certificate that given means to thing.
func (c *ControlClient) Attach(ctx context.Context, thing, given string) (messages.CertificateID, error) {
	return c.setAttached(ctx, pathAttach, thing, given)
}

// Detach takes the certificate that given means from thing.
func (c *ControlClient) Detach(ctx context.Context, thing, given string) (messages.CertificateID, error) {
	return c.setAttached(ctx, pathDetach, thing, given)
}

func (c *ControlClient) setAttached(ctx context.Context, path, thing, given string) (messages.CertificateID, error) {
	name, err := messages.ParseThingName(thing)
	if err != nil {
		return "", err
	}
	id, err := c.Resolve(ctx, given)
	if err != nil {
		return "", err
	}
	return id, c.order(ctx, path, controlOrder{Thing: name, Certificate: id})
}

// Enroll registers a device: its thing, its certificate as active and attached, and the
// thing as a client device of the only core.
func (c *ControlClient) Enroll(ctx context.Context, thing messages.ThingName, der []byte) error {
	return c.order(ctx, pathEnroll, controlOrder{Thing: thing, DER: der})
}

// enrolAtOnce is how many devices one order has: of which each costs under 800 bytes of its bound, 16 MiB.
const enrolAtOnce = 20_000

// EnrollAll is Enroll for many devices. Those whose certificates are known stay as they are.
func (c *ControlClient) EnrollAll(ctx context.Context, devices []Enrolment) error {
	for part := range slices.Chunk(devices, enrolAtOnce) {
		if err := c.order(ctx, pathEnrollAll, controlOrder{Devices: part}); err != nil {
			return err
		}
	}
	return nil
}

// SetFault makes the cloud misbehave; the zero Fault ends it.
func (c *ControlClient) SetFault(ctx context.Context, f Fault) error {
	s := fault.Script{Faults: []Fault{}}
	if f.Set() {
		s.Faults = append(s.Faults, f)
	}
	return c.SetFaults(ctx, s)
}

// SetFaults puts a script of faults in force; one without any ends them.
func (c *ControlClient) SetFaults(ctx context.Context, s fault.Script) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Faults == nil {
		s.Faults = []Fault{}
	}
	return c.order(ctx, pathFaults, controlOrder{Script: &s})
}

// Associate makes things client devices of core; empty is the only core.
func (c *ControlClient) Associate(ctx context.Context, core messages.ThingName, things ...messages.ThingName) error {
	return c.order(ctx, pathAssociate, controlOrder{Core: core, Things: things})
}

// Disassociate ends that.
func (c *ControlClient) Disassociate(ctx context.Context, core messages.ThingName, things ...messages.ThingName) error {
	return c.order(ctx, pathDisassociate, controlOrder{Core: core, Things: things})
}

// Associations lists the client devices of core; empty is the only core.
func (c *ControlClient) Associations(ctx context.Context, core messages.ThingName) (*Associations, error) {
	found := &Associations{}
	return found, c.do(ctx, http.MethodGet, pathAssociations+"?core="+url.QueryEscape(string(core)), nil, found)
}

// SetConnectivity replaces the addresses of core; empty is the only core.
func (c *ControlClient) SetConnectivity(ctx context.Context, core messages.ThingName, addresses ...Connectivity) error {
	return c.order(ctx, pathConnectivity, controlOrder{Core: core, Addresses: addresses})
}

// Connectivity tells what devices discover of core; empty is the only core.
func (c *ControlClient) Connectivity(ctx context.Context, core messages.ThingName) (*CoreInfo, error) {
	found := &CoreInfo{}
	return found, c.do(ctx, http.MethodGet, pathConnectivity+"?core="+url.QueryEscape(string(core)), nil, found)
}

// Resolve finds the certificate that given means: its id, at least eight first digits of
// it, the name of a thing that has exactly one, or a PEM file with it.
func (c *ControlClient) Resolve(ctx context.Context, given string) (messages.CertificateID, error) {
	info, err := c.Status(ctx)
	if err != nil {
		return "", err
	}
	if id, err := messages.ParseCertificateID(strings.ToLower(given)); err == nil {
		return known(id, info.Certificates)
	}
	if looksLikeFile(given) {
		id, err := idFromFile(given)
		if err != nil {
			return "", err
		}
		return known(id, info.Certificates)
	}
	var found []messages.CertificateID
	prefix := strings.ToLower(given)
	for _, certificate := range info.Certificates {
		byID := len(prefix) >= idPrefixMin && strings.HasPrefix(string(certificate.ID), prefix)
		if byID || slices.Contains(certificate.Things, messages.ThingName(given)) {
			found = append(found, certificate.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no certificate %.128q in the emulated cloud: give its id, at least %d first digits of it, the name of a thing, or a PEM file: %w", given, idPrefixMin, ErrNotFound)
	default:
		return "", fmt.Errorf("%.128q means %d certificates (%.12s…, %.12s…): give an id or more digits", given, len(found), found[0], found[1])
	}
}

func known(id messages.CertificateID, all []CertificateInfo) (messages.CertificateID, error) {
	if !slices.ContainsFunc(all, func(c CertificateInfo) bool { return c.ID == id }) {
		return "", fmt.Errorf("certificate %s: %w", id, ErrNotFound)
	}
	return id, nil
}

// looksLikeFile: no thing name or id has a dot or a slash in it.
func looksLikeFile(s string) bool { return strings.ContainsAny(s, "./\\") }

func idFromFile(path string) (messages.CertificateID, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read certificate: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, certificateFileMax+1))
	if err != nil {
		return "", fmt.Errorf("read certificate: %w", err)
	}
	if len(text) > certificateFileMax {
		return "", fmt.Errorf("read certificate: %s has more than %d KiB: not a certificate", path, certificateFileMax>>10)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("read certificate: %s does not start with a PEM certificate", path)
	}
	return messages.CertificateIDOf(block.Bytes), nil
}

func (c *ControlClient) order(ctx context.Context, path string, o controlOrder) error {
	return c.do(ctx, http.MethodPost, path, o, nil)
}

func (c *ControlClient) do(ctx context.Context, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("emulated cloud: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://control"+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("emulated cloud: %w", err)
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = answer.Body.Close() }()
	read, err := io.ReadAll(io.LimitReader(answer.Body, controlAnswerMax))
	if err != nil {
		return fmt.Errorf("emulated cloud: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		var refused struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(read, &refused)
		if answer.StatusCode == http.StatusNotFound && refused.Error != "" {
			return fmt.Errorf("emulated cloud: %s%w", strings.TrimSuffix(refused.Error, ErrNotFound.Error()), ErrNotFound)
		}
		return fmt.Errorf("emulated cloud: %s: %s", answer.Status, refused.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(read, into); err != nil {
		return fmt.Errorf("emulated cloud: %w", err)
	}
	return nil
}

func (c *ControlClient) unreachable(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("emulated cloud: %s belongs to another user: %w", c.path, err)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("no emulated cloud at %s (%w): is `gatehouse dev` or `gatehouse sim cloud serve` running with that directory?", c.path, op.Err)
	default:
		return fmt.Errorf("emulated cloud: %w", err)
	}
}
