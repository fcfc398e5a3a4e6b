package iotmqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Bounds and habits of a connection.
const (
	// PayloadBytesMax bounds a message: AWS IoT's own limit.
	PayloadBytesMax = 128 << 10

	mqttPort         = "8883"
	alpnMQTT         = "x-amzn-mqtt-ca" // at any other port (cloud spec 0)
	packetBytesMax   = PayloadBytesMax + 16<<10
	keepAliveSeconds = 60
	receiveMax       = 16
)

// Config says how AWS IoT is reached, and who does.
type Config struct {
	// Endpoint is the account's IoT data endpoint: HOST or HOST:PORT. The port is 8883 by
	// default; at any other, such as 443, ALPN says that MQTT is spoken.
	Endpoint string
	// ServerName is the name the endpoint's certificate must carry, and the SNI that is
	// sent. Default: the endpoint's host.
	ServerName string
	// Identity is the core's certificate with its key, Roots who may vouch for the endpoint.
	// Required.
	Identity tls.Certificate
	Roots    *x509.CertPool
	// ClientID is the MQTT client id. Required. AWS ends the older of two connections with one.
	ClientID string
	// Pace is between tries. Required.
	Pace Pace
	// Timeout bounds connecting, and one request. Required.
	Timeout time.Duration
	// Now is the time by which the endpoint's certificate is judged. Required.
	Now func() time.Time
	// News returns a channel that is closed when waiting longer makes no sense: the network is
	// back. Required.
	News func() <-chan struct{}
	// Failed hears why there is no connection, and when the next try is. Required.
	Failed func(err error, again time.Duration)
}

// Link keeps a connection to AWS IoT.
type Link struct {
	cfg     Config
	address string
	tls     *tls.Config
}

// New checks cfg. It connects to nothing yet.
func New(cfg Config) (*Link, error) {
	switch {
	case len(cfg.Identity.Certificate) == 0 || cfg.Identity.PrivateKey == nil:
		return nil, errors.New("the core's certificate and key are missing: AWS knows the core by them")
	case cfg.Roots == nil:
		return nil, errors.New("the root certificates are missing: give the file AWS or the emulator published")
	case cfg.ClientID == "":
		return nil, errors.New("the MQTT client id is missing")
	}
	host, port, err := splitEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	l := &Link{cfg: cfg, address: net.JoinHostPort(host, port), tls: &tls.Config{
		Certificates: []tls.Certificate{cfg.Identity}, RootCAs: cfg.Roots, ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12, Time: cfg.Now,
	}}
	if l.tls.ServerName == "" {
		l.tls.ServerName = host
	}
	if port != mqttPort {
		l.tls.NextProtos = []string{alpnMQTT}
	}
	return l, nil
}

func splitEndpoint(endpoint string) (host, port string, err error) {
	u, err := url.Parse("mqtts://" + endpoint)
	if err != nil || strings.Contains(endpoint, "://") || u.Hostname() == "" || u.Host != endpoint || u.User != nil {
		return "", "", fmt.Errorf("IoT data endpoint %.120q: want HOST or HOST:PORT", endpoint)
	}
	if port = u.Port(); port == "" {
		port = mqttPort
	}
	return u.Hostname(), port, nil
}

// A User is who talks over a connection.
type User interface {
	// Receive takes a message, on the connection's goroutine, and must not block.
	Receive(s *Session, topic string, payload []byte)
	// Use is called at the beginning of each connection, after which messages may come. The
	// connection lasts until Use has returned and it has ended by itself, or ctx of Run.
	Use(s *Session)
	// Over is called after the end of each connection that Use was called for.
	Over()
}

// Run connects again and again until ctx ends.
func (l *Link) Run(ctx context.Context, user User) {
	b := l.cfg.Pace.Backoff()
	for {
		news := l.cfg.News()
		established, lasted, err := l.connection(ctx, user)
		if ctx.Err() != nil {
			return
		}
		switch {
		case lasted:
			b, news = l.cfg.Pace.Backoff(), l.cfg.News() // its own beginning was news
		case established: // it may be one of two programs that disconnect each other, …
			news = nil // … and its coming and going makes the news
		}
		wait := b.Next()
		l.cfg.Failed(err, wait)
		if !l.cfg.Pace.Wait(ctx, wait, news, nil) {
			return
		}
	}
}

// connection is one connection from its beginning to its end: whether there was one, for
// longer than the longest wait, and why it ended.
func (l *Link) connection(ctx context.Context, user User) (established, lasted bool, err error) {
	s, err := l.connect(ctx, user)
	if err != nil {
		return false, false, err
	}
	defer s.end()
	var long atomic.Bool
	defer l.cfg.Pace.AfterFunc(l.cfg.Pace.Max, func() { long.Store(true) })()
	defer user.Over()
	user.Use(s)
	<-s.ctx.Done()
	return true, long.Load(), context.Cause(s.ctx)
}
