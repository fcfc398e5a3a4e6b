package main

import (
	"encoding/hex"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A nodeConfig is what a node is started with: JSON, as its only argument.
type nodeConfig struct {
	Dir      string // the log's directory, and keys beside it
	Host     bool   // host, deciders and read models on the log; else the log alone
	Journal  int64  // bytes of a journal file, see eventlog.Options, as the next two
	MemTable int64
	Ballast  int64
	Bug      string // planted, see bugs.go

	Snapshots string // what the host is given in place of its snapshots, see states.go
}

// An order is a line on a node's standard input.
type order struct {
	Op      string        `json:"op"`
	Kind    messages.Kind `json:"kind,omitempty"`    // do: what is to happen
	N       int           `json:"n,omitempty"`       // do: to whom; load: workers
	Request string        `json:"request,omitempty"` // do: the request's id
	Die     string        `json:"die,omitempty"`     // do: the point at which to die of it
	Panic   string        `json:"panic,omitempty"`   // do: where its handler is to panic
	Again   bool          `json:"again,omitempty"`   // do: the request was made before: nothing is prepared
	Bytes   int           `json:"bytes,omitempty"`
	Stop    int           `json:"stop,omitempty"` // load: after so many acknowledgements; 0: never
	Seed    uint64        `json:"seed,omitempty"`
	Tokens  []string      `json:"tokens,omitempty"`
}

// said is a line on a node's standard output. (Acknowledgements of a load are shorter
// lines: "a SEQ ID".)
type said struct {
	Op      string   `json:"op"`
	Request string   `json:"request,omitempty"`
	Acks    []ack    `json:"acks,omitempty"`
	Reply   string   `json:"reply,omitempty"`
	Error   string   `json:"error,omitempty"`
	Digest  string   `json:"digest,omitempty"`  // of all that is decided by, times and places included
	Effects string   `json:"effects,omitempty"` // of what holds, without times: the same if nothing was done twice
	Records []record `json:"records,omitempty"`
	Head    uint64   `json:"head,omitempty"`
	Note    string   `json:"note,omitempty"` // a checkpoint
	Allowed []bool   `json:"allowed,omitempty"`
	Nanos   []int64  `json:"nanos,omitempty"`
}

// ack is a record as its appender was told of it.
type ack struct {
	Seq  uint64        `json:"seq"`
	ID   string        `json:"id"`
	Kind messages.Kind `json:"kind"`
}

// record is a record as it is found.
type record struct {
	ack
	Stream  messages.StreamID `json:"stream"`
	Version uint64            `json:"version"`
	Request string            `json:"request,omitempty"`
}

func ackOf(r *messages.Record) ack {
	return ack{Seq: r.Seq, ID: hex.EncodeToString(r.ID[:]), Kind: r.Kind}
}

func recordOf(r *messages.Record) record {
	return record{ackOf(r), r.Stream, r.Version, r.Cause.Request}
}

// The points at which a node can be told to die, in the order of an append's life.
const (
	pointBefore   = "before append"
	pointWritten  = "appended, unsynced"
	pointSynced   = "synced, unapplied"
	pointApplied  = "applied, unreplied"
	pointReplied  = "replied"
	pointSnapshot = "mid-snapshot"
	pointFeeding  = "mid-feeding"
	pointFed      = "fed"
)

var points = []string{pointBefore, pointWritten, pointSynced, pointApplied, pointReplied, pointSnapshot, pointFeeding, pointFed}

// acked reports whether who asked has been answered when the node dies at point.
func acked(point string) bool {
	switch point {
	case pointReplied, pointSnapshot, pointFeeding, pointFed:
		return true
	}
	return false
}

// judgeLog compares what a log holds with what was acknowledged: no hole, and nothing
// missing. It returns how many are lost.
func judgeLog(found []record, acks []ack) (lost int, hole error) {
	versions := map[messages.StreamID]uint64{}
	for i, r := range found {
		if r.Seq != uint64(i)+1 || r.Version != versions[r.Stream]+1 {
			return len(acks), fmt.Errorf("record %d of %q stands in place %d as version %d, after version %d", r.Seq, r.Stream, i+1, r.Version, versions[r.Stream])
		}
		versions[r.Stream] = r.Version
	}
	for _, a := range acks {
		if a.Seq == 0 || a.Seq > uint64(len(found)) || found[a.Seq-1].ack.ID != a.ID {
			lost++
		}
	}
	return lost, nil
}
