package client

import (
	"container/list"
	"encoding/hex"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A task is work for a refresher: fetch the permissions of session, or, if session is
// nil, close the session of token.
type task struct {
	session *Session
	token   messages.Token
}

// A queue holds tasks in order. Its owner's mutex guards it.
type queue struct {
	waiting   []task
	running   int
	coming    int           // announced and not added yet
	abandoned bool          // take no more
	idled     chan struct{} // closed when it is idle or abandoned; nil while nobody waits for that
}

func (q *queue) add(t task) {
	if !q.abandoned {
		q.waiting = append(q.waiting, t)
	}
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
	q.tell()
}

func (q *queue) len() int { return len(q.waiting) }

// whenIdle returns what is closed when nothing waits, runs or is coming.
func (q *queue) whenIdle() <-chan struct{} {
	q.idled = make(chan struct{})
	idled := q.idled
	q.tell()
	return idled
}

func (q *queue) tell() {
	if q.idled != nil && len(q.waiting)+q.running+q.coming == 0 {
		close(q.idled)
		q.idled = nil
	}
}

// abandon forgets what waits and takes no more.
func (q *queue) abandon() { q.waiting, q.abandoned = nil, true }

// sessions are open ones, in the order in which they were opened, so that all that is done
// for each of them is done in that order.
type sessions struct {
	places  map[messages.TokenDigest]*list.Element
	inOrder *list.List // of *Session
}

func newSessions() sessions {
	return sessions{places: make(map[messages.TokenDigest]*list.Element), inOrder: list.New()}
}

func (l *sessions) len() int { return len(l.places) }

// of returns the session of d; nil if there is none.
func (l *sessions) of(d messages.TokenDigest) *Session {
	if at := l.places[d]; at != nil {
		return at.Value.(*Session)
	}
	return nil
}

func (l *sessions) add(s *Session) { l.places[s.digest] = l.inOrder.PushBack(s) }

func (l *sessions) remove(s *Session) {
	if at := l.places[s.digest]; at != nil && at.Value == s {
		l.inOrder.Remove(at)
		delete(l.places, s.digest)
	}
}

func (l *sessions) list() []*Session {
	all := make([]*Session, 0, len(l.places))
	for at := l.inOrder.Front(); at != nil; at = at.Next() {
		all = append(all, at.Value.(*Session))
	}
	return all
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
