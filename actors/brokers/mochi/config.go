package mochi

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// Config says where to listen and whom to ask. Listen, GetCertificate and Client are
// required.
type Config struct {
	// Listen is the TCP address: "127.0.0.1:8883".
	Listen string
	// GetCertificate returns the server's certificate for each new connection, so that a
	// new one is in use without a restart and without disconnecting anybody.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// MinVersion is the oldest version of TLS: tls.VersionTLS12 by default, or
	// tls.VersionTLS13. Older ones are refused.
	MinVersion uint16
	// Client is the connection to Gatehouse. The caller closes it, after the Broker.
	Client *client.Client

	// DisconnectDenied decides what a denied publish with QoS 1 or 2 does to a client of
	// MQTT 3.1.1, which has no way to be told (3.1.1, section 3.3.5): normally the
	// message is acknowledged and dropped, as Mosquitto does; when true the client is
	// disconnected, as AWS IoT does, and most will come back and try again.
	DisconnectDenied bool

	// Limits bound what clients can cost; zero fields mean the defaults.
	Limits Limits
	// Now reads the clock; time.Now by default. Network deadlines follow the real one.
	Now func() time.Time
	// Logger hears of refusals, kicks and failures; silent by default.
	Logger *slog.Logger
}

// Limits bound what clients can cost.
type Limits struct {
	Clients          int           // connected at the same time: 10,000
	Handshakes       int           // connections that are not through CONNECT yet: 256; more are closed
	ConnectTimeout   time.Duration // from accept to CONNECT: 10 s
	WriteTimeout     time.Duration // a client that takes no bytes for so long is dropped: 10 s
	PacketBytes      int           // 144 KiB: AWS IoT's payload of 128 KiB, its topic and its properties
	ConnectBytes     int           // of a CONNECT packet, Will included: 64 KiB
	TopicBytes       int           // of topics and filters: 1,024
	TopicLevels      int           // of topics and filters: 64
	Subscriptions    int           // per client: 256
	Queued           int           // messages waiting for a client, each way they can: 100, as for AWS IoT
	Retained         int           // retained messages: 10,000
	RetainedByClient int           // of one client: 1,000
	RetainedBytes    int           // of all retained messages: 16 MiB; of one client's: a quarter of it
	KeepAlive        time.Duration // the longest, for MQTT 5 clients, which can be told: 20 min
	SessionExpiry    time.Duration // of a session without a connection: 24 h
	MessageExpiry    time.Duration // of queued and retained messages: 24 h
	WillDelay        time.Duration // the longest: 10 min; the session stays open at Gatehouse for it
	DeliveryWait     time.Duration // how long deliveries wait for new permissions: 1 s
}

// defaults are the default limits.
var defaults = Limits{
	Clients:          10_000,
	Handshakes:       256,
	ConnectTimeout:   10 * time.Second,
	WriteTimeout:     10 * time.Second,
	PacketBytes:      144 << 10,
	ConnectBytes:     64 << 10,
	TopicBytes:       1024,
	TopicLevels:      64,
	Subscriptions:    256,
	Queued:           100,
	Retained:         10_000,
	RetainedByClient: 1_000,
	RetainedBytes:    16 << 20,
	KeepAlive:        20 * time.Minute,
	SessionExpiry:    24 * time.Hour,
	MessageExpiry:    24 * time.Hour,
	WillDelay:        10 * time.Minute,
	DeliveryWait:     time.Second,
}

func (l Limits) withDefaults() Limits {
	or(&l.Clients, defaults.Clients)
	or(&l.Handshakes, defaults.Handshakes)
	or(&l.ConnectTimeout, defaults.ConnectTimeout)
	or(&l.WriteTimeout, defaults.WriteTimeout)
	or(&l.PacketBytes, defaults.PacketBytes)
	or(&l.ConnectBytes, defaults.ConnectBytes)
	or(&l.TopicBytes, defaults.TopicBytes)
	or(&l.TopicLevels, defaults.TopicLevels)
	or(&l.Subscriptions, defaults.Subscriptions)
	or(&l.Queued, defaults.Queued)
	or(&l.Retained, defaults.Retained)
	or(&l.RetainedByClient, defaults.RetainedByClient)
	or(&l.RetainedBytes, defaults.RetainedBytes)
	or(&l.KeepAlive, defaults.KeepAlive)
	or(&l.SessionExpiry, defaults.SessionExpiry)
	or(&l.MessageExpiry, defaults.MessageExpiry)
	or(&l.WillDelay, defaults.WillDelay)
	or(&l.DeliveryWait, defaults.DeliveryWait)
	const longestKeepAlive = 43_690 * time.Second // beyond it mochi's 1.5 × keep alive overflows 16 bits
	l.KeepAlive = min(l.KeepAlive, longestKeepAlive)
	l.Queued = min(l.Queued, 1<<16-1)
	return l
}

func or[T int | time.Duration](v *T, byDefault T) {
	if *v <= 0 {
		*v = byDefault
	}
}

// withDefaults checks c and fills it up.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Listen == "":
		return c, errors.New("no address to listen on")
	case c.GetCertificate == nil:
		return c, errors.New("no GetCertificate: an MQTT broker without TLS cannot tell who connects")
	case c.Client == nil:
		return c, errors.New("no Client to ask")
	}
	c.Limits = c.Limits.withDefaults()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.Now == nil {
		c.Now = systemClock
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
