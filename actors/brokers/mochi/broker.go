package mochi

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	listenerID = "tls"

	// sysTopicsSeconds is how often mochi counts itself into $SYS; each time stops the
	// world for a moment to read memory statistics.
	sysTopicsSeconds = 24 * 60 * 60

	// farewell is how long a client that is disconnected has to take the packet that
	// says why.
	farewell = 250 * time.Millisecond
)

// A Broker is a running MQTT broker.
type Broker struct {
	cfg        Config
	tls        *tls.Config
	server     *mqtt.Server
	listener   net.Listener
	handshakes chan struct{} // a place for each connection that is not through CONNECT
	quit       chan struct{}
	closeOnce  sync.Once
	closeErr   error
	serving    sync.WaitGroup
	connected  atomic.Int64
	shed       atomic.Uint64
	refused    refusals
	arrivals   arrivals
	turns      turns
	wills      wills
	retained   retained

	mu     sync.Mutex
	closed bool
	conns  map[*socket]struct{} // all open connections
	links  map[*link]struct{}   // those whose CONNECT was accepted
}

// New starts a broker. It listens when New returns.
func New(cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("MQTT broker: %w", err)
	}
	b := &Broker{
		cfg:        cfg,
		handshakes: make(chan struct{}, cfg.Limits.Handshakes),
		quit:       make(chan struct{}),
		turns:      turns{held: make(map[string]chan struct{})},
		conns:      make(map[*socket]struct{}),
		links:      make(map[*link]struct{}),
	}
	b.wills = wills{b: b, waiting: make(map[string]*waitingWill)}
	b.retained = retained{b: b, kept: make(map[string]kept), holders: make(map[string]*holder)}
	b.tls = b.tlsConfig()
	b.server = mqtt.New(&mqtt.Options{
		Capabilities: cfg.Limits.capabilities(),
		// mochi logs whole packets, payloads included; what matters is logged here.
		Logger:                 slog.New(slog.DiscardHandler),
		SysTopicResendInterval: sysTopicsSeconds,
		// Each packet is one write, which conn tells apart; mochi would gather them.
		ClientNetWriteBufferSize: 1,
	})
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("MQTT broker: %w", err)
	}
	if b.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("MQTT broker: %w", err)
	}
	if err := b.server.Serve(); err != nil {
		_ = b.listener.Close()
		return nil, fmt.Errorf("MQTT broker: %w", err)
	}
	b.serving.Go(b.accept)
	return b, nil
}

// capabilities are mochi's names for the limits.
func (l Limits) capabilities() *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClients = math.MaxInt64 // counted here, so that refused ones get their answer
	c.MaximumMessageExpiryInterval = int64(l.MessageExpiry / time.Second)
	c.MaximumClientWritesPending = int32(l.Queued)
	c.MaximumSessionExpiryInterval = uint32(min(l.SessionExpiry/time.Second, math.MaxUint32-1))
	c.MaximumPacketSize = uint32(l.PacketBytes)
	c.ReceiveMaximum = uint16(l.Queued)
	c.MaximumInflight = uint16(l.Queued)
	// mochi judges a publish before it looks up its topic alias: without aliases there is
	// nothing to look up, and clients are told so by CONNACK (MQTT 5, 3.2.2.3.8).
	c.TopicAliasMaximum = 0
	c.MinimumProtocolVersion = 4
	return c
}

// Addr is the address the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// Connected returns how many clients are connected.
func (b *Broker) Connected() int { return int(b.connected.Load()) }

// Shed returns how many connections were closed unheard because too many others were
// still in their handshake.
func (b *Broker) Shed() uint64 { return b.shed.Load() }

// ClientInfo describes a connected client.
type ClientInfo struct {
	ClientID      string
	Thing         messages.ThingName
	CertificateID messages.CertificateID
	DecisionID    string // of the connect, for `gatehouse explain`
	Remote        string
	Version       string // of MQTT: "5" or "3.1.1"
	Since         time.Time
	Subscriptions []string
}

// Clients describes the connected clients, by client id.
func (b *Broker) Clients() []ClientInfo {
	b.mu.Lock()
	links := slices.Collect(maps.Keys(b.links))
	b.mu.Unlock()
	infos := make([]ClientInfo, 0, len(links))
	for _, l := range links {
		infos = append(infos, l.info())
	}
	slices.SortFunc(infos, func(x, y ClientInfo) int { return cmp.Compare(x.ClientID, y.ClientID) })
	return infos
}

// Close stops listening, disconnects all clients (MQTT 5: 0x8B Server shutting down),
// drops the Wills that still wait, and returns when all is over. Sessions at Gatehouse
// are closed through the Client, which the caller closes next.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		close(b.quit)
		b.closeErr = b.listener.Close()
		b.mu.Lock()
		b.closed = true
		links := slices.Collect(maps.Keys(b.links))
		unlinked := maps.Clone(b.conns)
		for _, l := range links {
			delete(unlinked, l.conn.socket)
		}
		for raw := range unlinked {
			_ = raw.Close() // ends a handshake
		}
		b.mu.Unlock()
		for _, l := range links {
			b.serving.Go(func() { b.disconnect(l, packets.ErrServerShuttingDown) })
		}
		b.serving.Wait()
		b.wills.drop()
		if err := b.server.Close(); err != nil && b.closeErr == nil {
			b.closeErr = err
		}
	})
	return b.closeErr
}

// disconnect tells a client why it is disconnected, if it will listen, and ends its
// connection.
func (b *Broker) disconnect(l *link, why packets.Code) {
	l.conn.socket.hurry(farewell)
	if l.established.Load() {
		_ = b.server.DisconnectClient(l.cl, why) // returns why
	}
	l.cl.Stop(why)
}
