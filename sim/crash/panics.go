package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Where a handler panics, see order.Panic.
const (
	panicsBefore = "before the append"
	panicsAfter  = "in the reply"
)

// panicMark is what a planted panic says.
const panicMark = "as it was told"

// panicEverywhere is E1: the handler of every command panics, before its events are appended
// and in its reply. That command fails, everybody else goes on, the same command works after
// it, and what was durable is; five panics in ten minutes quarantine one entity.
func panicEverywhere(c *campaign) error {
	for _, where := range []string{panicsBefore, panicsAfter} {
		cfg, err := c.config("panic", true)
		if err != nil {
			return err
		}
		if err := c.panicEach(cfg, where); err != nil {
			return err
		}
	}
	cfg, err := c.config("panic", true)
	if err != nil {
		return err
	}
	return c.panicFive(cfg)
}

func (c *campaign) panicEach(cfg nodeConfig, where string) error {
	var acks []ack
	all := kinds()
	for from := 0; from < len(all) && c.ctx.Err() == nil; from += 4 { // below the five that quarantine core/ca
		l, err := c.begin(cfg)
		if err != nil {
			return err
		}
		defer l.kill()
		for i, kind := range all[from:min(from+4, len(all))] {
			got, err := c.panicOnce(l, kind, from+i+1, where)
			if err != nil {
				c.fail("%s, %s: %v", kind, where, err)
			}
			acks = append(acks, got...)
		}
		live, err := l.ask(order{Op: "digest"}, "digest")
		if err != nil {
			return err
		}
		l.kill()
		if l, err = c.begin(cfg); err != nil {
			return err
		}
		defer l.kill()
		if _, err := c.lookAt(l, acks); err != nil {
			return err
		}
		again, err := l.ask(order{Op: "digest"}, "digest")
		if err != nil || live.Digest != again.Digest {
			return errors.Join(errors.New("after the panics what is decided by is not what the log says"), err)
		}
		l.kill()
	}
	return c.ctx.Err()
}

// panicOnce has one command panic, and looks at the others.
func (c *campaign) panicOnce(l *life, kind messages.Kind, n int, where string) (acks []ack, err error) {
	request := fmt.Sprintf("panic-%d", n)
	c.count(func(r *Row) { r.Faults++ })
	s, err := l.ask(order{Op: "do", Kind: kind, N: n, Request: request, Panic: where}, "done")
	acks = append(acks, s.Acks...)
	switch {
	case err != nil:
		return acks, err
	case where == panicsBefore && (!strings.Contains(s.Error, "panicked") || len(s.Acks) > 0):
		c.count(func(r *Row) { r.Unseen++ })
		return acks, fmt.Errorf("it is answered %q %q, with %d events", s.Reply, s.Error, len(s.Acks))
	case where == panicsAfter && (s.Error != "" || len(s.Acks) == 0):
		c.count(func(r *Row) { r.Unseen++ })
		return acks, fmt.Errorf("its events are lost with the reply: %s", s.Error)
	}
	other, err := l.ask(order{Op: "do", Kind: messages.KindDeviceQuarantined, N: 100_000 + n, Request: "other-" + request}, "done")
	if err != nil || other.Error != "" || len(other.Acks) == 0 {
		c.count(func(r *Row) { r.Unseen++ })
		return acks, errors.Join(fmt.Errorf("another device: %s", other.Error), err)
	}
	acks = append(acks, other.Acks...)
	if where == panicsBefore {
		again, err := l.ask(order{Op: "do", Kind: kind, N: n, Request: request, Again: true}, "done")
		if err != nil || again.Error != "" || len(again.Acks) == 0 {
			c.count(func(r *Row) { r.Unseen++ })
			return acks, errors.Join(fmt.Errorf("the same again: %s", again.Error), err)
		}
		acks = append(acks, again.Acks...)
	}
	c.count(func(r *Row) { r.Seen++ })
	return acks, nil
}

