package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// ClockReading is how this machine's clock stands to the cloud's.
type ClockReading struct {
	Ahead time.Duration // of the cloud's
	// Blind: by this machine's clock the cloud's certificate is not valid, so that nothing
	// else can be asked.
	Blind bool
}

// ClockConfig says whose time is asked.
type ClockConfig struct {
	URL        string // https
	Roots      *x509.CertPool
	ServerName string           // default: the URL's host
	Now        func() time.Time // this machine's clock
	Timeout    time.Duration    // default 10 s
}

// ReadClock asks a server for its time, and for nothing else: the server's certificate is
// verified by the roots and its name, but not by this machine's clock, which may be what is
// wrong. Nothing but the reading may be made of the answer.
func ReadClock(ctx context.Context, cfg ClockConfig) (ClockReading, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	reading := ClockReading{}
	transport := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{
			ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			InsecureSkipVerify: true, // VerifyConnection does it
			VerifyConnection: func(state tls.ConnectionState) error {
				return verifyAnytime(state, cfg, &reading)
			},
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.URL, nil)
	if err != nil {
		return reading, err
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if cfg.ServerName == "" {
		cfg.ServerName = request.URL.Hostname()
	}
	asked := cfg.Now()
	answer, err := client.Do(request)
	if err != nil {
		_, advice := wire.Explain(err, request.URL.Host, cfg.Timeout)
		return reading, errors.New(advice)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 4<<10)
	_ = answer.Body.Close()
	date := wire.Date(answer.Header)
	if date.IsZero() {
		return reading, fmt.Errorf("%s does not tell its time", request.URL.Host)
	}
	reading.Ahead = SkewOf(asked, cfg.Now(), date)
	return reading, nil
}

// verifyAnytime verifies a server by roots and name, at a time at which its certificate is
// valid, and notes whether it is by this machine's clock.
func verifyAnytime(state tls.ConnectionState, cfg ClockConfig, reading *ClockReading) error {
	leaf := state.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	o := x509.VerifyOptions{Roots: cfg.Roots, Intermediates: between, DNSName: cfg.ServerName, CurrentTime: cfg.Now()}
	_, err := leaf.Verify(o)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || invalid.Reason != x509.Expired {
		return err
	}
	reading.Blind = true
	o.CurrentTime = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, err = leaf.Verify(o)
	return err
}

// SkewOf is how far a clock is behind date, which was written, in whole seconds, between asked
// and answered by that clock.
func SkewOf(asked, answered, date time.Time) time.Duration {
	switch begun := asked.Truncate(time.Second); {
	case date.Before(begun):
		return date.Sub(begun)
	case date.After(answered):
		return date.Sub(answered)
	}
	return 0
}
