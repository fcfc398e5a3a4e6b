package awsemu

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// alpnMQTT is what a client offers who speaks MQTT at the port of HTTPS (cloud spec 0).
const alpnMQTT = "x-amzn-mqtt-ca"

// Bounds of the MQTT endpoint. They are AWS IoT's, where it has them.
const (
	mqttPacketBytesMax = 144 << 10 // 128 KiB of payload
	mqttInflightMax    = 100       // of a client
	mqttSessionSeconds = 3600
)

// iotEndpoint is AWS IoT's message broker and its shadows, for whoever shows an active
// certificate (cloud spec 5). It outlives its listeners, so that sessions and subscriptions
// survive a time offline.
type iotEndpoint struct {
	e      *Emulator
	server *mqtt.Server
	turns  turns

	connections atomic.Int64 // there ever were

	mu      sync.Mutex
	closed  bool
	open    map[*mqttConn]bool // guarded by mu
	online  context.Context    // ends when the cloud goes away; guarded by mu
	goesOff context.CancelFunc // guarded by mu
}

// mqttConn is a connection with who is at its other end.
type mqttConn struct {
	net.Conn
	certificate messages.CertificateID
	state       tls.ConnectionState
	newcomer    atomic.Bool // is registered by its CONNECT, and then ends by itself
	unwelcome   bool        // is turned away by its CONNECT, in words
	rights      *mqttRights // from CONNECT on; never changed after
	presence    presenceState
	since       time.Time
	ended       chan struct{} // closed at its end
	turn        string        // the client id whose turn it has; empty: none. Its own goroutine's
}

// turns lets one connection of a client id at a time begin or end: mochi cleans up after
// an ended one by client id, and would take the subscriptions of the next.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (t *turns) take(c *mqttConn, id string) {
	for c.turn == "" {
		t.mu.Lock()
		other, held := t.held[id]
		if !held {
			t.held[id], c.turn = make(chan struct{}), id
		}
		t.mu.Unlock()
		if held {
			<-other
		}
	}
}

func (t *turns) end(c *mqttConn) {
	if c.turn == "" {
		return
	}
	t.mu.Lock()
	close(t.held[c.turn])
	delete(t.held, c.turn)
	t.mu.Unlock()
	c.turn = ""
}

func newIoTEndpoint(e *Emulator) (*iotEndpoint, error) {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumPacketSize = mqttPacketBytesMax
	c.MaximumQos = 1
	c.MaximumSessionExpiryInterval = mqttSessionSeconds
	c.ReceiveMaximum, c.MaximumInflight = mqttInflightMax, mqttInflightMax
	c.TopicAliasMaximum = 0 // mochi drops a message whose topic is only an alias
	c.MinimumProtocolVersion = 4
	const aDay = 24 * 60 * 60
	i := &iotEndpoint{e: e, open: map[*mqttConn]bool{}, turns: turns{held: map[string]chan struct{}{}}, server: mqtt.New(&mqtt.Options{
		Capabilities: c, InlineClient: true, SysTopicResendInterval: aDay,
		Logger: slog.New(slog.DiscardHandler), // it would log payloads
	})}
	i.setOnline()
	if err := i.server.AddHook(&iotHook{i: i}, nil); err != nil {
		return nil, err
	}
	if err := i.server.Serve(); err != nil {
		return nil, err
	}
	e.registry.OnMessage(i.publish)
	e.registry.OnChange(func(c Change) {
		if c.Thing == "" && c.Status != StatusActive {
			i.drop(c.Certificate)
		}
	})
	return i, nil
}

// serve takes one connection from its handshake to its end.
func (i *iotEndpoint) serve(h *handshaken) {
	defer func() { _ = h.Close() }()
	if h.portal || len(h.state.PeerCertificates) == 0 {
		return
	}
	conn := &mqttConn{Conn: h, certificate: messages.CertificateIDOf(h.state.PeerCertificates[0].Raw), state: h.state, since: i.e.now(), ended: make(chan struct{})}
	defer close(conn.ended)
	if !i.track(conn) {
		return
	}
	defer i.untrack(conn)
	defer i.turns.end(conn)
	// After track: who is revoked from now on is dropped.
	switch i.e.standingOf(h.state) {
	case turnedAway:
		if !i.e.cfg.ConnackUnauthorized {
			return
		}
		conn.unwelcome = true // and told so
	case newcomer:
		conn.newcomer.Store(true) // a handshake alone registers nobody (cloud spec 4.4)
	}
	defer func() {
		if p := recover(); p != nil { // the library's decoder reads past a truncated packet's end (v2.7.9)
			i.e.cfg.Log.Debug("malformed packet", "remote", h.RemoteAddr().String(), "panic", fmt.Sprint(p))
		}
	}()
	if err := conn.SetDeadline(handshakeDeadline()); err != nil { // until CONNECT
		return
	}
	if err := i.server.EstablishConnection("iot", conn); err != nil {
		i.e.cfg.Log.Debug("MQTT connection ended", "remote", h.RemoteAddr().String(), "error", err)
	}
}

