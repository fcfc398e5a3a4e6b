package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// failingCalls are the system calls by which a log is written and opened.
var failingCalls = []string{"pwrite64", "fdatasync", "fsync", "msync", "renameat", "ftruncate", "openat", "mmap", "fallocate"}

// An injection has one or more calls fail.
type injection struct {
	call, err string
	n         int
	ever      bool // from the n-th on; else the n-th alone
	fresh     bool // on a log that is being made
}

func (i injection) String() string {
	from := ""
	if i.ever {
		from = "+"
	}
	return fmt.Sprintf("%s=%s, call %d%s of a thread, a new log: %t", i.call, i.err, i.n, from, i.fresh)
}

// strace is the command that runs a program so. (Calls are counted for each thread.)
func (i injection) strace(trace string) []string {
	when := strconv.Itoa(i.n)
	if i.ever {
		when += "+"
	}
	return []string{
		"strace", "-f", "-q", "-y", "-ttt", "-s", "16", "-o", trace, "--seccomp-bpf",
		"-e", "trace=write," + i.call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%s", i.call, i.err, when),
	}
}

// failingIO is A6: each call by which the log works fails, the n-th, for n = 1, 2, 3 …, until
// none is left to fail, once and from then on.
func failingIO(c *campaign) error {
	images, err := c.images(false, 60)
	if err != nil {
		return err
	}
	var lists [][]injection // each is gone through until nothing fires any more
	for k, call := range failingCalls {
		for e, errno := range []string{"EIO", "ENOSPC"} {
			for m, ever := range []bool{false, true} {
				for f, fresh := range []bool{false, true} {
					if !c.night && (k+e+m+f)%4 != 0 {
						continue
					}
					var list []injection
					for n := 1; n <= c.pick(30, 60); n += c.pick(1+n/2, 1) {
						list = append(list, injection{call, errno, n, ever, fresh})
					}
					lists = append(lists, list)
				}
			}
		}
	}
	var mu sync.Mutex
	ended := map[string]int{}
	c.each(len(lists), func(i int) error {
		for _, in := range lists[i] {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			how, fired, err := c.inject(images[(i+in.n)%2], in)
			if err != nil {
				return fmt.Errorf("%s: %w", in, err)
			}
			if !fired {
				break
			}
			mu.Lock()
			ended[how]++
			mu.Unlock()
		}
		return nil
	})
	c.note("how the processes ended: %v", ended)
	if c.ctx.Err() == nil && c.bug == "" {
		return c.failingDaemon()
	}
	return c.ctx.Err()
}

var (
	injectedLine = regexp.MustCompile(`^(\d+) +([\d.]+) .*\(INJECTED`)
	exitedLine   = regexp.MustCompile(`^(\d+) +([\d.]+) \+\+\+ (exited|killed)`)
	ackedLine    = regexp.MustCompile(`^(\d+) +([\d.]+) write\(1<.*"a \d+ `)
)

// trace is what strace saw.
type trace struct {
	fired       bool
	failed      float64 // when a call about the journal failed first; 0: none
	first, last float64 // first failure in the log's directory, end of the process
	ackedAfter  bool    // an acknowledgement after failed
}

// late reports whether the process ended more than a second after what it had to end for.
func (t trace) late() bool { return t.first != 0 && t.last-t.first > 1 || t.last == 0 }

func readTrace(path string) (t trace, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return t, err
	}
	at := func(m []string) float64 { f, _ := strconv.ParseFloat(m[2], 64); return f }
	begun := map[string]string{} // by thread: the call that it is in, while another's line comes between
	for line := range strings.Lines(string(b)) {
		thread, _, _ := strings.Cut(line, " ")
		if strings.Contains(line, "<unfinished ...>") {
			begun[thread] = line
		} else if strings.Contains(line, " resumed>") {
			line = strings.TrimSuffix(line, "\n") + " " + begun[thread]
		}
		switch {
		case injectedLine.MatchString(line):
			when := at(injectedLine.FindStringSubmatch(line))
			t.fired = true
			if t.first == 0 && (strings.Contains(line, "/log/") || strings.Contains(line, "msync")) {
				t.first = when
			}
			if t.failed == 0 && strings.Contains(line, "/journal.") && (strings.Contains(line, "fdatasync") || strings.Contains(line, "pwrite64")) {
				t.failed = when
			}
		case exitedLine.MatchString(line):
			t.last = at(exitedLine.FindStringSubmatch(line))
		case t.failed != 0 && ackedLine.MatchString(line):
			t.ackedAfter = true
		}
	}
	return t, nil
}

