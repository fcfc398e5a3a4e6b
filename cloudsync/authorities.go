package cloudsync

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// authorityBytesMax bounds a certificate in PEM: 16 KiB of DER, as whoever imports one allows.
const authorityBytesMax = 24 << 10

// authoritiesMax bounds how many are published at a time, while one follows the other.
const authoritiesMax = 8

// defaultPutTimeout is longer than that of a question: no device waits.
const defaultPutTimeout = 10 * time.Second

// Authorities publishes the certificate by which client devices know this core's servers:
// PutCertificateAuthorities, from which Greengrass discovery takes it (client-device-auth
// spec 6.6). It is safe for use by many goroutines at once.
type Authorities struct {
	plane *DataPlane
	core  messages.ThingName
}

// NewAuthorities checks cfg and returns a client for core. It connects to nothing yet, and
// needs a route for OpPutAuthorities against AWS's own hosts (ErrUnpublishedPath).
func NewAuthorities(cfg DataPlaneConfig, core messages.ThingName) (*Authorities, error) {
	if _, err := messages.ParseThingName(string(core)); err != nil {
		return nil, fmt.Errorf("publish authorities: the core's thing name: %w", err)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultPutTimeout
	}
	plane, err := newDataPlane(cfg, OpPutAuthorities)
	if err != nil {
		return nil, fmt.Errorf("publish authorities: %w", err)
	}
	return &Authorities{plane, core}, nil
}

// Close drops idle connections.
func (a *Authorities) Close() { a.plane.Close() }

// A PutError says why the cloud has not taken a certificate. With the verdict
// messages.CloudDenied it has refused it, and would again.
type PutError struct{ Answer messages.CloudAnswer }

// Error says what was wrong, and what to do.
func (e *PutError) Error() string { return e.Answer.Detail }

// Put sends one certificate of an authority, in PEM, once: the last of its chain. Whatever
// else the text holds is refused. The error is a *PutError once the cloud was asked.
func (a *Authorities) Put(ctx context.Context, text []byte) error {
	der, err := parseAuthority(text)
	if err != nil {
		return fmt.Errorf("publish authority: %w", err)
	}
	body, err := json.Marshal(map[string]any{
		"coreDeviceThingName":    a.core,
		"coreDeviceCertificates": []string{string(encodeCertificate(der))},
	})
	if err != nil {
		return fmt.Errorf("publish authority: %w", err)
	}
	route := a.plane.routes[OpPutAuthorities]
	answer, err := a.plane.exchange(ctx, Route{route.Method, route.PathFor(a.core)}, body)
	if err != nil {
		class, advice := wire.Explain(err, a.plane.base.Host, a.plane.timeout)
		return &PutError{wire.Silent(class, "%s", advice)}
	}
	if judged := judgePut(answer.status, answer.header, answer.body); judged.Verdict != messages.CloudConfirmed {
		return &PutError{judged}
	}
	return nil
}

// judgePut is parseAnswer for an answer whose content does not matter: an empty one counts
// as well, if it is the service's.
func judgePut(status int, header http.Header, body []byte) messages.CloudAnswer {
	empty := len(bytes.TrimSpace(body)) == 0
	if status >= 200 && status <= 299 && empty && header.Get("X-Amzn-ErrorType") == "" && header.Get("X-Amzn-RequestId") != "" {
		return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: fmt.Sprintf("taken (HTTP %d)", status), Date: wire.Date(header)}
	}
	return parseAnswer(messages.CloudQuestion{}, status, header, body)
}

// parseAuthority reads one PEM certificate of an authority, and nothing beside it.
func parseAuthority(text []byte) ([]byte, error) {
	if len(text) > authorityBytesMax {
		return nil, fmt.Errorf("%d bytes, at most %d are one certificate", len(text), authorityBytesMax)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("more than one certificate: the last of the chain is published, alone")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !certificate.IsCA {
		return nil, fmt.Errorf("the certificate of %.80q is not an authority's", certificate.Subject)
	}
	return block.Bytes, nil
}

// splitAuthorities reads certificates of authorities in PEM, and nothing beside them, and
// returns them in DER.
func splitAuthorities(text []byte) (certificates [][]byte, err error) {
	if len(text) > authoritiesMax*authorityBytesMax {
		return nil, fmt.Errorf("%d bytes, at most %d are authorities", len(text), authoritiesMax*authorityBytesMax)
	}
	for rest := bytes.TrimSpace(text); len(rest) > 0 || certificates == nil; rest = bytes.TrimSpace(rest) {
		if len(certificates) == authoritiesMax {
			return nil, fmt.Errorf("more than %d authorities", authoritiesMax)
		}
		_, after := pem.Decode(rest)
		der, err := parseAuthority(rest[:len(rest)-len(after)])
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)
		}
		certificates, rest = append(certificates, der), after
	}
	return certificates, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
