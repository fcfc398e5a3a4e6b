package natsmem

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options shape a connection.
type Options struct {
	Name string
	// Inbox is the prefix of the subjects to which answers come. Required for requests.
	Inbox string
	// Buffer keeps what is published while the connection is lost until it is back, as a
	// daemon does. Default: that is an error at once.
	Buffer bool
}

// bufferMax bounds what a connection keeps while it is lost.
const bufferMax = 1 << 16

// Conn is a connection to a Server. It is a brokers.Bus and a client.Link. Its methods are
// safe for concurrent use.
type Conn struct {
	s *Server
	o Options

	up      bool
	life    uint64 // counts losses: what was sent in one does not arrive in the next
	closed  bool
	kept    []*nats.Msg
	asked   map[string]*question // by the subject of the answer
	connect []*func()            // to be called when it is back
}

// question is a request that waits.
type question struct {
	number uint64
	answer *nats.Msg
	err    error
	wake   func()
}

// Connect makes a connection, which is lost if the server is down.
func (s *Server) Connect(o Options) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Conn{s: s, o: o, up: !s.down, asked: map[string]*question{}}
	s.conns = append(s.conns, c)
	if o.Inbox != "" {
		s.inbox[o.Inbox] = c
	}
	return c
}

// Down loses the connection: both ends notice.
func (c *Conn) Down() { c.set(true) }

// Up brings it back, unless the server is down.
func (c *Conn) Up() { c.set(false) }

func (c *Conn) set(down bool) {
	c.s.mu.Lock()
	if c.closed || c.up == !down || !down && c.s.down {
		c.s.mu.Unlock()
		return
	}
	c.up = !down
	if down {
		c.life++
		c.s.mu.Unlock()
		return
	}
	kept, connect := c.kept, slices.Clone(c.connect)
	c.kept = nil
	c.s.mu.Unlock()
	for _, m := range kept {
		c.route(m)
	}
	for _, f := range connect {
		(*f)()
	}
}

// Connected reports whether the connection is there.
func (c *Conn) Connected() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.up && !c.closed
}

// Flush returns at once: the server knows of a subscription when it was made.
func (c *Conn) Flush(context.Context, time.Duration) error { return nil }

// OnConnect has f called each time the connection is back, until stop.
func (c *Conn) OnConnect(f func()) (stop func()) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	p := &f
	c.connect = append(c.connect, p)
	return func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.connect = slices.DeleteFunc(c.connect, func(q *func()) bool { return q == p })
	}
}

// Publish sends body to subject.
func (c *Conn) Publish(subject string, body []byte) error {
	return c.PublishMsg(&nats.Msg{Subject: subject, Data: body})
}

// PublishMsg sends m, which it copies.
func (c *Conn) PublishMsg(m *nats.Msg) error {
	m = &nats.Msg{Subject: m.Subject, Reply: m.Reply, Header: m.Header, Data: slices.Clone(m.Data)}
	c.s.mu.Lock()
	err := c.check(m)
	if err == nil && !c.up {
		if err = nats.ErrReconnectBufExceeded; c.o.Buffer && len(c.kept) < bufferMax {
			c.kept, err = append(c.kept, m), nil
		}
		c.s.mu.Unlock()
		return err
	}
	c.s.mu.Unlock()
	if err == nil {
		c.route(m)
	}
	return err
}

// check says whether m may be sent. mu is held.
func (c *Conn) check(m *nats.Msg) error {
	switch {
	case c.closed:
		return nats.ErrConnectionClosed
	case m.Subject == "" || strings.ContainsAny(m.Subject, " \t\r\n*>"):
		return nats.ErrBadSubject
	case len(m.Data) > c.s.cfg.MaxPayload:
		return nats.ErrMaxPayload
	}
	return nil
}

// route puts m on its ways.
func (c *Conn) route(m *nats.Msg) {
	s := c.s
	s.mu.Lock()
	if to := s.asker(m.Subject); to != nil {
		life := to.life
		s.mu.Unlock()
		s.cfg.Carry(Passage{c.o.Name, to.o.Name, m.Subject, m.Data}, func() { to.answered(life, m, nil) })
		return
	}
	targets, life := s.targets(m.Subject), c.life
	lives := make([]uint64, len(targets))
	for i, sub := range targets {
		lives[i] = sub.conn.life
	}
	s.mu.Unlock()
	if len(targets) == 0 && m.Reply != "" {
		none := &nats.Msg{Subject: m.Reply}
		s.cfg.Carry(Passage{"", c.o.Name, m.Reply, nil}, func() { c.answered(life, none, nats.ErrNoResponders) })
	}
	for i, sub := range targets {
		s.cfg.Carry(Passage{c.o.Name, sub.conn.o.Name, m.Subject, m.Data}, func() { sub.deliver(lives[i], m) })
	}
}

