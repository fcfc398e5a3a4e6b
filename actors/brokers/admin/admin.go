// Package admin carries operators' requests over NATS: gatehouse.v1.admin.<op> for those
// who change things, gatehouse.v1.audit.<op> for those who look. Who may ask what is
// the NATS server's to enforce; bodies are JSON.
package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Handler answers one request. body is JSON, or empty; so is the answer.
type Handler func(ctx context.Context, body []byte) ([]byte, error)

// Handlers are the operations, by name: those of the administrator and those of the
// auditor, which the administrator may ask too.
type Handlers struct {
	Admin map[string]Handler
	Audit map[string]Handler
}

// Limits of the service.
const (
	workers     = 4
	queueMax    = 64
	timeout     = 10 * time.Second
	headerError = "Gatehouse-Error"
)

// Service answers operators. Close ends it.
type Service struct {
	conn     *nats.Conn
	handlers Handlers
	log      *slog.Logger
	subs     []*nats.Subscription
	queue    chan *nats.Msg
	wg       sync.WaitGroup
	cancel   context.CancelFunc
}

// Serve subscribes the service on the daemon's connection. While that is away, the library
// subscribes when it is back.
func Serve(conn *nats.Conn, h Handlers, log *slog.Logger) (*Service, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{conn: conn, handlers: h, log: log, queue: make(chan *nats.Msg, queueMax), cancel: cancel}
	for _, subject := range []string{authapi.SubjectPrefix + "admin.*", authapi.SubjectPrefix + "audit.*"} {
		sub, err := conn.Subscribe(subject, s.accept)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("subscribe %s: %w", subject, err)
		}
		s.subs = append(s.subs, sub)
	}
	for range workers {
		s.wg.Go(func() { s.work(ctx) })
	}
	if !conn.IsConnected() {
		return s, nil
	}
	if err := conn.FlushTimeout(timeout); err != nil && conn.IsConnected() {
		s.Close()
		return nil, fmt.Errorf("subscribe the admin service: %w", err)
	}
	return s, nil
}

func (s *Service) accept(m *nats.Msg) {
	// A reply outside an operator's inbox would have the daemon write where the asker may
	// not (reliability spec R11): no answer.
	if err := authapi.CheckOperatorReply(m.Reply); err != nil {
		s.log.Warn("operator's request dropped", "subject", m.Subject, "error", err)
		return
	}
	select {
	case s.queue <- m:
	default:
		s.answer(m, nil, messages.Refuse(messages.RefusedBusy, "more than %d requests waiting", queueMax))
	}
}

func (s *Service) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.queue:
			s.handle(ctx, m)
		}
	}
}

func (s *Service) handle(ctx context.Context, m *nats.Msg) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("operator's request failed", "subject", m.Subject, "panic", p, "stack", string(debug.Stack()))
			s.answer(m, nil, messages.Refuse(messages.RefusedService, "the request failed inside"))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	handler := s.find(strings.TrimPrefix(m.Subject, authapi.SubjectPrefix))
	if handler == nil {
		s.answer(m, nil, messages.Refuse(messages.RefusedInvalidArguments, "no operation %.80q", m.Subject))
		return
	}
	body, err := handler(ctx, m.Data)
	s.answer(m, body, err)
}

func (s *Service) find(path string) Handler {
	if op, ok := strings.CutPrefix(path, "audit."); ok {
		return s.handlers.Audit[op]
	}
	op := strings.TrimPrefix(path, "admin.")
	if h := s.handlers.Admin[op]; h != nil {
		return h
	}
	return s.handlers.Audit[op] // who may change things may look at them
}

// answer sends body or err. The NATS server lets the daemon answer once, so what is long
// comes in pages: the operation takes "after" and "limit".
func (s *Service) answer(m *nats.Msg, body []byte, err error) {
	if err == nil && len(body) > authapi.MaxMessageBytes {
		err = messages.Refuse(messages.RefusedService, "the answer has %d bytes, more than a message may (%d); ask for fewer", len(body), authapi.MaxMessageBytes)
	}
	reply := nats.NewMsg(m.Reply)
	if reply.Data = body; err != nil {
		reply.Header.Set(headerError, errorName(err))
		reply.Data = []byte(err.Error())
	}
	s.publish(reply)
}

func (s *Service) publish(m *nats.Msg) {
	if err := s.conn.PublishMsg(m); err != nil {
		s.log.Warn("answer to operator not sent", "subject", m.Subject, "error", err)
	}
}

func errorName(err error) string {
	if r, ok := errors.AsType[*messages.Refusal](err); ok {
		return r.Code.String()
	}
	return messages.RefusedService.String()
}

// Close stops answering.
func (s *Service) Close() {
	for _, sub := range s.subs {
		_ = sub.Unsubscribe() // the connection may be gone already
	}
	s.cancel()
	s.wg.Wait()
}

// Client asks a daemon's admin service. Close it.
type Client struct{ conn *nats.Conn }

// Dial connects to a daemon's NATS server with an operator's credentials.
func Dial(url string, name string, credentials []byte, config *tls.Config) (*Client, error) {
	user, err := client.Credentials(credentials)
	if err != nil {
		return nil, err
	}
	options := []nats.Option{
		nats.Name("gatehouse command line"), user,
		nats.CustomInboxPrefix(authapi.InboxPrefix(messages.BrokerID(name))),
		nats.Timeout(2 * time.Second),
	}
	if config != nil {
		options = append(options, nats.Secure(config))
	}
	conn, err := client.DialNATS(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %w", err)
	}
	return &Client{conn: conn}, nil
}

// Ask sends a request and reads its answer into reply, unless reply is nil. Without a deadline
// of ctx's it waits for half a minute: an answer may be lost.
func (c *Client) Ask(ctx context.Context, op string, request, reply any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fmt.Errorf("%s: encode request: %w", op, err)
		}
	}
	answer, err := c.ask(ctx, op, body)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("%s: read answer: %w", op, err)
	}
	return nil
}

// patience is how long a client waits whose caller did not say.
const patience = 30 * time.Second

func (c *Client) ask(ctx context.Context, op string, body []byte) ([]byte, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	m, err := c.conn.RequestWithContext(ctx, authapi.SubjectPrefix+"admin."+op, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errors.New("the daemon does not answer; is it still starting?")
	case err != nil:
		return nil, err
	case m.Header.Get(headerError) != "":
		return nil, errors.New(string(m.Data))
	}
	return m.Data, nil
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close() }