func (i *iotEndpoint) track(c *mqttConn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	i.open[c] = true
	return true
}

func (i *iotEndpoint) untrack(c *mqttConn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.open, c)
}

// drop closes the connections of a certificate, or all of them if it is empty.
func (i *iotEndpoint) drop(certificate messages.CertificateID) {
	i.mu.Lock()
	open := slices.Collect(maps.Keys(i.open))
	i.mu.Unlock()
	for _, c := range open {
		if certificate == "" || c.certificate == certificate && !c.newcomer.Load() {
			c.presence.dropped.Store(true)
			_ = c.Close()
		}
	}
}

// close ends the broker. The listeners are closed already, and with them all connections.
func (i *iotEndpoint) close() {
	i.mu.Lock()
	done := i.closed
	i.closed = true
	i.mu.Unlock()
	if done {
		return
	}
	i.setOffline()
	_ = i.server.Close() // always nil
}

// setOnline and setOffline begin and end a time in which delays are waited for.
func (i *iotEndpoint) setOnline() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.goesOff != nil {
		i.goesOff()
	}
	i.online, i.goesOff = context.WithCancel(context.Background())
}

func (i *iotEndpoint) setOffline() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.goesOff()
}

// publish sends a message to who has subscribed, as the service does, unless a fault is in
// its way.
func (i *iotEndpoint) publish(topic string, payload []byte) {
	effect := i.e.effect(fault.MQTT, fault.Receive)
	i.hold(effect)
	switch f := effect.Outcome; {
	case f == nil:
	case f.Drop || f.Blackhole || f.Status != 0:
		return
	default:
		payload = spoil(payload, f)
	}
	i.say(topic, payload)
}

// say sends a message whatever is in its way.
func (i *iotEndpoint) say(topic string, payload []byte) {
	i.mu.Lock()
	closed := i.closed
	i.mu.Unlock()
	if closed {
		return
	}
	if err := i.server.Publish(topic, payload, false, 1); err != nil {
		i.e.cfg.Log.Debug("publish failed", "topic", topic, "error", err)
	}
}

// inject publishes a message with properties, as a caller over HTTPS.
func (i *iotEndpoint) inject(pk packets.Packet) error {
	i.mu.Lock()
	closed := i.closed
	i.mu.Unlock()
	inline, ok := i.server.Clients.Get(mqtt.InlineClientId)
	if closed || !ok {
		return net.ErrClosed
	}
	return i.server.InjectPacket(inline, pk)
}

// spoil does to a payload what f says.
func spoil(payload []byte, f *fault.Fault) []byte {
	a := &answer{body: bytes.Clone(payload), header: map[string]string{}}
	a.mangle(f.Mangle)
	if f.Truncate {
		a.body = a.body[:len(a.body)/2]
	}
	return a.body
}

// hold waits before something is done.
func (i *iotEndpoint) hold(effect fault.Effect) {
	if effect.Latency <= 0 {
		return
	}
	i.mu.Lock()
	online := i.online
	i.mu.Unlock()
	i.e.cfg.Wait(online, effect.Latency)
}

// PublishMQTT sends a message to who has subscribed to topic at the MQTT endpoint, as only
// the service itself can.
func (e *Emulator) PublishMQTT(topic string, payload []byte) { e.mqtt.publish(topic, payload) }

// iotHook is what mochi calls at each step of a connection, on its goroutine.
type iotHook struct {
	mqtt.HookBase
	i *iotEndpoint
}

var iotProvided = []byte{
	mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnDisconnect, mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed, mqtt.OnPublish, mqtt.OnWill,
}

// ID names the hook.
func (h *iotHook) ID() string { return "aws-iot" }

// Provides tells mochi which methods to call.
func (h *iotHook) Provides(b byte) bool { return slices.Contains(iotProvided, b) }

// strike counts one operation of a client and says what a fault does to it.
func (h *iotHook) strike(op cloudsync.Operation) *Fault {
	h.i.e.count(op)
	effect := h.i.e.effect(fault.MQTT, op)
	h.i.hold(effect)
	return effect.Outcome
}

var errStruck = errors.New("a fault struck")