// asker is whose inbox subject is in; nil: nobody's. mu is held.
func (s *Server) asker(subject string) *Conn {
	at := strings.LastIndexByte(subject, '.')
	if at < 0 {
		return nil
	}
	if c := s.inbox[subject[:at]]; c != nil && c.up {
		return c
	}
	return nil
}

// Request sends body to subject and waits for the answer; see client.Link.
func (c *Conn) Request(ctx context.Context, subject string, body []byte, timeout time.Duration) (*nats.Msg, error) {
	wait, wake := c.s.cfg.Park()
	q := &question{wake: wake}
	c.s.mu.Lock()
	c.s.asks++
	q.number = c.s.asks
	reply := c.o.Inbox + "." + strconv.FormatUint(c.s.asks, 10)
	c.asked[reply] = q
	c.s.mu.Unlock()
	if err := c.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: body}); err != nil {
		c.end(reply, nil, err)
	}
	stop := c.s.cfg.AfterFunc(timeout, func() {
		c.end(reply, nil, fmt.Errorf("%w: no answer within %v", context.DeadlineExceeded, timeout))
	})
	wait(ctx)
	stop()
	c.end(reply, nil, ctx.Err())
	return q.answer, q.err
}

// answered takes the answer m to a request, made in a former life or in this.
func (c *Conn) answered(life uint64, m *nats.Msg, err error) {
	c.s.mu.Lock()
	lost := !c.up || c.life != life
	c.s.mu.Unlock()
	switch {
	case lost:
	case err != nil:
		c.end(m.Subject, nil, err)
	default:
		c.end(m.Subject, m, nil)
	}
}

// end ends a request, unless it has ended.
func (c *Conn) end(reply string, m *nats.Msg, err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if q := c.asked[reply]; q != nil {
		delete(c.asked, reply)
		q.answer, q.err = m, err
		q.wake()
	}
}

// Subscribe has hear called for each message to subject; see client.Link.
func (c *Conn) Subscribe(subject, group string, room int, hear nats.MsgHandler) (stop func() error, err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return nil, nats.ErrConnectionClosed
	}
	sub := &subscription{conn: c, subject: subject, group: group, room: room, hear: hear}
	c.s.subs = append(c.s.subs, sub)
	clear(c.s.routes)
	return func() error {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if sub.gone {
			return nats.ErrBadSubscription
		}
		c.s.drop(func(other *subscription) bool { return other == sub })
		return nil
	}, nil
}

// drop ends the subscriptions that fit. mu is held.
func (s *Server) drop(fits func(*subscription) bool) {
	s.subs = slices.DeleteFunc(s.subs, func(sub *subscription) bool {
		sub.gone = sub.gone || fits(sub)
		return sub.gone
	})
	clear(s.routes)
}

// deliver hands m, which was sent in a life of the connection, to who subscribed.
func (sub *subscription) deliver(life uint64, m *nats.Msg) {
	s := sub.conn.s
	s.mu.Lock()
	lost := sub.gone || !sub.conn.up || sub.conn.life != life
	if lost || !s.queues {
		s.mu.Unlock()
		if !lost {
			sub.hear(m)
		}
		return
	}
	defer s.mu.Unlock()
	if sub.room > 0 && len(sub.waiting) >= sub.room {
		return // a slow consumer
	}
	sub.waiting = append(sub.waiting, m)
	if !sub.hearing {
		sub.hearing = true
		go sub.drain()
	}
}

// drain hands on what waits, one after the other.
func (sub *subscription) drain() {
	s := sub.conn.s
	for {
		s.mu.Lock()
		if sub.gone || len(sub.waiting) == 0 {
			sub.waiting, sub.hearing = nil, false
			s.mu.Unlock()
			return
		}
		m := sub.waiting[0]
		sub.waiting = sub.waiting[1:]
		s.mu.Unlock()
		sub.hear(m)
	}
}

// Close ends the connection: its requests fail with nats.ErrConnectionClosed.
func (c *Conn) Close() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return
	}
	c.closed, c.up = true, false
	c.life++
	c.s.drop(func(sub *subscription) bool { return sub.conn == c })
	c.s.conns = slices.DeleteFunc(c.s.conns, func(other *Conn) bool { return other == c })
	if c.s.inbox[c.o.Inbox] == c {
		delete(c.s.inbox, c.o.Inbox)
	}
	for _, q := range slices.SortedFunc(maps.Values(c.asked), func(a, b *question) int { return cmp.Compare(a.number, b.number) }) {
		q.err = nats.ErrConnectionClosed
		q.wake()
	}
	clear(c.asked)
}
