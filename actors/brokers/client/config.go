package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Defaults of Config.
const (
	DefaultTimeout     = 2 * time.Second
	DefaultMaxInFlight = 256
	DefaultRefreshers  = 16

	// retryInterval is how soon what failed is tried again: refreshes and closes.
	retryInterval = 500 * time.Millisecond
	// maxUnclosed bounds the closes that wait for Gatehouse to come back. Beyond it the
	// oldest is dropped: Gatehouse ends that session by itself, only later.
	maxUnclosed = 1 << 16
)

// Config says how to reach Gatehouse. Broker is required; either URL or Conn may be
// given, with neither the client connects to the local default of NATS.
type Config struct {
	// Broker is the name under which this broker was added with `gatehouse broker add`.
	Broker messages.BrokerID

	// URL is the NATS server's, several separated by commas.
	URL string
	// Credentials is what `gatehouse broker add` wrote: the text of a NATS credentials
	// file, or of an nkey seed. Empty means none.
	Credentials []byte
	// TLS is used for the connection to NATS if set.
	TLS *tls.Config
	// RetryOnFailedConnect has Connect succeed while NATS is down, and connect when it is
	// there. Until then every answer is Unavailable.
	RetryOnFailedConnect bool
	// Options are added to the connection's options: nats.InProcessServer, for one.
	Options []nats.Option

	// Conn is used instead of connecting if set; the caller closes it after the Client.
	// It must have been made with Options, because of the inbox prefix.
	Conn *nats.Conn
	// Link is used instead of NATS if set: for simulators. It outlives the Client.
	Link Link

	// Timeout bounds each request. A broker's client waits this long at CONNECT when
	// Gatehouse is silent. 2 s by default.
	Timeout time.Duration
	// MaxStale is how long cached permissions serve after the last push; see the package
	// comment. authapi.MaxStale by default, which is also the most.
	MaxStale time.Duration
	// MaxInFlight bounds the requests that wait for an answer at the same time; beyond
	// it an answer is Unavailable at once. 256 by default.
	MaxInFlight int
	// Refreshers is how many sessions fetch their permissions at the same time after a
	// change of policy. 16 by default.
	Refreshers int

	// Now reads the clock; time.Now by default.
	Now func() time.Time
	// AfterFunc, Spawn and Jitter are for simulators, which do everything on one goroutine: f
	// is called after d unless stop comes first; f, which may wait for the Link and for
	// nothing else, is run on its own; a number in [0, 1). None calls f before it returns. By
	// default: the machine's clock, a goroutine, math/rand. What waits otherwise are Ready,
	// Await, Certificates.Ready, and Close while a request is under way; Status says before
	// whether they would.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Spawn     func(f func())
	Jitter    func() float64
	// Logger hears of what an operator should know; silent by default.
	Logger *slog.Logger
}

// withDefaults checks c and fills it up.
func (c Config) withDefaults() (Config, error) {
	broker, err := authapi.ParseBroker(string(c.Broker))
	if err != nil {
		return c, err
	}
	c.Broker = broker
	if c.Conn != nil && c.Conn.Opts.InboxPrefix != authapi.InboxPrefix(broker) {
		return c, fmt.Errorf("the NATS connection has inbox prefix %q, Gatehouse replies to %q only: make it with client.Options(%q, …)",
			c.Conn.Opts.InboxPrefix, authapi.InboxPrefix(broker), broker)
	}
	if c.MaxStale > authapi.MaxStale {
		return c, fmt.Errorf("MaxStale is %v, the protocol's bound is %v", c.MaxStale, authapi.MaxStale)
	}
	c.MaxStale = orDefault(c.MaxStale, authapi.MaxStale)
	c.Timeout = orDefault(c.Timeout, DefaultTimeout)
	c.MaxInFlight = orDefault(c.MaxInFlight, DefaultMaxInFlight)
	c.Refreshers = orDefault(c.Refreshers, DefaultRefreshers)
	if c.URL == "" {
		c.URL = nats.DefaultURL
	}
	if c.Now == nil {
		c.Now = systemClock
	}
	if c.AfterFunc == nil {
		c.AfterFunc = afterFunc
	}
	if c.Spawn == nil {
		c.Spawn = func(f func()) { go f() }
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func orDefault[T int | time.Duration](v, byDefault T) T {
	if v <= 0 {
		return byDefault
	}
	return v
}

// Options are the options a NATS connection of broker needs to speak the protocol. Use
// them to share one connection between a Client and other work.
func Options(broker messages.BrokerID, credentials []byte) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("gatehouse broker " + string(broker)),
		nats.CustomInboxPrefix(authapi.InboxPrefix(broker)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// A request made while disconnected must fail at once instead of waiting in a
		// buffer and being answered when nobody asks any more.
		nats.ReconnectBufSize(-1),
	}
	if len(credentials) == 0 {
		return options, nil
	}
	auth, err := Credentials(credentials)
	if err != nil {
		return nil, err
	}
	return append(options, auth), nil
}

// Credentials reads a NATS credentials file (JWT and seed) or a bare nkey seed. The JWT
// in a file that Gatehouse made is an envelope, which a server that knows the nkey does
// not want to see: its seed is used alone.
func Credentials(text []byte) (nats.Option, error) {
	pair, err := nkeys.ParseDecoratedNKey(text)
	if err != nil {
		return nil, fmt.Errorf("credentials: no nkey seed in them: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return nil, errors.New("credentials: the seed is not a user's: it should begin with SU")
	}
	// ParseDecoratedJWT returns a text without decoration as it is: a seed, here.
	if token, err := nkeys.ParseDecoratedJWT(text); err == nil && strings.HasPrefix(token, "ey") {
		claims, err := jwt.DecodeUserClaims(token)
		if err != nil {
			return nil, fmt.Errorf("credentials: user JWT: %w", err)
		}
		if !slices.Contains(claims.Tags, authapi.CredentialsTag) {
			return nats.UserJWTAndSeed(token, string(seed)), nil
		}
	}
	return nats.Nkey(public, pair.Sign), nil
}
