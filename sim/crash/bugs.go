package main

import (
	"errors"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bugs that a node can be started with, for the tests which show that the campaign finds
// them: one for each way of finding something.
const (
	bugAckFirst   = "ack before append"       // A1, A3: acknowledged events are lost
	bugForgetsIDs = "request ids forgotten"   // A1: a request has two effects
	bugGoesOn     = "goes on after a failure" // A6: the process does not end
	bugAcksFailed = "acks what failed"        // A6: a reply that rests on a failed append
	bugNoGuard    = "no guard of space"       // A7: SIGBUS
	bugAnyKind    = "every kind is known"     // A10: a newer log is opened
	bugStale      = "wrong snapshots"         // A9: a state that is not the log's
	bugUnlocks    = "lets go of its locks"    // A12: a second process gets in
	bugForgets    = "forgets the newest"      // A2, A4, A5, A13: less is there than was acknowledged, and it opens
	bugNone       = "none"                    // this node has none, whatever the campaign has
	bugBlocks     = "authorize appends first" // A8: slow decisions
)

// plantInLog changes the log's options for some bugs.
func (n *node) plantInLog(o *eventlog.Options) {
	switch n.cfg.Bug {
	case bugNoGuard:
		o.FreeSpace = func(string) (uint64, error) { return math.MaxUint64 / 2, nil }
	case bugAnyKind:
		o.KnownKind = nil
	}
}

// appendTo is how a node appends: to the log, or wrongly.
func (n *node) appendTo(b eventlog.Batch, done func([]messages.Record, error)) {
	n.mu.Lock()
	trap := n.trap
	n.mu.Unlock()
	for i := range b.Drafts {
		if trap.point == pointBefore && b.Drafts[i].Kind == trap.kind && b.Cause.Request == trap.request {
			die()
		}
	}
	switch n.cfg.Bug {
	case bugAckFirst:
	case bugAcksFailed:
		n.store.Append(b, func(recs []messages.Record, err error) {
			if errors.Is(err, eventlog.ErrFailed) {
				recs, err = n.imagined(b), nil
			}
			done(recs, err)
		})
		return
	default:
		n.store.Append(b, done)
		return
	}
	records := n.imagined(b)
	n.mu.Lock()
	for i := range records {
		n.mine[b.Cause.Request] = append(n.mine[b.Cause.Request], ackOf(&records[i]))
	}
	n.mu.Unlock()
	done(records, nil)
	time.AfterFunc(100*time.Millisecond, func() { n.store.Append(b, func([]messages.Record, error) {}) })
}

// imagined are the records that b would become.
func (n *node) imagined(b eventlog.Batch) (records []messages.Record) {
	seq := n.store.Head().Seq
	for i, d := range b.Drafts {
		r := messages.Record{
			Seq: seq + uint64(i) + 1, Stream: b.Stream, Version: b.Expected + uint64(i) + 1, ID: d.ID, Kind: d.Kind, Schema: d.Schema, At: b.At, Cause: b.Cause, Body: d.Body,
		}
		records = append(records, r)
	}
	return records
}
