package shadow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// Bounds and habits of the connection.
const (
	mqttPort         = "8883"
	alpnMQTT         = "x-amzn-mqtt-ca" // at any other port (cloud spec 0)
	packetBytesMax   = payloadBytesMax + 16<<10
	keepAliveSeconds = 60
	receiveMax       = 16

	// optionalPause is how long something that is allowed to fail is not tried after it was
	// refused, or has cost the connection so many times running: AWS may disconnect who is
	// not authorised.
	optionalPause     = time.Hour
	optionalLossesMax = 3
)

// link keeps a connection to AWS IoT, learns the shadow's state at the beginning of each,
// and hears of changes.
type link struct {
	f       *Follower
	address string
	tls     *tls.Config

	rejections, reports optional

	mu      sync.Mutex
	session *session // guarded by mu; nil while there is none
}

func newLink(f *Follower) (*link, error) {
	host, port, err := splitEndpoint(f.cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	l := &link{f: f, address: net.JoinHostPort(host, port), tls: &tls.Config{
		Certificates: []tls.Certificate{f.cfg.Identity}, RootCAs: f.cfg.Roots, ServerName: f.cfg.ServerName, MinVersion: tls.VersionTLS12, Time: f.cfg.Now,
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

// run connects again and again.
func (l *link) run() {
	b := l.f.backoff()
	for {
		news := l.f.newsOf()
		established, lasted, err := l.connection()
		if l.f.ctx.Err() != nil {
			return
		}
		switch {
		case lasted:
			b, news = l.f.backoff(), l.f.newsOf() // its own beginning was news
		case established: // it may be one of two programs that disconnect each other, …
			news = nil // … and its coming and going makes the news
		}
		l.f.set(func(s *State) { s.LinkErr = err })
		wait := b.next()
		l.f.cfg.Log.Debug("AWS IoT is not connected", "error", err, "again_in_ms", wait.Milliseconds())
		if !l.f.wait(l.f.ctx, wait, news, nil) {
			return
		}
	}
}

// connection is one connection from its beginning to its end: whether there was one, for
// longer than the longest wait, and why it ended.
func (l *link) connection() (established, lasted bool, err error) {
	s := &session{l: l, answered: make(chan rejection, 1)}
	if err := s.connect(); err != nil {
		return false, false, err
	}
	defer s.end()
	var long atomic.Bool
	defer l.f.cfg.AfterFunc(l.f.cfg.RetryMax, func() { long.Store(true) })()
	l.use(s)
	defer l.use(nil)
	defer l.become(false)
	s.follow()
	<-s.ctx.Done()
	return true, long.Load(), context.Cause(s.ctx)
}

// use makes s what reports go by.
func (l *link) use(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// become tells of a connection that proved to be of use, or has ended.
func (l *link) become(up bool) {
	if l.f.Up() == up {
		return // it ended before it was told of
	}
	l.f.set(func(state *State) { state.Up = up })
	l.f.cfg.OnLink(up)
	l.f.NetworkChanged(up) // what waits for a network is tried at once
}

// report publishes what was dealt with, if that can be done now. It is best effort.
func (l *link) report(state []byte) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil || !l.reports.due(l.f.cfg.Now()) {
		return
	}
	refused, err := s.publish(l.f.topics.Update, 1, report(state))
	l.judge(&l.reports, refused, err, "the core may not report that it has its addresses, which nothing needs: allow iot:Publish for "+l.f.topics.Update+" to see it in the shadow")
}

// judge keeps the outcome of something optional.
func (l *link) judge(o *optional, refused bool, err error, told string) {
	lost := err != nil && !refused && !errors.Is(err, context.DeadlineExceeded) && l.f.ctx.Err() == nil
	if o.outcome(l.f.cfg.Now(), refused, lost) {
		l.f.cfg.Log.Info(told, "again_in_ms", optionalPause.Milliseconds(), "error", err)
	}
}

// optional is something that AWS may refuse, or answer by hanging up. It is used by one
// goroutine.
type optional struct {
	until  time.Time // not before
	losses int       // of the connection, in a row
}

func (o *optional) due(at time.Time) bool { return !at.Before(o.until) }

// outcome says whether it is not tried for a while.
func (o *optional) outcome(at time.Time, refused, lost bool) (paused bool) {
	if !lost {
		o.losses = 0
	} else {
		o.losses++
	}
	if refused || o.losses >= optionalLossesMax {
		o.until, o.losses = at.Add(optionalPause), 0
		return true
	}
	return false
}

// session is one connection to AWS IoT.
type session struct {
	l        *link
	client   *paho.Client
	ctx      context.Context // ends with the connection
	cancel   context.CancelCauseFunc
	answered chan rejection // to a get; the zero rejection if it was accepted
}

func (s *session) connect() error {
	cfg := &s.l.f.cfg
	ctx, cancel := context.WithTimeout(s.l.f.ctx, cfg.Timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: s.l.tls}).DialContext(ctx, "tcp", s.l.address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.l.address, err)
	}
	s.ctx, s.cancel = context.WithCancelCause(s.l.f.ctx)
	s.client = paho.NewClient(paho.ClientConfig{
		Conn:          packets.NewThreadSafeConn(&guarded{Conn: conn, bytesMax: packetBytesMax}),
		PacketTimeout: cfg.Timeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			s.receive(p.Packet)
			return true, nil
		}},
		OnClientError: func(err error) { s.cancel(fmt.Errorf("connection to %s: %w", s.l.address, err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			s.cancel(fmt.Errorf("%s disconnected with reason %#02x: if again and again, check whether another program uses client id %.128q, and the policy of the core's certificate", s.l.address, d.ReasonCode, cfg.ClientID))
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
			return fmt.Errorf("%s refused the connection with reason %#02x: check the policy of the core's certificate (iot:Connect for client/%s)", s.l.address, answer.ReasonCode, cfg.ClientID)
		}
		return fmt.Errorf("%s took no CONNECT: AWS hangs up when the core's certificate is not active or has no policy for client/%s: %w", s.l.address, cfg.ClientID, err)
	}
	return nil
}

// end closes the connection and waits until nothing of it runs any more.
func (s *session) end() {
	_ = s.client.Disconnect(&paho.Disconnect{}) // it may be lost already
	s.cancel(nil)
	<-s.client.Done()
}

// receive takes a message, on the client's goroutine.
func (s *session) receive(p *paho.Publish) {
	f := s.l.f
	var (
		n   Notice
		err error
	)
	switch p.Topic {
	case f.topics.Accepted:
		if n, err = ParseAccepted(p.Payload); err == nil {
			s.tell(rejection{})
		}
	case f.topics.Delta:
		n, err = ParseDelta(p.Payload)
	case f.topics.Rejected:
		r, err := parseRejected(p.Payload)
		if err != nil {
			f.cfg.Log.Warn("a message about the address shadow was ignored", "topic", p.Topic, "error", err)
			return
		}
		s.tell(r)
		return
	default:
		return
	}
	if err != nil {
		f.cfg.Log.Warn("a message about the address shadow was ignored", "topic", p.Topic, "error", err)
		return
	}
	if f.inbox.offer(n) {
		f.cfg.Log.Debug("the core's connectivity information has changed", "shadow_version", n.ShadowVersion)
	}
}

// tell notes that a get was answered; one answer is as good as another.
func (s *session) tell(r rejection) {
	select {
	case s.answered <- r:
	default:
	}
}

// follow subscribes and gets the state as it is now. It returns when that is done, or the
// connection has ended.
func (s *session) follow() {
	l := s.l
	for _, topic := range []string{l.f.topics.Delta, l.f.topics.Accepted} {
		if !s.insist("cannot subscribe to "+topic, func() error {
			_, err := s.subscribe(topic)
			return err
		}) {
			return
		}
	}
	if l.rejections.due(l.f.cfg.Now()) {
		refused, err := s.subscribe(l.f.topics.Rejected)
		l.judge(&l.rejections, refused, err, "the core may not hear why its get of the address shadow is rejected, which it can do without: allow iot:Subscribe and iot:Receive for "+l.f.topics.Rejected)
	}
	if s.ctx.Err() != nil {
		return
	}
	l.become(true)
	s.insist("the state of the address shadow is not known yet", s.get)
}

// insist tries until it succeeds; false: the connection has ended.
func (s *session) insist(what string, try func() error) bool {
	b := s.l.f.backoff()
	for {
		err := try()
		if s.ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		s.l.f.set(func(state *State) {
			if !state.Up { // a subscription that is refused
				state.LinkErr = err
			}
		})
		wait := b.next()
		s.l.f.cfg.Log.Info(what, "error", err, "again_in_ms", wait.Milliseconds())
		if !s.l.f.wait(s.ctx, wait, nil, nil) {
			return false
		}
	}
}

func (s *session) subscribe(topic string) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.l.f.cfg.Timeout)
	defer cancel()
	answer, err := s.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
	if answer != nil && len(answer.Reasons) == 1 && answer.Reasons[0] >= 0x80 {
		return true, fmt.Errorf("%s refused with reason %#02x: allow iot:Subscribe and iot:Receive in the policy of the core's certificate", topic, answer.Reasons[0])
	}
	return false, err
}

func (s *session) publish(topic string, qos byte, payload []byte) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.l.f.cfg.Timeout)
	defer cancel()
	answer, err := s.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: payload})
	return answer != nil && answer.ReasonCode >= 0x80, err
}

// get asks for the shadow and waits for an answer, whatever it is.
func (s *session) get() error {
	select {
	case <-s.answered: // to an earlier one
	default:
	}
	if _, err := s.publish(s.l.f.topics.Get, 0, []byte("{}")); err != nil {
		return err
	}
	over := make(chan struct{})
	defer s.l.f.cfg.AfterFunc(s.l.f.cfg.Timeout*3/2, func() { close(over) })()
	select {
	case r := <-s.answered:
		if r.temporary() {
			return fmt.Errorf("rejected with code %d: %.200q", r.Code, r.Message)
		}
		return nil
	case <-over:
		return errors.New("no answer: either the shadow does not exist, and the core may not hear so, or AWS IoT does not answer")
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}
