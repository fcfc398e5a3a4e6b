package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// revocationsMin is how many a log must take after its disk is full (reliability spec, A7).
const revocationsMin = 1000

// fullDisks is A7: another process fills the disk within a second. The log goes on taking
// what restricts, refuses what grants, never dies of it, and starts again.
func fullDisks(c *campaign) error {
	c.each(c.pick(8, 200), func(i int) error {
		if i%2 == 0 {
			return c.fillDisk(i, 24)
		}
		return c.fillDisk(i, 64)
	})
	return c.ctx.Err()
}

func (c *campaign) fillDisk(i, mib int) (err error) {
	var d *disk
	if mib == 24 {
		d, err = c.tmpfs(mib)
	} else {
		d, err = c.ext4(mib)
	}
	if err != nil {
		return err
	}
	cfg := nodeConfig{Dir: filepath.Join(d.dir, "core", "log"), Host: i/2%2 == 1, Journal: 1 << 20, MemTable: 6 << 20, Ballast: 512 << 10}
	if mib == 64 {
		cfg.Journal, cfg.Ballast = 2<<20, 16<<20
	}
	l, err := c.begin(cfg)
	if err != nil {
		return err
	}
	defer l.kill()
	if err := l.must(order{Op: "load", N: 2, Bytes: 400, Stop: 400, Seed: 1}, "loaded"); err != nil {
		return err
	}
	began := time.Now()
	during := i/4%2 == 1 // while the log is written, or between
	if during {
		if err := l.order(order{Op: "revoke", N: 4000, Seed: 1}); err != nil {
			return err
		}
	}
	if err := fill(filepath.Join(d.dir, "somebody-else"), fillPause); err != nil {
		return err
	}
	if took := time.Since(began); took > time.Second && !during {
		c.say("the disk was full only after %v", took)
	}
	c.count(func(r *Row) { r.Faults++ })
	before := len(l.told())
	if !during {
		if err := l.order(order{Op: "revoke", N: 4000, Seed: 1}); err != nil {
			return err
		}
	}
	if _, err := l.next(); err != nil {
		if errors.Is(err, errDied) { // by SIGBUS, or otherwise: it must not
			c.count(func(r *Row) { r.Unseen++ })
		}
		return fmt.Errorf("%d MiB: %w", mib, err)
	}
	if n := len(l.told()) - before; n < revocationsMin && !during {
		c.fail("%d MiB: %d revocations were accepted on the full disk, want %d", mib, n, revocationsMin)
	}
	if s, err := l.ask(order{Op: "grant"}, "done"); err != nil || s.Error == "" {
		return errors.Join(fmt.Errorf("%d MiB: a grant was accepted on a full disk", mib), err)
	}
	l.kill()
	return c.afterFull(d, cfg, l.told(), mib)
}

// afterFull starts a log again whose disk has nothing free, and then one that has.
func (c *campaign) afterFull(d *disk, cfg nodeConfig, acks []ack, mib int) error {
	var st unix.Statfs_t
	if err := fill(filepath.Join(d.dir, "somebody-else"), 0); err != nil { // what the end of the process left
		return err
	}
	if err := unix.Statfs(d.dir, &st); err != nil || st.Bavail*uint64(st.Bsize) > 64<<10 {
		return errors.Join(fmt.Errorf("%d bytes are free: the experiment is wrong", st.Bavail*uint64(st.Bsize)), err)
	}
	l, err := c.begin(cfg)
	switch {
	case err == nil:
		if err := l.must(order{Op: "revoke", N: 1, Seed: 2}, "revoked"); err != nil {
			l.kill()
			return fmt.Errorf("%d MiB, 0 bytes free: a revocation: %w", mib, err)
		}
		acks = append(acks, l.told()...)
		l.kill()
		c.count(func(r *Row) { r.Seen++; c.whole++ })
	case errors.Is(err, errRefused) && l.code() == exitFull && mib < 64: // its ballast is smaller than what an open takes
		c.count(func(r *Row) { r.Seen++; c.refused++ })
	default:
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("%d MiB, 0 bytes free: %w", mib, err)
	}
	if err := os.Remove(filepath.Join(d.dir, "somebody-else")); err != nil {
		return err
	}
	if _, err := c.look(cfg, acks); err != nil {
		return fmt.Errorf("%d MiB, with space again: %w", mib, err)
	}
	return d.unmount()
}

// fillPause spreads the filling of these disks over half a second or so. At the speed of
// memory, 20 ms, somebody may take the whole reserve during one transaction of Badger's, which
// eventlog/doc.go assumes that nobody does: then 3 of 200 died of SIGBUS.
const fillPause = 10 * time.Millisecond

// fill takes all the space there is on a file's disk, with a pause after each MiB.
func fill(path string, pause time.Duration) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 64 << 10, 4096, 1} {
		zeros := make([]byte, size)
		for {
			if _, err := f.Write(zeros); errors.Is(err, unix.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
			if size == 1<<20 {
				time.Sleep(pause)
			}
		}
	}
	return nil
}
