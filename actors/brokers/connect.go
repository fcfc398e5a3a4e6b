package brokers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// ConnectConfig says how the daemon reaches an external NATS server. All but TLS is
// required.
type ConnectConfig struct {
	URL         string      // nats:// or tls://, several separated by commas
	Credentials Credentials // the daemon's: made by NewDaemonCredentials or issued by a NATS operator
	TLS         *tls.Config // what to verify the server by; nil uses the system's roots
	Log         *slog.Logger
}

// Connect connects as the daemon to an external NATS server. It keeps trying, also the
// first time: a server that is down is no reason for the daemon not to start, one that
// refuses the daemon is. A server that is not on this machine must speak TLS.
func Connect(cfg ConnectConfig) (*nats.Conn, error) {
	if cfg.Log == nil || cfg.URL == "" || cfg.Credentials.Public == "" {
		return nil, errors.New("connect to NATS: URL, Credentials and Log are required")
	}
	options := []nats.Option{nats.ConnectHandler(func(*nats.Conn) { cfg.Log.Info("connected to NATS") })}
	config, err := cfg.secure()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if config != nil {
		options = append(options, nats.Secure(config))
	}
	nc, err := connect(cfg.URL, cfg.Credentials, daemonName, cfg.Log, options...)
	if err == nil && !nc.IsConnected() {
		cfg.Log.Warn("NATS is not there yet: no broker is answered until it is", "url", client.RedactURLs(cfg.URL))
	}
	return nc, err
}

// secure is the TLS to insist on, or nil if all servers are on this machine and none is
// asked for.
func (cfg ConnectConfig) secure() (*tls.Config, error) {
	remote := false
	for one := range strings.SplitSeq(cfg.URL, ",") {
		local, err := isLocal(strings.TrimSpace(one))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", client.RedactURLs(cfg.URL), err)
		}
		remote = remote || !local
	}
	if !remote && cfg.TLS == nil {
		return nil, nil
	}
	config := &tls.Config{}
	if cfg.TLS != nil {
		config = cfg.TLS.Clone()
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS13)
	return config, nil
}

// isLocal reports whether a NATS URL names this machine.
func isLocal(text string) (bool, error) {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return false, errors.New("want URLs such as nats://127.0.0.1:4222 or tls://nats.example:4222")
	}
	if u.Scheme != "nats" && u.Scheme != "tls" {
		return false, fmt.Errorf("URL with scheme %q, want nats or tls", u.Scheme)
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "nats" && (u.Hostname() == "localhost" || ip.IsLoopback()), nil
}

// connect connects with c, answers inside the inbox of name, and reconnects for ever,
// unless it is refused twice.
func connect(url string, c Credentials, name string, log *slog.Logger, options ...nats.Option) (*nats.Conn, error) {
	user, err := c.option()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	options = append([]nats.Option{
		nats.Name(name), user, nats.CustomInboxPrefix(authapi.InboxPrefix(messages.BrokerID(name))),
		nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connection to NATS is back") }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); errors.Is(err, nats.ErrAuthorization) {
				log.Error("NATS refused the credentials twice: start again once it knows them", "name", name, "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS error", "subject", subject, "error", err)
		}),
	}, options...)
	nc, err := client.KeepDialingNATS(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %w", err)
	}
	return nc, nil
}

// Conn is a connection to a NATS server: what Server.DaemonConn and Connect return.
type Conn = nats.Conn

// Local is the option by which a client of this process connects to s without a socket.
func (s *Server) Local() nats.Option { return nats.InProcessServer(s) }
