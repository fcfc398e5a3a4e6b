package eventlog

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// progressEvery is how many records pass between two calls of a progress function.
const progressEvery = 4096

// Checkpoint implements Log.
func (m *Memory) Checkpoint(context.Context) ([]byte, error) {
	return signCheckpoint(m.o.Origin, m.Head(), m.o.Signer)
}

// readHashes is a tlog.HashReader over what is stored at the moment.
func (m *Memory) readHashes(indexes []int64) ([]tlog.Hash, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		h, err := m.kept.hash(x)
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// Proof implements Log.
func (m *Memory) Proof(seq, size uint64) (tlog.RecordProof, error) {
	return proveRecord(seq, size, m.Head().Seq, tlog.HashReaderFunc(m.readHashes))
}

// ConsistencyProof implements Log.
func (m *Memory) ConsistencyProof(old, size uint64) (tlog.TreeProof, error) {
	return proveTree(old, size, m.Head().Seq, tlog.HashReaderFunc(m.readHashes))
}

// Verify implements Log.
func (m *Memory) Verify(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	head := m.Head()
	var t tree
	rep := Report{Head: head}
	versions := map[streamKey]uint64{}
	for rec, err := range m.Scan(ctx, 1, head.Seq) {
		if err != nil {
			return rep, fmt.Errorf("verify: %w", err)
		}
		entry, err := messages.AppendRecord([]byte{leafPrefix}, &rec)
		key := m.streams.key(rec.Stream)
		if err != nil || rec.Seq != t.size+1 || rec.Version != versions[key]+1 {
			return rep, corrupt(t.size+1, err, "record %d, version %d of %q", rec.Seq, rec.Version, rec.Stream)
		}
		versions[key] = rec.Version
		t.add(leafHash(entry), nil)
		if !m.o.KnownKind(rec.Kind, rec.Schema) {
			rep.Unknown++
		}
		if progress != nil && (rec.Seq%progressEvery == 0 || rec.Seq == head.Seq) {
			progress(rec.Seq, head.Seq)
		}
	}
	if t.size != head.Seq || t.root() != head.Root {
		return rep, corrupt(t.size, nil, "root %v, want %v", t.root(), head.Root)
	}
	rep.Streams = uint64(len(versions))
	return rep, nil
}

// Replay implements Log.
func (m *Memory) Replay(ctx context.Context, visit func([]messages.Record) error) (Report, error) {
	rep, err := m.Verify(ctx, nil)
	if err != nil {
		return rep, err
	}
	chunk := make([]messages.Record, 0, replayChunk)
	for rec, err := range m.Scan(ctx, 1, rep.Head.Seq) {
		if err != nil {
			return Report{}, fmt.Errorf("replay: %w", err)
		}
		if chunk = append(chunk, rec); len(chunk) < replayChunk && rec.Seq < rep.Head.Seq {
			continue
		}
		if err := visit(chunk); err != nil {
			return Report{}, fmt.Errorf("replay: %w", err)
		}
		chunk = make([]messages.Record, 0, replayChunk)
	}
	return rep, nil
}

// replayChunk is how many records Memory replays at once.
const replayChunk = 1024

// Stat implements Log.
func (m *Memory) Stat() Stat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stat{
		Head: m.head, Streams: uint64(m.kept.streams()), Stored: m.head.Seq, Groups: m.groups,
		Events: m.head.Seq, Unknown: m.unknown, Failed: m.failed,
	}
}
