package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"
)

// bugLies is a disk whose sync does nothing, made by strace: not of the node, but below it.
const bugLies = "the disk lies"

// bugDeaf is a disk that loses what it was told to flush.
const bugDeaf = "the disk passes flushes by"

// lyingDisk is how a node is run whose syncs are answered and not carried out.
func (c *campaign) lyingDisk() []string {
	if c.bug != bugLies {
		return nil
	}
	return []string{"strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=fdatasync,fsync,msync,sync_file_range", "-e", "inject=fdatasync,fsync,msync:retval=0"}
}

// powerCuts is A3, in two ways: a file system that is shut down as a power cut would, and a
// disk whose writes were recorded, from which what a cut leaves is made at any moment, with
// any part of what was not flushed.
func powerCuts(c *campaign) error {
	cuts, images := c.pick(10, 200), c.pick(20, 400)
	const ofOneDisk = 5 // each look reads the whole log, which grows with each cut
	if c.bug != bugDeaf {
		c.each(cuts/ofOneDisk, func(i int) error { return c.cutDisk(i, ofOneDisk) })
	}
	if c.ctx.Err() == nil && c.bug != bugLies {
		perDisk := c.pick(10, 25)
		c.each(images/perDisk, func(i int) error { return c.recordedCuts(i, perDisk) })
	}
	c.note("%d cuts by EXT4_IOC_SHUTDOWN without a flush of the journal; %d images of a recorded disk, each cut after any write, with any part of what was not flushed, by sectors", cuts, images)
	return c.ctx.Err()
}

// cutDisk cuts the power of one disk, again and again.
func (c *campaign) cutDisk(lane, cuts int) error {
	d, err := c.ext4(160)
	if err != nil {
		return err
	}
	rng := c.chance(lane)
	cfg := small
	cfg.Host = lane%2 == 1
	cfg.Journal, cfg.Ballast = 1<<20, 1<<20
	cfg.Dir = filepath.Join(d.dir, "core", "log")
	var acks []ack
	for cut := range cuts {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		l, err := c.begin(cfg, c.lyingDisk()...)
		if err != nil {
			return fmt.Errorf("cut %d: %w", cut, err)
		}
		if err := l.order(order{Op: "load", N: 8, Bytes: 600, Seed: uint64(lane*1000 + cut + 1)}); err != nil {
			return err
		}
		l.await(c.ctx, 1)
		time.Sleep(time.Duration(20+rng.IntN(400)) * time.Millisecond) // the moment is the experiment
		if err := d.cutPower(); err != nil {
			l.kill()
			return err
		}
		l.kill()
		c.count(func(r *Row) { r.Faults++ })
		acks = append(acks, l.told()...) // those of after the cut, too: what they say must have been on disk
		if err := d.unmount(); err != nil {
			return err
		}
		if d, err = c.mount(d.image); err != nil { // the file system replays its journal
			return err
		}
		cfg.Dir = filepath.Join(d.dir, "core", "log")
		if _, err := c.look(cfg, acks); err != nil {
			return fmt.Errorf("cut %d: %w", cut, err)
		}
	}
	return d.unmount()
}

// heardAt is an acknowledgement, and how much had been written to the disk when it came.
type heardAt struct {
	ack
	writes int
}

// recordedCuts lets a node work on a recorded disk, and looks at what cuts at several moments
// leave.
func (c *campaign) recordedCuts(part, cuts int) error {
	dir, err := c.memoryDir("recorded")
	if err != nil {
		return err
	}
	image := filepath.Join(dir, "image")
	if err := makeExt4(image, 64); err != nil {
		return err
	}
	r, err := c.record(image)
	if err != nil {
		return err
	}
	d, err := c.mount(r.file())
	if err != nil {
		return err
	}
	cfg := small
	cfg.Host = part%2 == 1
	cfg.Dir = filepath.Join(d.dir, "core", "log")
	heard := make(chan heardAt, 1<<20)
	l, err := c.beginHearing(cfg, func(a ack) { heard <- heardAt{a, r.now()} })
	if err != nil {
		return err
	}
	defer l.kill()
	begun := r.now()
	if err := l.must(order{Op: "load", N: 4, Bytes: 500, Stop: 400, Seed: uint64(part + 1)}, "loaded"); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // until Badger is fed, which writes, too
	r.stop()
	l.kill()
	close(heard)
	var acks []heardAt
	for h := range heard {
		acks = append(acks, h)
	}
	if err := d.unmount(); err != nil {
		return err
	}
	c.say("recorded disk %d: %d writes and flushes, %d of them flushes, %d events acknowledged", part, r.now()-begun, r.flushes(), len(acks))
	rng := c.chance(5000 + part)
	for range cuts {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n := begun + rng.IntN(r.now()-begun)
		if err := os.WriteFile(image, r.after(n, rng), 0o600); err != nil {
			return err
		}
		if err := c.lookAtImage(image, cfg, acks, n); err != nil {
			return fmt.Errorf("cut after write %d of %d: %w", n, r.now(), err)
		}
	}
	return nil
}

func (c *campaign) lookAtImage(image string, cfg nodeConfig, acks []heardAt, n int) error {
	d, err := c.mount(image)
	if err != nil {
		return err
	}
	c.count(func(r *Row) { r.Faults++ })
	var before []ack
	for _, a := range acks {
		if a.writes <= n {
			before = append(before, a.ack)
		}
	}
	sort.Slice(before, func(i, k int) bool { return before[i].Seq < before[k].Seq })
	cfg.Dir = filepath.Join(d.dir, "core", "log")
	_, err = c.look(cfg, before)
	if err != nil {
		return err
	}
	return d.unmount()
}
