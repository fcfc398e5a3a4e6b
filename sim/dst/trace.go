package dst

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"time"
)

// tracer hashes what happens, in order, and keeps the last lines of it in words if asked to.
type tracer struct {
	hash  hash.Hash
	buf   []byte
	lines []string // the last ones, in a ring
	next  int
	keep  int
	now   time.Duration
	all   func(string) // every line, for tests; nil: none
}

const traceBuffer = 4096

func newTracer(keep int) *tracer {
	return &tracer{hash: sha256.New(), buf: make([]byte, 0, traceBuffer+256), keep: keep}
}

// step begins a step.
func (t *tracer) step(now time.Duration, w what) {
	t.now = now
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(now))
	t.buf = append(t.buf, byte(w))
	t.flush()
}

// text adds something that happened: what it was, and what tells it from others of its kind.
func (t *tracer) text(kind byte, s string) {
	t.buf = append(t.buf, kind)
	if len(s) > traceBuffer/2 {
		t.drain()
		_, _ = t.hash.Write([]byte(s)) // never fails
		return
	}
	t.buf = append(t.buf, s...)
	t.flush()
}

// bytes is text of bytes.
func (t *tracer) bytes(kind byte, b []byte) {
	t.buf = append(t.buf, kind)
	if len(b) > traceBuffer/2 {
		t.drain()
		_, _ = t.hash.Write(b) // never fails
		return
	}
	t.buf = append(t.buf, b...)
	t.flush()
}

// number adds a number.
func (t *tracer) number(kind byte, n uint64) {
	t.buf = append(t.buf, kind)
	t.buf = binary.LittleEndian.AppendUint64(t.buf, n)
	t.flush()
}

func (t *tracer) flush() {
	if len(t.buf) >= traceBuffer {
		t.drain()
	}
}

func (t *tracer) drain() {
	_, _ = t.hash.Write(t.buf) // never fails
	t.buf = t.buf[:0]
}

// telling reports whether lines are kept: who makes one asks first.
func (t *tracer) telling() bool { return t.keep > 0 || t.all != nil }

// say keeps a line for people. It is no part of the hash.
func (t *tracer) say(format string, args ...any) {
	if !t.telling() {
		return
	}
	line := fmt.Sprintf("%14s  ", t.now) + fmt.Sprintf(format, args...)
	if t.all != nil {
		t.all(line)
	}
	if t.keep == 0 {
		return
	}
	if len(t.lines) < t.keep {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % t.keep
}

// last are the lines kept, the oldest first.
func (t *tracer) last() []string {
	return append(append([]string{}, t.lines[t.next:]...), t.lines[:t.next]...)
}

// sum is the hash so far.
func (t *tracer) sum() (sum [32]byte) {
	t.drain()
	t.hash.Sum(sum[:0])
	return sum
}
