package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Exit codes of a node: those of the daemon (cmd/gatehouse/main.go).
const (
	exitFailed  = 1
	exitCorrupt = 20
	exitAppend  = 21
	exitNewer   = 22
	exitInUse   = 23
	exitFull    = 24 // the daemon has none of its own for this
)

// node is the process that is crashed: the product's log, and on it the product's host.
type node struct {
	cfg   nodeConfig
	log   *slog.Logger
	out   sync.Mutex
	store *eventlog.Store
	host  *host // nil: the log alone

	verifier note.Verifier // of the log's checkpoints

	mu     sync.Mutex
	trap   trap                   // guarded by mu
	mine   map[string][]ack       // by request: what was appended for it; guarded by mu
	passed map[eventlog.Step]bool // guarded by mu
}

// trap is where the node is to die.
type trap struct {
	point   string
	kind    messages.Kind
	request string
}

func runNode(text string) int {
	n := &node{mine: map[string][]ack{}, passed: map[eventlog.Step]bool{}}
	if err := json.Unmarshal([]byte(text), &n.cfg); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 2
	}
	n.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := n.open(); err != nil {
		n.say(said{Op: "refused", Error: err.Error()})
		return codeOf(err)
	}
	n.say(said{Op: "ready", Head: n.store.Head().Seq})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			return 2
		}
		if o.Op == "close" {
			return n.close()
		}
		n.obey(o)
	}
	return n.close()
}

// codeOf is the exit code that says why the log could not be opened.
func codeOf(err error) int {
	switch {
	case errors.Is(err, eventlog.ErrCorrupt):
		return exitCorrupt
	case errors.Is(err, eventlog.ErrNewer):
		return exitNewer
	case errors.Is(err, eventlog.ErrInUse):
		return exitInUse
	case errors.Is(err, eventlog.ErrFull):
		return exitFull
	}
	return exitFailed
}

func (n *node) open() error {
	ring, err := keys.Open(filepath.Join(filepath.Dir(n.cfg.Dir), "keys"), keys.Options{})
	if err != nil {
		return err
	}
	signer, verifier, err := ring.LogSigner()
	if err != nil {
		return err
	}
	o := eventlog.Options{
		Signer: signer, Verifier: verifier, KnownKind: messages.Known, Logger: n.log,
		JournalBytes: n.cfg.Journal, MemTableBytes: n.cfg.MemTable, BallastBytes: n.cfg.Ballast,
		Step: n.step, Applied: n.applied, Fatal: n.fatal,
	}
	n.verifier = verifier
	n.plantInLog(&o)
	if n.cfg.Host {
		n.host = newHost(n)
	}
	if n.store, err = eventlog.Open(n.cfg.Dir, o); err != nil {
		return err
	}
	if n.cfg.Bug == bugUnlocks {
		if err := unlockAll(n.cfg.Dir); err != nil {
			return err
		}
	}
	if n.host != nil {
		return n.host.start()
	}
	return nil
}

// fatal is the daemon's: an append failed, so nothing more is answered and the process ends.
func (n *node) fatal(err error) {
	fmt.Fprintln(os.Stderr, "node: append failed:", err)
	if n.cfg.Bug == bugGoesOn || n.cfg.Bug == bugAcksFailed {
		return
	}
	os.Exit(exitAppend)
}

func (n *node) close() int {
	if n.host != nil {
		if err := n.host.close(); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			return exitFailed
		}
	}
	if err := n.store.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "node: close:", err)
		if n.cfg.Bug == bugGoesOn {
			return 0
		}
		if n.store.Stat().Failed != nil {
			return exitAppend
		}
		return exitFailed
	}
	n.say(said{Op: "closed"})
	return 0
}

// die is kill -9: nothing runs after it.
func die() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// say writes a line in one piece.
func (n *node) say(s said) {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	n.write(append(b, '\n'))
}

func (n *node) write(b []byte) {
	n.out.Lock()
	defer n.out.Unlock()
	if _, err := os.Stdout.Write(b); err != nil {
		os.Exit(exitFailed) // nobody listens any more
	}
}

