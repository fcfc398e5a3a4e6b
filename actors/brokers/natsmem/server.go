// Package natsmem is as much of NATS as desk, pusher and client need, in memory: subjects
// with wildcards, queue groups, requests, connections that come and go. For tests and for
// the simulator, which decides what becomes of each message (Config.Carry), when time has
// passed (Config.AfterFunc), and how who asks waits (Config.Park): with these three a
// Server starts no goroutine.
//
// It passes the client's suite as a real server does. There are no permissions: whoever
// connects may use every subject.
package natsmem

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// defaultMaxPayload is the embedded server's bound of a message.
const defaultMaxPayload = 68 << 10

// Passage is one message on its way from one connection to another.
type Passage struct {
	From, To string // names of connections; From is "" where the server itself answers
	Subject  string
	Data     []byte // not to be changed
}

// Config shapes a Server. Its zero value works as NATS does, with goroutines.
type Config struct {
	// Carry decides what becomes of a message: it arrives each time deliver is called, which
	// is to be after Carry has returned. What was carried before a connection was lost does
	// not arrive after it. Default: all arrive, in order where sender and subscription are
	// the same.
	Carry func(p Passage, deliver func())
	// AfterFunc calls f after d, unless stop comes first. Default: the machine's clock.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Park returns how one request waits: wait returns when wake has been called, before or
	// after, or soon after ctx is done (a simulator may leave that to Conn.Close). Default: a
	// channel.
	Park func() (wait func(context.Context), wake func())
	// MaxPayload is how many bytes a message may have. Default 68 KiB.
	MaxPayload int
}

// Server is where connections meet. Its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	queues bool // subscriptions do: nobody else puts messages in an order

	mu     sync.Mutex
	down   bool                       // guarded by mu, as all below and all of Conn
	conns  []*Conn                    // in the order in which they were made
	inbox  map[string]*Conn           // by the prefix of their inboxes
	subs   []*subscription            // in the order in which they were made
	routes map[string][]*subscription // of subjects that were seen, while subs stay as they are
	turn   uint64                     // counts choices of a member of a group
	asks   uint64                     // counts requests, of all: who comes back under a name must not get its former answers
}

// routesMax bounds the subjects that are remembered.
const routesMax = 4096

// New returns a server that nobody is connected to.
func New(cfg Config) *Server {
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Park == nil {
		cfg.Park = park
	}
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = defaultMaxPayload
	}
	s := &Server{cfg: cfg, inbox: map[string]*Conn{}, routes: map[string][]*subscription{}}
	if s.queues = cfg.Carry == nil; s.queues {
		s.cfg.Carry = func(_ Passage, deliver func()) { deliver() }
	}
	return s
}

// park waits on a channel.
func park() (wait func(context.Context), wake func()) {
	woken := make(chan struct{})
	return func(ctx context.Context) {
			select {
			case <-woken:
			case <-ctx.Done():
			}
		}, sync.OnceFunc(func() {
			close(woken)
		})
}

// Down takes the server away: all connections are lost, and with them what is on its way.
func (s *Server) Down() { s.set(true) }

// Up brings it back, and all connections.
func (s *Server) Up() { s.set(false) }

func (s *Server) set(down bool) {
	s.mu.Lock()
	s.down = down
	conns := slices.Clone(s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		c.set(down)
	}
}

// subscription is what one connection hears. What it is given waits for its turn unless
// the server's owner carries messages.
type subscription struct {
	conn    *Conn
	subject string
	group   string
	room    int
	hear    nats.MsgHandler

	gone    bool
	waiting []*nats.Msg
	hearing bool
}

// targets are the subscriptions that a message to subject reaches: all that are of no group,
// and one of each group. mu is held.
func (s *Server) targets(subject string) []*subscription {
	all, known := s.routes[subject]
	if !known {
		for _, sub := range s.subs {
			if matches(sub.subject, subject) {
				all = append(all, sub)
			}
		}
		if len(s.routes) >= routesMax {
			clear(s.routes)
		}
		s.routes[subject] = all
	}
	var to []*subscription
	for i, sub := range all {
		if !sub.conn.up {
			continue
		}
		if sub.group == "" {
			to = append(to, sub)
		} else if first(all[:i], sub) {
			to = append(to, s.member(all[i:], sub.group))
		}
	}
	return to
}

// first reports whether none of those before is of the same group and there.
func first(before []*subscription, sub *subscription) bool {
	return !slices.ContainsFunc(before, func(b *subscription) bool { return b.group == sub.group && b.conn.up })
}

// member is one of the group, in turns. mu is held.
func (s *Server) member(all []*subscription, group string) *subscription {
	var there []*subscription
	for _, sub := range all {
		if sub.group == group && sub.conn.up {
			there = append(there, sub)
		}
	}
	s.turn++
	return there[s.turn%uint64(len(there))]
}

// matches reports whether a subscription's subject, with wildcards, covers a plain one.
func matches(pattern, subject string) bool {
	for {
		p, restP, moreP := strings.Cut(pattern, ".")
		if p == ">" && !moreP {
			return true
		}
		t, restT, moreT := strings.Cut(subject, ".")
		if p != "*" && p != t || moreP != moreT {
			return false
		}
		if !moreP {
			return true
		}
		pattern, subject = restP, restT
	}
}
