package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// outboxMax is how many requests of a broker may wait to be sent.
const outboxMax = 1 << 14

// sweepInterval is how exactly time-outs are kept.
const sweepInterval = 5 * time.Millisecond

// A Broker is what a virtual broker connects with.
type Broker struct {
	Name        messages.BrokerID
	Credentials []byte // a .creds file, or an nkey seed
}

// NATSConfig says where a Gatehouse's brokers connect, and as whom.
type NATSConfig struct {
	URL     string
	Brokers []Broker
	Timeout time.Duration // of a request
	TLS     *tls.Config   // if set, the connections use it
}

// NATS carries requests as brokers do: each over a connection of its own. It speaks the
// protocol itself, without the client's cache and bounds: they would hide what is measured.
type NATS struct {
	brokers []*natsBroker
	ended   func(key, reason string)
	policy  atomic.Uint64 // policy-changed pushes that came
	quit    chan struct{}
	loops   sync.WaitGroup
}

// natsBroker is one virtual broker.
type natsBroker struct {
	n        *NATS
	nc       *nats.Conn
	inbox    string // up to the request's number
	subjects [opCount]string
	timeout  time.Duration
	next     atomic.Uint64
	outbox   chan request // what is to be sent; as many fit as may wait for an answer

	mu    sync.Mutex
	calls map[uint64]*call // guarded by mu
	queue []*call          // guarded by mu: the same and answered ones, the oldest first
}

// call is a request that waits for its answer.
type call struct {
	number uint64
	op     Op
	sent   time.Time
	done   func(Answer)
}

// request is a call's message.
type request struct {
	number  uint64
	subject string
	body    []byte
}

// opsOverNATS are the operations of the protocol by which requests are made.
var opsOverNATS = map[Op]authapi.Op{
	Publish: authapi.OpAuthorize, Subscribe: authapi.OpAuthorize, Permissions: authapi.OpPermissions, Verify: authapi.OpVerify,
	Connect: authapi.OpAuthenticate, Stranger: authapi.OpAuthenticate, Imposter: authapi.OpAuthenticate, Disconnect: authapi.OpClose,
}

// DialNATS connects every broker. Close the NATS.
func DialNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("no brokers' credentials")
	}
	n := &NATS{quit: make(chan struct{}), ended: func(string, string) {}}
	for _, b := range cfg.Brokers {
		if err := ctx.Err(); err != nil {
			n.Close()
			return nil, err
		}
		if err := n.dial(b, cfg); err != nil {
			n.Close()
			return nil, fmt.Errorf("broker %s, the %d. of %d: %w", b.Name, len(n.brokers)+1, len(cfg.Brokers), err)
		}
	}
	n.loops.Go(n.sweep)
	return n, nil
}

func (n *NATS) dial(who Broker, cfg NATSConfig) error {
	options, err := client.Options(who.Name, who.Credentials)
	if err != nil {
		return err
	}
	b := &natsBroker{n: n, timeout: cfg.Timeout, calls: map[uint64]*call{}, outbox: make(chan request, outboxMax)}
	for op, name := range opsOverNATS {
		b.subjects[op] = authapi.Subject(who.Name, name)
	}
	if cfg.TLS != nil {
		options = append(options, nats.Secure(cfg.TLS))
	}
	if b.nc, err = client.DialNATS(cfg.URL, options...); err != nil {
		if errors.Is(err, nats.ErrMaxConnectionsExceeded) {
			err = fmt.Errorf("%w; Gatehouse's own NATS server takes 512: say fewer --brokers, or use an external one", err)
		}
		return err
	}
	n.brokers = append(n.brokers, b)
	b.inbox = b.nc.NewInbox() + "."
	answers, err := b.nc.Subscribe(b.inbox+"*", b.answered)
	if err != nil {
		return err
	}
	pushes, err := b.nc.Subscribe(authapi.PushSubjects(who.Name), b.pushed)
	if err != nil {
		return err
	}
	n.loops.Go(b.send)
	return errors.Join(answers.SetPendingLimits(-1, -1), pushes.SetPendingLimits(-1, -1), b.nc.FlushTimeout(5*time.Second))
}

// Listen implements Driver.
func (n *NATS) Listen(ended func(key, reason string)) { n.ended = ended }

// Drop implements Driver: what a broker forgets, Gatehouse does not hear of.
func (n *NATS) Drop(*Session) {}

// Stale implements Driver: Gatehouse itself decides each time.
func (n *NATS) Stale() time.Duration { return 0 }

// Can implements Driver.
func (n *NATS) Can(op Op) bool { return op < Revoke }

// Brokers implements Driver.
func (n *NATS) Brokers() int { return len(n.brokers) }

// PolicyChanges is how many pushes told of another policy.
func (n *NATS) PolicyChanges() uint64 { return n.policy.Load() }

// Close implements Driver.
func (n *NATS) Close() {
	close(n.quit)
	for _, b := range n.brokers {
		b.nc.Close()
	}
	n.loops.Wait()
}

// Ask implements Driver.
func (n *NATS) Ask(q Question, done func(Answer)) {
	b := n.brokers[q.Broker%len(n.brokers)]
	body, err := bodyOf(q)
	if err != nil {
		go done(Answer{Outcome: Failed, At: time.Now(), Note: err.Error()})
		return
	}
	c := &call{number: b.next.Add(1), op: q.Op, sent: time.Now(), done: done}
	b.mu.Lock()
	b.calls[c.number] = c
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	select {
	case b.outbox <- request{c.number, b.subjects[q.Op], body}:
	default:
		b.failed(c.number, "more than can be sent waits to be")
	}
}

