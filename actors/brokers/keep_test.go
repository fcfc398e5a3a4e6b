package brokers_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// client connects as a broker does that uses the package.
func (p *post) client(name messages.BrokerID) *client.Client {
	p.t.Helper()
	c, err := client.Connect(p.t.Context(), client.Config{Broker: name, URL: p.server.ClientURL(), Credentials: p.users[string(name)].File()})
	must(p.t, err)
	p.t.Cleanup(func() { must(p.t, c.Close()) })
	return c
}

func (p *post) keep(c *client.Client, cfg client.CertificatesConfig) *client.Certificates {
	p.t.Helper()
	s, err := c.Certificates(cfg)
	must(p.t, err)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	must(p.t, s.Ready(ctx))
	return s
}

// after does something and waits until another certificate, or another bundle, is current.
func (p *post) after(s *client.Certificates, do func() error) *client.Certificate {
	p.t.Helper()
	changed, late := s.Changed(), time.After(patience)
	must(p.t, do())
	for {
		select {
		case <-changed:
			return s.Current()
		case <-late:
			p.t.Fatal("nothing has changed")
		case <-time.After(patience / 100):
			p.clock.Advance(time.Second) // a look that was under way has set its next from now
		}
	}
}

// echo serves lines over TLS.
func echo(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// device dials as a device does that trusts bundle, and returns the serial number it saw.
func (p *post) device(addr string, bundle []byte, certificate tls.Certificate) (net.Conn, string) {
	p.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	conn, err := tls.Dial("tcp", addr, &tls.Config{
		RootCAs: roots, ServerName: "gate.example", Time: p.clock.Wall, Certificates: []tls.Certificate{certificate},
	})
	must(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn, fmt.Sprintf("%040x", conn.ConnectionState().PeerCertificates[0].SerialNumber)
}

func said(t *testing.T, conn net.Conn, r *bufio.Reader, line string) {
	t.Helper()
	_, err := fmt.Fprintln(conn, line)
	must(t, err)
	got, err := r.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != line {
		t.Fatalf("an old connection: %q, %v", got, err)
	}
}

// TestServerKeepsItsConnections: through rotations, a change of addresses and of the authority
// a server's new connections see the new certificate at once, and verify; an old one stays.
func TestServerKeepsItsConnections(t *testing.T) {
	p := newPost(t, "a")
	s := p.keep(p.client("a"), client.CertificatesConfig{})
	device := clienttest.Certificate(t, "device")
	addr := echo(t, s.ServerTLS())
	old, serial := p.device(addr, s.Current().TrustPEM, device)
	reader := bufio.NewReader(old)
	if serial != s.Current().Serial {
		t.Errorf("shown %s, want %s", serial, s.Current().Serial)
	}
	p.delivered(serial)
	rotate := func() error { return p.authority.Rotate(t.Context(), "test") }
	moved := func() error {
		return p.authority.Hosts(t.Context(), "configuration", []string{"gate.example", "10.1.2.3"})
	}
	for i, do := range []func() error{rotate, rotate, moved, rotate} {
		next := p.after(s, do)
		_, shown := p.device(addr, next.TrustPEM, device)
		if shown != next.Serial || shown == serial {
			t.Errorf("%d: shown %s, current %s, before %s", i, shown, next.Serial, serial)
		}
		serial = shown
		p.delivered(serial)
		said(t, old, reader, fmt.Sprint("hello ", i))
	}
	before := s.Current().TrustPEM
	both := p.after(s, func() error { return p.authority.Replace(t.Context(), "test") })
	if both.Serial != serial || len(both.TrustPEM) <= len(before) {
		t.Error("the second authority to trust did not come")
	}
	must(t, p.authority.Announced(t.Context(), "test"))
	p.clock.Advance(300 * time.Second)
	p.delivered(p.after(s, rotate).Serial) // who says so is a subscriber for ten more minutes
	next := p.after(s, func() error { p.clock.Advance(301 * time.Second); return nil })
	p.device(addr, both.TrustPEM, device) // trusts what it heard before the new one issued
	p.delivered(next.Serial)
	said(t, old, reader, "still here")

	nobody := &tls.Config{InsecureSkipVerify: true}
	if conn, err := tls.Dial("tcp", addr, nobody); err == nil {
		if _, err = conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a client without a certificate: %v", err)
		}
		_ = conn.Close()
	}
}

// TestClientHealsLostPushes: by the gap that the next heartbeat shows, or by asking again.
func TestClientHealsLostPushes(t *testing.T) {
	for name, beat := range map[string]bool{"heartbeat": true, "asking again": false} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, "a")
			if !beat {
				p.lease = 5 * time.Second
				p.restart()
			}
			s := p.keep(p.client("a"), client.CertificatesConfig{})
			p.delivered(s.Current().Serial)
			p.pusher.Beat()
			p.deaf.Store(true)
			next := p.after(s, func() error {
				err := p.authority.Rotate(t.Context(), "test")
				p.deaf.Store(false)
				if beat {
					p.pusher.Beat()
				}
				return err
			})
			p.delivered(next.Serial)
			if n := p.courier.Counts().Pushed; n != 1 {
				t.Errorf("%d pushes, want the one that was lost", n)
			}
		})
	}
}

