package iotmqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// Session is one connection to AWS IoT.
type Session struct {
	l      *Link
	client *paho.Client
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
}

// Context ends with the connection; its cause says why.
func (s *Session) Context() context.Context { return s.ctx }

func (l *Link) connect(parent context.Context, user User) (*Session, error) {
	cfg := &l.cfg
	ctx, cancel := context.WithTimeout(parent, cfg.Timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: l.tls}).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", l.address, err)
	}
	s := &Session{l: l}
	s.ctx, s.cancel = context.WithCancelCause(parent)
	s.client = paho.NewClient(paho.ClientConfig{
		Conn:          packets.NewThreadSafeConn(&guarded{Conn: conn, bytesMax: packetBytesMax}),
		PacketTimeout: cfg.Timeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			user.Receive(s, p.Packet.Topic, p.Packet.Payload)
			return true, nil
		}},
		OnClientError: func(err error) { s.cancel(fmt.Errorf("connection to %s: %w", l.address, err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			s.cancel(fmt.Errorf("%s disconnected with reason %#02x: if again and again, check whether another program uses client id %.128q, and the policy of the core's certificate", l.address, d.ReasonCode, cfg.ClientID))
		},
	})
	packetBytes, receive := uint32(packetBytesMax), uint16(receiveMax)
	answer, err := s.client.Connect(ctx, &paho.Connect{
		ClientID: cfg.ClientID, CleanStart: true, KeepAlive: keepAliveSeconds,
		Properties: &paho.ConnectProperties{MaximumPacketSize: &packetBytes, ReceiveMaximum: &receive},
	})
	if err != nil {
		s.cancel(err)
		if answer != nil {
			return nil, fmt.Errorf("%s refused the connection with reason %#02x: check the policy of the core's certificate (iot:Connect for client/%s)", l.address, answer.ReasonCode, cfg.ClientID)
		}
		return nil, fmt.Errorf("%s took no CONNECT: AWS hangs up when the core's certificate is not active or has no policy for client/%s: %w", l.address, cfg.ClientID, err)
	}
	return s, nil
}

// end closes the connection and waits until nothing of it runs any more.
func (s *Session) end() {
	_ = s.client.Disconnect(&paho.Disconnect{}) // it may be lost already
	s.cancel(nil)
	<-s.client.Done()
}

// Subscribe asks for topic with QoS 1. refused: AWS IoT said no.
func (s *Session) Subscribe(topic string) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.l.cfg.Timeout)
	defer cancel()
	answer, err := s.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
	if answer != nil && len(answer.Reasons) == 1 && answer.Reasons[0] >= 0x80 {
		return true, fmt.Errorf("%s refused with reason %#02x: allow iot:Subscribe and iot:Receive in the policy of the core's certificate", topic, answer.Reasons[0])
	}
	return false, err
}

// Publish sends a message. refused: AWS IoT said no.
func (s *Session) Publish(topic string, qos byte, payload []byte) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.l.cfg.Timeout)
	defer cancel()
	answer, err := s.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: payload})
	return answer != nil && answer.ReasonCode >= 0x80, err
}

// Insist tries until it succeeds; false: the connection has ended. failed hears of each
// failure, and when the next try is.
func (s *Session) Insist(try func() error, failed func(err error, again time.Duration)) bool {
	b := s.l.cfg.Pace.Backoff()
	for {
		err := try()
		if s.ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		wait := b.Next()
		failed(err, wait)
		if !s.l.cfg.Pace.Wait(s.ctx, wait, nil, nil) {
			return false
		}
	}
}
