package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// small are a node's sizes where it is started hundreds of times: everything as in
// production, but smaller.
var small = nodeConfig{Journal: 256 << 10, MemTable: 6 << 20, Ballast: 64 << 10}

func (c *campaign) config(name string, host bool) (nodeConfig, error) {
	cfg := small
	cfg.Host = host
	dir, err := c.temp(name)
	cfg.Dir = filepath.Join(dir, "log")
	return cfg, err
}

// killAtEachPoint is A1: a process dies at each point of an append of each kind of event.
// After the next start everything that was acknowledged is there, nothing is there in part,
// and a request that is repeated has had one effect.
func killAtEachPoint(c *campaign) error {
	type job struct {
		point       string
		host, whole bool
	}
	var jobs []job
	for range c.pick(1, 10) {
		for _, point := range points {
			for _, host := range []bool{false, true} {
				jobs = append(jobs, job{point, host, c.night})
			}
		}
	}
	var repeated sync.Map
	c.each(len(jobs), func(i int) error {
		k := killing{c: c, point: jobs[i].point, repeated: &repeated}
		var err error
		if k.cfg, err = c.config("kill", jobs[i].host); err != nil {
			return err
		}
		defer k.stop()
		for n, kind := range c.chosenKinds() {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			if !jobs[i].whole && (n+i/2+i%2)%2 == 0 { // CI: each point of each kind once, in turn here and there
				continue
			}
			if err := k.once(n+1, kind); err != nil {
				return fmt.Errorf("%s, %s, host %t: %w", kind, k.point, k.cfg.Host, err)
			}
		}
		return nil
	})
	var names []string
	repeated.Range(func(kind, _ any) bool { names = append(names, kind.(messages.Kind).String()); return true })
	slices.Sort(names)
	c.note("%d kinds of events x %d points, through the log alone and through the host's deciders", len(c.chosenKinds()), len(points))
	c.note("a repeated request made a further record, without a second effect on who may do what (a session has a token of its own; the first one's was given to nobody): %s", strings.Join(names, ", "))
	return nil
}

func (c *campaign) chosenKinds() []messages.Kind {
	if c.kinds != nil {
		return c.kinds
	}
	return kinds()
}

// killing is a series of kills at one point in one directory.
type killing struct {
	c     *campaign
	cfg   nodeConfig
	point string
	life  *life
	acks  []ack

	tokens   []handed
	repeated *sync.Map // kinds that a repeated request put on record again
}

// handed is a token that somebody was given.
type handed struct {
	token string
	thing string
	seq   uint64 // the record behind it
}

func (k *killing) stop() {
	if k.life != nil {
		k.life.kill()
	}
}

func (k *killing) start() error {
	if k.life != nil {
		return nil
	}
	var err error
	k.life, err = k.c.begin(k.cfg)
	return err
}

// once has the node die of one event, starts it again, looks at what is left, and repeats
// the request.
func (k *killing) once(n int, kind messages.Kind) error {
	if err := k.start(); err != nil {
		return err
	}
	request := fmt.Sprintf("request-%d", n)
	s, err := k.life.ask(order{Op: "do", Kind: kind, N: n, Request: request, Die: k.point}, "done")
	answered := err == nil
	switch {
	case s.Error != "":
		return errors.New(s.Error)
	case err != nil && !errors.Is(err, errDied):
		return err
	case answered != acked(k.point):
		return fmt.Errorf("answered: %t, want %t", answered, acked(k.point))
	}
	if err := k.life.died(patience, syscall.SIGKILL); err != nil {
		return err
	}
	k.c.count(func(r *Row) { r.Faults++ })
	k.life = nil
	if answered {
		if len(s.Acks) == 0 {
			return errors.New("answered, and nothing was appended for it")
		}
		k.acks = append(k.acks, s.Acks...)
		k.take(s, n)
	}
	if err := k.start(); err != nil {
		k.c.missed(k.acks)
		return fmt.Errorf("start again: %w", err)
	}
	before, err := k.c.lookAt(k.life, k.acks)
	if err != nil {
		return err
	}
	was, err := k.life.ask(order{Op: "digest"}, "digest")
	if err != nil {
		return err
	}
	if answered && was.Digest != s.Digest {
		return errors.New("what is decided by differs from before the kill, when all of it was on record")
	}
	return k.again(n, kind, request, before, was)
}

