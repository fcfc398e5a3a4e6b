package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

const stepTimeout = 5 * time.Second // of one of a name's look-up, dialling, and a handshake

// Endpoint is one that the core or an operator asks.
type Endpoint struct {
	Name       string   // for people, such as greengrass
	Address    string   // host:port
	ServerName string   // SNI, and in its certificate; empty: the host
	Protocols  []string // what is offered by ALPN
	Needs      string   // what must be chosen of it; empty: anything, or nothing
	Identity   bool     // the core's certificate is shown
	CA         string   // file of the roots it is verified by; empty: the host's
	Setting    string
	Elsewhere  *Endpoint // where else the same is served: tried if this is not reached
}

// endpoints checks each by itself: name, port, TLS with the configured roots, ALPN.
func (h *Host) endpoints(ctx context.Context) []Result {
	if len(h.Endpoints) == 0 {
		return []Result{unknown("endpoint", "no endpoint is configured")}
	}
	results := make([][]Result, len(h.Endpoints))
	done := make(chan int)
	for i, e := range h.Endpoints {
		go func() {
			results[i] = h.reach(ctx, e)
			done <- i
		}()
	}
	for range h.Endpoints {
		<-done
	}
	return slices.Concat(results...)
}

// reach goes as far as it gets: what comes after a step that failed is not looked at.
func (h *Host) reach(ctx context.Context, e Endpoint) []Result {
	name := "endpoint." + e.Name
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return []Result{bad(Failed, name, "host or host:port", []string{"correct " + e.Setting}, "%s: %v", e.Setting, err)}
	}
	if net.ParseIP(host) == nil {
		looking, cancel := context.WithTimeout(ctx, stepTimeout)
		addresses, err := net.DefaultResolver.LookupHost(looking, host)
		cancel()
		if err != nil || len(addresses) == 0 {
			return []Result{bad(Failed, name, "a name that DNS knows", []string{"check " + e.Setting + " and this machine's DNS: getent hosts " + host}, "the name %s is not found: %v", host, err)}
		}
	}
	dialing, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(dialing, "tcp", e.Address)
	if err != nil {
		return []Result{h.unreached(ctx, name, e, host, port, err)}
	}
	defer func() { _ = raw.Close() }()
	state, err := h.handshake(ctx, raw, e, host)
	if err != nil {
		_, advice := wire.Explain(err, e.Address, stepTimeout)
		return []Result{bad(Failed, name, "TLS by the configured roots, with SNI "+h.sni(e, host), []string{"check cloud.ca, " + e.Setting + " and whether something between intercepts TLS"}, "%s", advice)}
	}
	if e.Needs != "" && state.NegotiatedProtocol != e.Needs {
		return []Result{bad(Failed, name, "ALPN "+e.Needs, []string{"check whether a proxy between ends TLS: ALPN must reach AWS"}, "%s chose %q by ALPN", e.Address, state.NegotiatedProtocol)}
	}
	found := fmt.Sprintf("%s: %s, certificate of %s", e.Address, tls.VersionName(state.Version), issuer(state))
	if state.NegotiatedProtocol != "" {
		found += ", ALPN " + state.NegotiatedProtocol
	}
	list := []Result{ok(name, "%s", found)}
	if c := state.PeerCertificates[0]; c.NotAfter.Sub(h.Now()) < 7*24*time.Hour && c.NotAfter.Sub(c.NotBefore) > endsSoon {
		list = append(list, bad(Warning, name+".certificate", "a week to go", []string{"whoever runs it must renew it"}, "the certificate of %s ends at %s", e.Address, c.NotAfter.UTC().Format(time.RFC3339)))
	}
	return list
}

func (h *Host) unreached(ctx context.Context, name string, e Endpoint, host, port string, err error) Result {
	do := []string{fmt.Sprintf("let this machine reach %s, port %s, TCP: check firewall and route", host, port)}
	if e.Elsewhere != nil {
		other := *e.Elsewhere
		other.Elsewhere = nil
		if list := h.reach(ctx, other); list[0].State == OK {
			do = append(do, fmt.Sprintf("or set %s to %s, which is reached", e.Setting, other.Address))
		}
	}
	_, advice := wire.Explain(err, e.Address, stepTimeout)
	return bad(Failed, name, "TCP port "+port, do, "%s", advice)
}

func (h *Host) sni(e Endpoint, host string) string {
	if e.ServerName != "" {
		return e.ServerName
	}
	return host
}