// TestClientAfterARestart: of the daemon, which it hears by the new epoch; of NATS; of itself.
func TestClientAfterARestart(t *testing.T) {
	p := newPost(t, "a")
	key := newKey(t)
	c := p.client("a")
	s := p.keep(c, client.CertificatesConfig{Key: key})
	first := s.Current().Serial
	p.pusher.Beat()
	must(t, c.Ready(t.Context()))
	p.restart()
	p.pusher.Beat()
	p.eventually("it subscribes again", func() bool { return p.courier.Counts().Subscribed == 1 })
	if s.Current().Serial != first || p.kinds(messages.KindCertificateIssued) != 1 {
		t.Error("another certificate after the daemon's restart")
	}
	second := p.after(s, func() error { return p.authority.Rotate(t.Context(), "test") }).Serial
	p.delivered(second)
	s.Close()
	if s.Current() == nil {
		t.Error("the certificate is gone with the keeper")
	}
	again := p.keep(c, client.CertificatesConfig{Key: key})
	if again.Current().Serial != second {
		t.Error("another certificate though the key is the same")
	}
	if _, err := c.Certificates(client.CertificatesConfig{}); err == nil {
		t.Error("two keep certificates of one type")
	}
}

// TestClientWaitsForTheFirst: with the reason why there is none yet.
func TestClientWaitsForTheFirst(t *testing.T) {
	p := newPost(t, "a")
	p.desk.SetReady(false)
	c := p.client("a")
	s, err := c.Certificates(client.CertificatesConfig{})
	must(t, err)
	if _, err := s.GetCertificate(nil); err == nil || s.Current() != nil {
		t.Error("there is a certificate before the first")
	}
	p.eventually("the question was answered", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.Ready(ctx)
		return errors.Is(err, context.Canceled) && strings.Contains(err.Error(), "NotReady")
	})
	p.desk.SetReady(true)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, s.Ready(ctx))
	denied, err := c.Certificates(client.CertificatesConfig{Type: authapi.CertificateClient})
	must(t, err)
	p.eventually("CLIENT is refused", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return strings.Contains(denied.Ready(ctx).Error(), "Unauthorized")
	})
	must(t, c.Close())
	if err := denied.Ready(t.Context()); err == nil {
		t.Error("ready after the end")
	}
	if _, err := c.Certificates(client.CertificatesConfig{}); err == nil {
		t.Error("a closed client keeps certificates")
	}
}

// TestInstalledBeforeAcknowledged: what could not be put to work is not current, is not on
// record as delivered, and is tried again.
func TestInstalledBeforeAcknowledged(t *testing.T) {
	p := newPost(t, "a")
	var fails atomic.Bool
	tries := make(chan string, 64)
	s := p.keep(p.client("a"), client.CertificatesConfig{Install: func(_ context.Context, c *client.Certificate) error {
		tries <- c.Serial
		if fails.Load() {
			return errors.New("disk full")
		}
		return nil
	}})
	first := <-tries
	p.delivered(first)
	fails.Store(true)
	must(t, p.authority.Rotate(t.Context(), "test"))
	second := <-tries
	if again := <-tries; again != second {
		t.Errorf("tried %s, then %s", second, again)
	}
	if s.Current().Serial != first || p.kinds(messages.KindCertificateDelivered) != 1 {
		t.Error("delivered though it could not be installed")
	}
	fails.Store(false)
	p.delivered(second)
	if s.Current().Serial != second {
		t.Error("acknowledged before it was current")
	}
}