// panicFive: an entity that goes on panicking is refused, and nobody else.
func (c *campaign) panicFive(cfg nodeConfig) error {
	l, err := c.begin(cfg)
	if err != nil {
		return err
	}
	defer l.kill()
	const bad, good = 200_001, 200_002
	tokens := map[int]string{}
	for _, n := range []int{bad, good} {
		s, err := l.ask(order{Op: "do", Kind: messages.KindAttachmentVerified, N: n, Request: fmt.Sprint("in-", n)}, "done")
		if err != nil || s.Error != "" {
			return errors.Join(errors.New(s.Error), err)
		}
		tokens[n] = strings.TrimPrefix(s.Reply, sessionReply)
	}
	for i := range 5 {
		c.count(func(r *Row) { r.Faults++ })
		if _, err := l.ask(order{Op: "do", Kind: messages.KindSessionClosed, N: bad, Request: fmt.Sprint("five-", i), Again: true, Panic: panicsBefore}, "done"); err != nil {
			return err
		}
	}
	s, err := l.ask(order{Op: "authorize", Tokens: []string{tokens[bad], tokens[good]}}, "authorized")
	if err != nil {
		return err
	}
	if s.Allowed[0] || !s.Allowed[1] {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("after five panics the device is allowed %t, another %t", s.Allowed[0], s.Allowed[1])
	}
	c.count(func(r *Row) { r.Seen++ })
	return nil
}

// poison is E2: records that no fold can read, one of each kind, each in a device's stream.
// The start goes on; those devices are refused, and nobody else.
func poison(c *campaign) error {
	cfg, err := c.config("poison", true)
	if err != nil {
		return err
	}
	l, err := c.begin(cfg)
	if err != nil {
		return err
	}
	defer l.kill()
	var acks []ack
	var tokens []string
	all := kinds()
	for i := range 2 * len(all) { // every second device is poisoned
		s, err := l.ask(order{Op: "do", Kind: messages.KindAttachmentVerified, N: i + 1, Request: fmt.Sprint("in-", i)}, "done")
		if err != nil || s.Error != "" {
			return errors.Join(errors.New(s.Error), err)
		}
		acks = append(acks, s.Acks...)
		tokens = append(tokens, strings.TrimPrefix(s.Reply, sessionReply))
		if i%2 == 1 {
			c.count(func(r *Row) { r.Faults++ })
			if err := l.must(order{Op: "poison", Kind: all[i/2], N: i + 1}, "done"); err != nil {
				return err
			}
		}
	}
	for _, when := range []string{"live", "after a restart"} {
		if when != "live" {
			l.kill()
			if l, err = c.begin(cfg); err != nil {
				return fmt.Errorf("the start does not go on: %w", err)
			}
			defer l.kill()
		}
		if _, err := c.lookAt(l, acks); err != nil {
			return err
		}
		if err := c.poisoned(l, tokens, when); err != nil {
			return err
		}
	}
	return nil
}

func (c *campaign) poisoned(l *life, tokens []string, when string) error {
	for i := range tokens {
		s, err := l.ask(order{Op: "do", Kind: messages.KindSessionOpened, N: i + 1, Request: fmt.Sprintf("%s-%d", when, i), Again: true}, "done")
		if err != nil {
			return err
		}
		if i%2 == 1 && when == "live" { // its actor finds out by the conflict
			if s, err = l.ask(order{Op: "do", Kind: messages.KindSessionOpened, N: i + 1, Request: fmt.Sprintf("%s-%d-2", when, i), Again: true}, "done"); err != nil {
				return err
			}
		}
		if in := s.Error == ""; in == (i%2 == 1) {
			c.count(func(r *Row) { r.Unseen++ })
			c.fail("%s: a device whose stream holds a poisoned %s: %t; it gets in: %t %s", when, kinds()[i/2], i%2 == 1, in, s.Error)
			continue
		}
		c.count(func(r *Row) { r.Seen++ })
	}
	s, err := l.ask(order{Op: "authorize", Tokens: tokens}, "authorized")
	if err != nil {
		return err
	}
	for i, allowed := range s.Allowed {
		if allowed == (i%2 == 1) {
			c.count(func(r *Row) { r.Unseen++ })
			c.fail("%s: the token of a device whose stream holds a poisoned %s: %t; it is good: %t", when, kinds()[i/2], i%2 == 1, allowed)
		}
	}
	return nil
}