// inject runs a node whose calls fail. It refuses to start, ends with 21 within a second of
// the failure, or takes no notice because nothing rested on the call; nothing is acknowledged
// that rests on it; and the next start finds everything.
func (c *campaign) inject(im image, in injection) (how string, fired bool, err error) {
	cfg, remove, err := im.fresh(c)
	if err != nil {
		return "", false, err
	}
	defer remove()
	acks := im.acks
	if in.fresh {
		acks = nil
		if err := os.RemoveAll(cfg.Dir); err != nil {
			return "", false, err
		}
	}
	file := filepath.Join(filepath.Dir(cfg.Dir), "trace")
	l, err := c.begin(cfg, in.strace(file)...)
	if l == nil {
		return "", false, err
	}
	defer l.kill()
	if err == nil {
		err = l.must(order{Op: "load", N: 1, Bytes: 300, Stop: 24, Seed: 5}, "loaded")
		if err == nil {
			time.Sleep(300 * time.Millisecond) // Badger is fed 200 ms after the last append
			_, _ = l.ask(order{Op: "snapshots"}, "snapshots")
			_ = l.end() // its outcome is in the exit code
		}
	}
	select {
	case <-l.ended:
	case <-time.After(3 * time.Second):
		l.kill()
		c.count(func(r *Row) { r.Unseen++ })
		return "", true, errors.New("the process goes on after the failure")
	}
	t, err := readTrace(file)
	if err != nil || !t.fired {
		return "", false, err
	}
	c.count(func(r *Row) { r.Faults++ })
	if how, err = c.judgeInjection(in, l, t); err != nil {
		return how, true, err
	}
	c.count(func(r *Row) { r.Seen++ })
	_, err = c.look(cfg, append(acks[:len(acks):len(acks)], l.told()...))
	return how, true, err
}

func (c *campaign) judgeInjection(in injection, l *life, t trace) (how string, err error) {
	unseen := func(format string, args ...any) error {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf(format, args...)
	}
	code := l.code()
	switch {
	case t.ackedAfter:
		return "", unseen("an append was acknowledged after the journal's call had failed")
	case code == exitAppend && t.late():
		return "", unseen("it ended %.1f s after the failure", t.last-t.first)
	case code == exitAppend:
		return "exit code 21", nil
	case code == 0 && t.failed != 0:
		return "", unseen("a call about the journal failed, and the process ended in order")
	case code == 0:
		return "in order: nothing rested on the call", nil
	case code == exitFailed || code == exitFull || code == exitCorrupt:
		return "refused to start, or to end in order", nil
	case !l.wasReady && (in.call == "mmap" || in.call == "openat"): // the loader, or the Go runtime, comes first
		return "refused to start, by loader or runtime", nil
	case code == 2 && in.call == "mmap": // the Go runtime gets no memory, or Badger no table
		return "no memory: the runtime ended it", nil
	}
	return "", unseen("exit code %d: %s", code, l.errors.String())
}

// failingDaemon has the syncs of the whole daemon fail while clients are at work.
func (c *campaign) failingDaemon() error {
	n := c.pick(2, 20)
	c.each(n, func(i int) error {
		dir, err := c.temp("daemon")
		if err != nil {
			return err
		}
		first, err := c.startDaemon(dir)
		if err != nil {
			return err
		}
		defer first.kill()
		if err := first.await(c); err != nil {
			return err
		}
		first.kill()
		in := injection{call: "fdatasync", err: "EIO", n: 4 + 9*i, ever: true}
		file := filepath.Join(dir, "trace")
		d, err := c.startDaemon(dir, in.strace(file)...)
		if err != nil {
			return err
		}
		defer d.kill()
		w := newWorldly()
		if err := d.await(c); err == nil {
			ctx, stop := context.WithCancel(c.ctx)
			go func() { <-d.ended; stop() }()
			worked := make(chan struct{})
			go func() { defer close(worked); d.work(ctx, w, uint64(i)) }()
			select {
			case <-d.ended:
			case <-time.After(patience):
				d.kill()
				stop()
			}
			<-worked
			stop()
		}
		code := d.code()
		t, err := readTrace(file)
		if err != nil || !t.fired {
			return errors.Join(errors.New("no call failed"), err)
		}
		c.count(func(r *Row) { r.Faults++ })
		refused := code == exitFailed && d.took == 0
		if late := t.last-t.first > 2; !refused && (code != exitAppend || late) { // it ends in order, which takes its time under strace
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("the daemon, %s: exit code %d after %.1f s: %s", in, code, t.last-t.first, d.errors.String())
		}
		c.count(func(r *Row) { r.Seen++ })
		return c.lastLook(dir, w)
	})
	return c.ctx.Err()
}