func (n *node) obey(o order) {
	switch o.Op {
	case "do":
		n.do(o)
	case "load":
		go n.load(o)
	case "dump":
		n.dump()
	case "verify":
		_, err := n.store.Verify(context.Background(), nil)
		n.say(said{Op: "verified", Error: text(err)})
	case "digest":
		s := said{Op: "digest"}
		if n.host != nil {
			s.Digest, s.Effects = n.host.digest()
		}
		n.say(s)
	case "note":
		note, err := n.store.Checkpoint(context.Background())
		n.say(said{Op: "note", Note: string(note), Error: text(err)})
	case "snapshots":
		n.say(said{Op: "snapshots", Error: text(n.snapshots(o))})
	case "authorize":
		n.say(n.host.authorize(o))
	case "against":
		_, err := eventlog.Extends(n.store, []byte(o.Request), n.verifier)
		n.say(said{Op: "against", Error: text(err)})
	case "fed": // until Badger has everything, which is soon after the last append
		for n.store.Stat().Stored < n.store.Head().Seq {
			time.Sleep(5 * time.Millisecond)
		}
		n.say(said{Op: "fed"})
	case "grant":
		n.say(said{Op: "done", Error: text(n.grant())})
	case "poison":
		n.say(said{Op: "done", Error: text(n.poison(o))})
	case "alien":
		n.say(said{Op: "done", Error: text(n.alien(o))})
	case "frames":
		n.say(said{Op: "loaded", Error: text(n.frames(o))})
	case "wear":
		n.say(said{Op: "worn", Error: text(n.host.wear(o))})
	case "probe":
		n.host.probe(o)
	case "revoke":
		n.say(n.revoke(o))
	default:
		fmt.Fprintln(os.Stderr, "node: unknown order", o.Op)
		os.Exit(2)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (n *node) dump() {
	s := said{Op: "dump"}
	for rec, err := range n.store.Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			s.Error = err.Error()
			break
		}
		s.Records = append(s.Records, recordOf(&rec))
	}
	s.Head = n.store.Head().Seq
	if s.Error == "" && s.Head != uint64(len(s.Records)) {
		s.Error = fmt.Sprintf("head %d, %d records", s.Head, len(s.Records))
	}
	n.say(s)
}

// --- The traps --------------------------------------------------------------------------

// caught dies if the trap is for point and one of the records is the one.
func (n *node) caught(point string, records []messages.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.trap.point != point {
		return
	}
	if records == nil {
		die()
	}
	for i := range records {
		if records[i].Kind == n.trap.kind && records[i].Cause.Request == n.trap.request {
			die()
		}
	}
}

// step is the log's hook.
func (n *node) step(s eventlog.Step, records []messages.Record) {
	switch s {
	case eventlog.StepWritten:
		n.caught(pointWritten, records)
	case eventlog.StepSynced:
		n.caught(pointSynced, records)
	case eventlog.StepFeeding:
		n.caught(pointFeeding, nil)
	case eventlog.StepFed:
		n.caught(pointFed, nil)
	case eventlog.StepSnapshot:
		n.mu.Lock()
		second := n.passed[s]
		n.passed[s] = n.trap.point == pointSnapshot
		n.mu.Unlock()
		if second { // it is written, and does not have its name
			n.caught(pointSnapshot, nil)
		}
	}
}

// applied is the log's: a group is durable, nobody was answered.
func (n *node) applied(records []messages.Record) {
	if n.host != nil {
		n.host.views.Apply(records)
	}
	n.mu.Lock()
	for i := range records {
		if r := records[i].Cause.Request; r != "" {
			n.mine[r] = append(n.mine[r], ackOf(&records[i]))
		}
	}
	n.mu.Unlock()
	n.caught(pointApplied, records)
}

// do makes one thing happen, and dies of it where it is told to.
func (n *node) do(o order) {
	arm := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.mine, o.Request)
		n.trap = trap{o.Die, o.Kind, o.Request}
		if o.Die == pointSnapshot || o.Die == pointFeeding || o.Die == pointFed {
			n.trap.point = "" // after the answer
		}
	}
	s := said{Op: "done", Request: o.Request}
	var err error
	if n.host != nil {
		s.Reply, err = n.host.do(o, arm)
	} else {
		arm()
		err = n.append(o)
	}
	s.Error = text(err)
	n.mu.Lock()
	s.Acks = n.mine[o.Request]
	n.mu.Unlock()
	if n.host != nil && acked(o.Die) {
		s.Digest, s.Effects = n.host.digest()
	}
	n.say(s)
	switch o.Die {
	case pointReplied:
		die()
	case pointSnapshot:
		n.arm(o)
		_ = n.snapshots(order{Bytes: 1 << 20})
	case pointFeeding, pointFed:
		n.arm(o)
	}
}

func (n *node) arm(o order) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trap = trap{o.Die, o.Kind, o.Request}
}

// snapshots writes a large snapshot, as a large read model would.
func (n *node) snapshots(o order) error {
	data := make([]byte, max(o.Bytes, 600<<10))
	for i := range data {
		data[i] = byte(i * 7)
	}
	return n.store.PutSnapshot("crash/large", eventlog.Snapshot{Version: 1, Seq: n.store.Head().Seq, Data: data})
}
