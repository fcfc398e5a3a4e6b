package main

import (
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
	bugNoGuard    = "no guard of space"       // A7: SIGBUS
	bugAnyKind    = "every kind is known"     // A10: a newer log is opened
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
	if n.cfg.Bug != bugAckFirst {
		n.store.Append(b, done)
		return
	}
	seq := n.store.Head().Seq
	var records []messages.Record
	for i, d := range b.Drafts {
		r := messages.Record{
			Seq: seq + uint64(i) + 1, Stream: b.Stream, Version: b.Expected + uint64(i) + 1, ID: d.ID, Kind: d.Kind, Schema: d.Schema, At: b.At, Cause: b.Cause, Body: d.Body,
		}
		records = append(records, r)
	}
	n.mu.Lock()
	for i := range records {
		n.mine[b.Cause.Request] = append(n.mine[b.Cause.Request], ackOf(&records[i]))
	}
	n.mu.Unlock()
	done(records, nil)
	time.AfterFunc(100*time.Millisecond, func() { n.store.Append(b, func([]messages.Record, error) {}) })
}
