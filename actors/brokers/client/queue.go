package client

import (
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A task is work for a refresher: fetch the permissions of session, or, if session is
// nil, close the session of token.
type task struct {
	session *Session
	token   messages.Token
	reports *reports // to wait for before the token is closed; may be nil
}

// A queue holds tasks in order. Its owner's mutex guards it, and is wake's.
type queue struct {
	wake      sync.Cond
	waiting   []task
	running   int
	abandoned bool // take no more
}

func (q *queue) add(t task) {
	if q.abandoned {
		return
	}
	q.waiting = append(q.waiting, t)
	q.wake.Signal()
}

// take removes the first task; there must be one.
func (q *queue) take() task {
	t := q.waiting[0]
	q.waiting[0] = task{}
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil // let go of the array
	}
	q.running++
	return t
}

// done says that a task taken has ended.
func (q *queue) done() {
	q.running--
	if q.idle() {
		q.wake.Broadcast()
	}
}

func (q *queue) len() int   { return len(q.waiting) }
func (q *queue) idle() bool { return len(q.waiting) == 0 && q.running == 0 }

// abandon forgets what waits and takes no more.
func (q *queue) abandon() {
	q.waiting, q.abandoned = nil, true
	q.wake.Broadcast()
}

// endings remembers the last sessions that Gatehouse closed, for the moment in which
// the push of a close overtakes the reply that opens the session. The Client's mutex
// guards it.
type endings struct {
	total uint64 // how many there have ever been
	last  [1024]messages.TokenDigest
}

func (e *endings) add(d messages.TokenDigest) {
	e.last[e.total%uint64(len(e.last))] = d
	e.total++
}

// since reports whether d ended after there had been total endings. It is not certain
// when there were more since than are remembered.
func (e *endings) since(total uint64, d messages.TokenDigest) (ended, certain bool) {
	n := e.total - total
	certain = n <= uint64(len(e.last))
	for i := range min(n, uint64(len(e.last))) {
		if e.last[(e.total-1-i)%uint64(len(e.last))] == d {
			return true, true
		}
	}
	return false, certain
}

// parseDigest reads a token digest as pushes spell it.
func parseDigest(s string) (d messages.TokenDigest, err error) {
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("token digest: %d characters, want %d", len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, fmt.Errorf("token digest: %w", err)
	}
	return d, nil
}