// OnConnect refuses as AWS does: by hanging up.
func (h *iotHook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	conn, ok := cl.Net.Conn.(*mqttConn)
	if !ok {
		return packets.ErrNotAuthorized
	}
	conn.rights = h.i.e.mqttRights(conn, cl.ID)
	cl.Properties.Props.TopicAliasMaximum = 0 // OnPacketEncode is to know every topic
	switch f := h.strike(fault.Connect); {
	case f == nil:
	case f.Blackhole:
		_ = cl.Net.Conn.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, cl.Net.Conn) // until the client gives up
		return errStruck
	case f.Status != 0:
		code := packets.ErrServerUnavailable
		if f.Status == 401 || f.Status == 403 {
			code = packets.ErrNotAuthorized
		}
		if f.Status == 429 {
			code = packets.ErrQuotaExceeded
		}
		answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code.Code}
		if cl.Properties.ProtocolVersion < 5 {
			answer.ReasonCode = packets.Err3ServerUnavailable.Code
		}
		_ = cl.WritePacket(answer)
		return errStruck
	default:
		return errStruck
	}
	if conn.newcomer.Load() {
		h.i.e.registerNewcomer(conn.state)
		return errors.Join(errNewcomer, h.refuse(cl))
	}
	if conn.unwelcome || len(cl.ID) > clientIDBytesMax || conn.rights.unknown() || !conn.rights.connect(pk) {
		return h.refuse(cl)
	}
	keepAlive(cl)
	h.i.turns.take(conn, cl.ID)
	return nil
}

// OnSessionEstablished lets others of the client id begin: who takes over is known now.
//
// It also gives up flow control by the client's receive maximum. With it mochi (v2.7.9)
// looks for held back messages after each packet, under a read lock that it takes twice
// (Inflight.NextImmediate), and hangs for ever if a message for the client comes between.
func (h *iotHook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0)
	if c, ok := cl.Net.Conn.(*mqttConn); ok {
		h.i.turns.end(c)
		h.tellConnected(cl, c)
	}
}

// OnDisconnect keeps them waiting until mochi has cleaned up.
func (h *iotHook) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	if c, ok := cl.Net.Conn.(*mqttConn); ok {
		h.tellDisconnected(cl, c, err)
		h.i.turns.take(c, cl.ID)
	}
}

// OnConnectAuthenticate lets through what OnConnect did.
func (h *iotHook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck judges which messages a client gets. What it sends OnPacketRead and
// OnSubscribe have judged.
func (h *iotHook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	return topic != refused && (write || cl.Net.Inline || rightsOf(cl).hears(topic))
}

// refused stands for a filter that was refused: no client can send it (MQTT 5, 1.5.4).
const refused = "\x00"

// OnPacketEncode keeps back what MQTT 3.1.1 does not know from a server (3.14), and
// messages that may not be received.
func (h *iotHook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if c, ok := cl.Net.Conn.(*mqttConn); ok && pk.FixedHeader.Type == packets.Disconnect {
		c.presence.said.Store(int32(pk.ReasonCode))
	}
	foreign := pk.FixedHeader.Type == packets.Disconnect && cl.Properties.ProtocolVersion < 5
	if foreign || pk.FixedHeader.Type == packets.Publish && !cl.Net.Inline && !rightsOf(cl).receive(pk.TopicName) {
		pk.Mods.MaxSize = 1 // byte: every packet is longer, and one too long is not sent
	}
	return pk
}

// OnSubscribe refuses filters, or disconnects who asks for them.
func (h *iotHook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if cl.Net.Inline {
		return pk
	}
	rights, f := rightsOf(cl), h.strike(fault.Subscribe)
	pk.Filters = slices.Clone(pk.Filters)
	for n := range pk.Filters {
		allowed := rights.subscribe(pk.Filters[n].Filter)
		if f != nil && f.Status == 0 || !allowed && h.i.e.cfg.DisconnectUnauthorized {
			_ = h.i.server.DisconnectClient(cl, packets.ErrNotAuthorized)
		}
		if f != nil || !allowed {
			pk.Filters[n].Filter = refused
		}
	}
	rights.ask(pk.Filters)
	return pk
}

// OnSubscribed ends what OnSubscribe began.
func (h *iotHook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if !cl.Net.Inline {
		rightsOf(cl).asked()
		h.tellSubscriptions(cl, "subscribed", pk.Filters)
	}
}

// OnPublish takes what is meant for the service.
func (h *iotHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	op, id, shadow := shadowOperation(pk.TopicName)
	f := h.strike(op)
	switch {
	case f != nil && f.Drop:
		cl.Stop(errStruck)
		return pk, packets.ErrRejectPacket
	case f != nil && f.Blackhole, f != nil && !shadow && f.Status != 0:
		return pk, packets.ErrRejectPacket // not even acknowledged
	case isBasicIngest(pk.TopicName): // there are no rules here
		return pk, packets.CodeSuccessIgnore
	case !shadow:
		return pk, nil
	}
	h.i.answerShadow(op, id, pk.Payload, f)
	return pk, packets.CodeSuccessIgnore // acknowledged, and nobody else's
}