func (h *Host) handshake(ctx context.Context, raw net.Conn, e Endpoint, host string) (*tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	roots, err := h.Roots(e.CA)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: h.sni(e, host), NextProtos: e.Protocols, Time: h.Now}
	if e.Identity {
		if pair, err := tls.LoadX509KeyPair(h.Certificate, h.Key); err == nil {
			cfg.Certificates = []tls.Certificate{pair}
		}
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	return &state, nil
}

func issuer(state *tls.ConnectionState) string {
	c := state.PeerCertificates[0]
	if len(c.Issuer.Organization) > 0 {
		return strings.Join(c.Issuer.Organization, " ")
	}
	return c.Issuer.CommonName
}

// nats checks where brokers meet the daemon.
func (h *Host) nats(ctx context.Context) []Result {
	c := h.Config.NATS
	if c.URL == "" {
		return []Result{h.embedded(ctx, "nats.reach", c.Listen, "nats.listen", func(s status) string { return s.NATS })}
	}
	var list []Result
	for _, server := range strings.Split(c.URL, ",") {
		server = strings.TrimSpace(server)
		scheme, address, _ := strings.Cut(server, "://")
		if i := strings.LastIndex(address, "@"); i >= 0 {
			address = address[i+1:]
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(address, "4222")
		}
		host, _, _ := net.SplitHostPort(address)
		list = append(list, dial(ctx, "nats.reach", address, "nats.url"))
		if ip := net.ParseIP(host); scheme == "nats" && host != "localhost" && (ip == nil || !ip.IsLoopback()) && c.TLS.CA == "" {
			list = append(list, bad(Failed, "nats.plaintext", "TLS off this machine", []string{"serve it with TLS, and write tls:// in nats.url"}, "%s is not on this machine, and tokens cross the network in the clear", address))
		}
	}
	return list
}

// dial checks that something answers.
func dial(ctx context.Context, name, address, setting string) Result {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		_, advice := wire.Explain(err, address, stepTimeout)
		return bad(Failed, name, "a server that answers", []string{"start it, or correct " + setting}, "%s", advice)
	}
	_ = conn.Close()
	return ok(name, "%s answers", address)
}

// embedded checks a listener of the daemon's own: it answers while the daemon runs, and
// nothing else has its address while it does not.
func (h *Host) embedded(ctx context.Context, name, listen, setting string, of func(status) string) Result {
	s, err := h.Status(ctx)
	if errors.Is(err, ErrStopped) {
		if listen == "" {
			return unknown(name, "the daemon is stopped")
		}
		if r := dial(ctx, name, listen, setting); r.State == OK {
			return bad(Warning, name, "an address that is free", []string{"see what uses it: ss -ltnp; or choose another by " + setting}, "no daemon runs, and something answers at %s: the daemon cannot start beside it", listen)
		}
		return unknown(name, "the daemon is stopped, and %s is free", listen)
	}
	if err != nil {
		return unknown(name, "the daemon did not answer: %v", err)
	}
	address := of(s)
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	if address == "" {
		return unknown(name, "there is none")
	}
	return dial(ctx, name, address, setting)
}

// mqtt checks the embedded broker: it answers, and shows a certificate that ca.pem vouches
// for.
func (h *Host) mqtt(ctx context.Context) []Result {
	s, err := h.Status(ctx)
	if err != nil || s.MQTT == "" {
		if !h.Dev && h.Config.MQTT.Listen == "" {
			return []Result{unknown("mqtt.reach", "there is no embedded MQTT broker (mqtt.listen)")}
		}
		return []Result{h.embedded(ctx, "mqtt.reach", h.Config.MQTT.Listen, "mqtt.listen", func(s status) string { return s.MQTT })}
	}
	text, err := readFile(h.authorities())
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		return []Result{bad(Failed, "mqtt.certificate", "ca.pem, by which devices verify brokers", []string{"gatehouse ca show"}, "%s cannot be used: %v", h.authorities(), err)}
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	address := s.MQTT
	if host, port, err := net.SplitHostPort(address); err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		address = net.JoinHostPort("localhost", port)
	}
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12, Time: h.Now}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		_, advice := wire.Explain(err, address, stepTimeout)
		return []Result{bad(Failed, "mqtt.certificate", "TLS that ca.pem vouches for", []string{"gatehouse ca show", "gatehouse status"}, "%s", advice)}
	}
	defer func() { _ = conn.Close() }()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return []Result{ok("mqtt.certificate", "%s shows a certificate that ca.pem vouches for, until %s", address, leaf.NotAfter.UTC().Format("2006-01-02 15:04Z"))}
}