// again repeats the request, and counts its effects.
func (k *killing) again(n int, kind messages.Kind, request string, before []record, was said) error {
	there := 0
	for _, r := range before {
		if r.Request == request && r.Kind == kind {
			there++
		}
	}
	if want := k.point != pointBefore; want != (there > 0) || there > 1 {
		return fmt.Errorf("%d records of the request after the kill", there)
	}
	s, err := k.life.ask(order{Op: "do", Kind: kind, N: n, Request: request, Again: true}, "done")
	if err != nil {
		return err
	}
	if s.Error != "" && there == 0 {
		return fmt.Errorf("the repeated request is refused: %s", s.Error)
	}
	k.acks = append(k.acks, s.Acks...)
	k.take(s, n)
	after, err := k.life.ask(order{Op: "dump"}, "dump")
	if err != nil {
		return err
	}
	is, err := k.life.ask(order{Op: "digest"}, "digest")
	if err != nil {
		return err
	}
	switch grown := len(after.Records) - len(before); {
	case there == 0 && grown == 0:
		return errors.New("the repeated request has had no effect")
	case there > 0 && !k.cfg.Host && grown != 0, there > 0 && is.Effects != was.Effects:
		k.c.count(func(r *Row) { r.Twice++ })
		return errors.New("the repeated request has had a second effect")
	}
	if there > 0 && len(after.Records) > len(before) {
		k.repeated.Store(kind, true)
	}
	return k.tokensHold(after.Records)
}

// take keeps a token that was handed out.
func (k *killing) take(s said, n int) {
	token, ok := strings.CutPrefix(s.Reply, sessionReply)
	if ok && len(s.Acks) > 0 {
		k.tokens = append(k.tokens, handed{token, fmt.Sprintf("thing-%d", n), s.Acks[len(s.Acks)-1].Seq})
	}
}

// tokensHold asks about every token that was handed out: what the log says was not taken
// away is allowed, all else is denied.
func (k *killing) tokensHold(records []record) error {
	if len(k.tokens) == 0 {
		return nil
	}
	o := order{Op: "authorize"}
	var want []bool
	for _, t := range k.tokens {
		o.Tokens = append(o.Tokens, t.token)
		good := true
		for _, r := range records {
			switch {
			case r.Seq <= t.seq:
			case r.Kind == messages.KindClockReanchored:
				good = false
			case string(r.Stream) == "device/"+t.thing && r.Kind.Class() == messages.Restricts:
				good = false
			}
		}
		want = append(want, good)
	}
	s, err := k.life.ask(o, "authorized")
	if err != nil {
		return err
	}
	for i := range want {
		if s.Allowed[i] != want[i] {
			return fmt.Errorf("the token of %s is allowed: %t, want %t", k.tokens[i].thing, s.Allowed[i], want[i])
		}
	}
	return nil
}

// killAtRandom is the log's part of A2: SIGKILL at a random moment, also while it opens.
func (c *campaign) killAtRandom(part int, host bool, kills int) error {
	cfg, err := c.config("random", host)
	if err != nil {
		return err
	}
	rng := c.chance(1000 + part)
	var acks []ack
	for kill := range kills {
		if c.enough() {
			return c.ctx.Err()
		}
		if kill%4 == 3 { // while it opens and recovers
			l, err := c.spawn(cfg, nil)
			if err != nil {
				return err
			}
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // the moment is the experiment
			l.kill()
			c.count(func(r *Row) { r.Faults++ })
			continue
		}
		l, err := c.begin(cfg)
		if err != nil {
			return fmt.Errorf("kill %d: %w", kill, err)
		}
		if err := l.order(order{Op: "load", N: 2, Bytes: 300, Seed: uint64(part*1000 + kill + 1)}); err != nil {
			return err
		}
		l.await(c.ctx, 1)
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond) // the moment is the experiment
		l.kill()
		c.count(func(r *Row) { r.Faults++ })
		acks = append(acks, l.told()...)
		if kill%3 == 0 || kill == kills-1 {
			if _, err := c.look(cfg, acks); err != nil {
				return fmt.Errorf("kill %d: %w", kill, err)
			}
		}
	}
	return nil
}