// send sends what is to be sent. A NATS server that has too much to do makes its clients
// wait: this one, and not those who ask.
func (b *natsBroker) send() {
	for {
		select {
		case <-b.n.quit:
			return
		case q := <-b.outbox:
			if err := b.nc.PublishRequest(q.subject, b.inbox+strconv.FormatUint(q.number, 36), q.body); err != nil {
				b.failed(q.number, "send: "+err.Error())
			}
		}
	}
}

// failed ends a call that was not sent.
func (b *natsBroker) failed(number uint64, why string) {
	if c := b.take(number); c != nil {
		go c.done(Answer{Outcome: Unavailable, At: time.Now(), Note: why})
	}
}

func bodyOf(q Question) ([]byte, error) {
	switch q.Op {
	case Publish:
		return authapi.AppendAuthorizeRequest(nil, q.Session.token, opPublish, resourcePublish+q.Topic), nil
	case Subscribe:
		return authapi.AppendAuthorizeRequest(nil, q.Session.token, opSubscribe, resourceSubscribe+q.Topic), nil
	case Permissions, Disconnect:
		return authapi.Encode(authapi.TokenOnlyRequest{ClientDeviceAuthToken: q.Session.token})
	case Verify:
		return authapi.Encode(authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: q.Device.base64}})
	default:
		return authapi.Encode(authapi.AuthenticateRequest{ClientID: q.ClientID, CertificatePEM: q.Device.base64})
	}
}

// What is asked of authorize.
const (
	opPublish         = "mqtt:publish"
	opSubscribe       = "mqtt:subscribe"
	resourcePublish   = "mqtt:topic:"
	resourceSubscribe = "mqtt:topicfilter:"
)

// take ends a call; nil: it has ended already.
func (b *natsBroker) take(number uint64) *call {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.calls[number]
	delete(b.calls, number)
	return c
}

func (b *natsBroker) answered(m *nats.Msg) {
	at := time.Now()
	number, err := strconv.ParseUint(m.Subject[len(b.inbox):], 36, 64)
	if err != nil {
		return // nothing that was asked for
	}
	if c := b.take(number); c != nil {
		a := answerOf(c.op, m)
		a.At = at
		c.done(a)
	}
}

// answerOf reads an answer. What cannot be read is no yes.
func answerOf(op Op, m *nats.Msg) Answer {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return Answer{Outcome: Unavailable, Note: "nobody answers: the daemon is not there"}
	}
	if refusal := authapi.ReadError(m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode), m.Data); refusal != nil {
		return refusedWith(refusal)
	}
	switch op {
	case Publish, Subscribe:
		reply, err := authapi.ParseAuthorizeReply(m.Data)
		return decided(reply.IsAuthorized, err)
	case Verify:
		reply, err := authapi.ParseVerifyReply(m.Data)
		return decided(reply.IsValidClientDevice, err)
	case Disconnect:
		_, err := authapi.ParseCloseReply(m.Data)
		return decided(true, err)
	}
	reply, err := authapi.ParseGrantReply(m.Data)
	a := decided(reply.IsConnectAuthorized, err)
	if a.Outcome != Allowed {
		return a
	}
	if a.Permissions = reply.Permissions; reply.PermissionsOmitted {
		a.Permissions = nil
	}
	if op != Permissions {
		token := messages.Token(reply.ClientDeviceAuthToken)
		a.Session = &Session{Key: token.Digest().String(), token: string(token)}
	}
	return a
}

func decided(yes bool, err error) Answer {
	switch {
	case err != nil:
		return Answer{Outcome: Failed, Note: err.Error()}
	case yes:
		return Answer{Outcome: Allowed}
	}
	return Answer{Outcome: Denied}
}

func refusedWith(r *messages.Refusal) Answer {
	a := Answer{RetryAfter: r.RetryAfter, Note: r.Error()}
	switch r.Code {
	case messages.RefusedInvalidCredential:
		a.Outcome = Denied
	case messages.RefusedInvalidToken:
		a.Outcome = Closed
	case messages.RefusedBusy:
		a.Outcome = Busy
	case messages.RefusedNotReady, messages.RefusedPending:
		a.Outcome = Unavailable
	default:
		a.Outcome = Failed
	}
	return a
}

func (b *natsBroker) pushed(m *nats.Msg) {
	_, push, err := authapi.ParsePushSubject(m.Subject)
	if err != nil {
		return
	}
	switch push {
	case authapi.PushSessionClosed:
		if p, err := authapi.ParseSessionClosed(m.Data); err == nil {
			b.n.ended(strings.ToLower(p.TokenDigest), p.Reason)
		}
	case authapi.PushPolicyChanged:
		b.n.policy.Add(1)
	}
}

// sweep ends calls that had no answer in time.
func (n *NATS) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-n.quit:
			return
		case now := <-ticker.C:
			for _, b := range n.brokers {
				for _, c := range b.expired(now) {
					c.done(Answer{Outcome: TimedOut, At: now})
				}
			}
		}
	}
}

// expired takes the calls whose time is up.
func (b *natsBroker) expired(now time.Time) []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	var late []*call
	for len(b.queue) > 0 {
		c := b.queue[0]
		if b.calls[c.number] != nil {
			if now.Sub(c.sent) < b.timeout {
				break
			}
			delete(b.calls, c.number)
			late = append(late, c)
		}
		b.queue[0] = nil // let it be collected
		b.queue = b.queue[1:]
	}
	return late
}
