package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// everyFlip is A5: each bit of the journal of a log with 64 events, and of HEAD, flipped. It
// is open for inspection in this process, which changes nothing, so that hundreds of
// thousands of flips take minutes.
func everyFlip(c *campaign) error {
	dir, err := c.memoryDir("flip")
	if err != nil {
		return err
	}
	type target struct {
		events int // in each frame
		file   string
		ci     int // CI: every how many bytes, one bit each
	}
	for _, t := range []target{{64, "journal.0", 13}, {4, "journal.0", 193}, {64, "HEAD", 121}} {
		cfg := small
		cfg.Journal = 64 << 10
		cfg.Dir = filepath.Join(dir, fmt.Sprintf("%d-%s", t.events, t.file), "log")
		l, err := c.begin(cfg)
		if err != nil {
			return err
		}
		defer l.kill()
		if err := l.must(order{Op: "frames", N: t.events, Stop: 64}, "loaded"); err != nil {
			return err
		}
		l.kill()
		if err := os.RemoveAll(filepath.Join(cfg.Dir, "badger")); err != nil { // the journal is all there is
			return err
		}
		acks := l.told()
		if c.bug == bugForgets {
			acks = append(acks, ack{Seq: uint64(len(acks)) + 1, ID: "forgotten"})
		}
		if err := c.flipAll(cfg.Dir, t.file, t.ci, acks); err != nil {
			return err
		}
	}
	return c.ctx.Err()
}

func (c *campaign) flipAll(dir, file string, stride int, acks []ack) error {
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	rng := c.chance(end)
	bits := 8
	if !c.night {
		bits = 1
	} else {
		stride = 1
	}
	for at := rng.IntN(stride); at < end && !c.enough(); at += stride {
		for bit := range bits {
			if bits == 1 {
				bit = rng.IntN(8)
			}
			if _, err := f.WriteAt([]byte{b[at] ^ 1<<bit}, int64(at)); err != nil {
				return err
			}
			if err := c.flipped(dir, acks); err != nil {
				c.fail("%s, byte %d, bit %d: %v", file, at, bit, err)
			}
		}
		if _, err := f.WriteAt(b[at:at+1], int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// flipped opens a log in which one bit is wrong.
func (c *campaign) flipped(dir string, acks []ack) error {
	c.count(func(r *Row) { r.Faults++; r.Runs++ })
	l, err := eventlog.Open(dir, eventlog.Options{ReadOnly: true, KnownKind: messages.Known, JournalBytes: small.Journal, MemTableBytes: small.MemTable})
	if err != nil {
		if broken, ok := errors.AsType[*eventlog.CorruptError](err); !ok || broken.Seq > uint64(len(acks))+1 {
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("refused with: %w", err)
		}
		c.count(func(r *Row) { r.Seen++ })
		return nil
	}
	defer l.Close()
	var found []record
	for rec, err := range l.Scan(context.Background(), 1, 1<<62) {
		if err != nil {
			c.count(func(r *Row) { r.Unseen++ })
			return err
		}
		found = append(found, recordOf(&rec))
	}
	lost, hole := judgeLog(found, acks)
	c.judge(len(acks), lost)
	if lost > 0 || hole != nil || len(found) != len(acks) {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("it opens with %d of %d events: %w", len(found), len(acks), hole)
	}
	c.count(func(r *Row) { r.Seen++ })
	return nil
}
