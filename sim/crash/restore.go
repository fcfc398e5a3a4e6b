package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// restored is A13: old copies are put back. Of a single file or part that shows, or does no
// harm. Of the whole directory nothing in it can tell, and it shows against a checkpoint that
// was kept elsewhere.
func restored(c *campaign) error {
	for part := range c.pick(2, 20) {
		dir, err := c.memoryDir("old")
		if err != nil {
			return err
		}
		cfg := small
		cfg.Dir = filepath.Join(dir, "live", "log")
		rng := c.chance(part)
		cfg.Journal = 64 << 10 // so that generations pass
		var acks []ack
		var note string
		var ages []string
		for age := range 4 {
			l, err := c.begin(cfg)
			if err != nil {
				return err
			}
			defer l.kill()
			if err := l.must(order{Op: "load", N: 2, Bytes: 300, Stop: 40 + rng.IntN(200), Seed: uint64(part*10 + age)}, "loaded"); err != nil {
				return err
			}
			acks = append(acks, l.told()...)
			s, err := l.ask(order{Op: "note"}, "note")
			if err != nil {
				return err
			}
			if note == "" || c.bug != bugForgets {
				note = s.Note
			}
			if age%2 == 0 {
				if err := l.end(); err != nil {
					return err
				}
			} else {
				time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // with and without what Badger gets later
				l.kill()
			}
			at := filepath.Join(dir, fmt.Sprint("age-", age))
			ages = append(ages, at)
			if err := copyTree(filepath.Dir(cfg.Dir), at); err != nil {
				return err
			}
		}
		now := image{name: "now", cfg: cfg, acks: acks}
		now.cfg.Dir = filepath.Join(ages[3], "log")
		for age := range 3 {
			if c.enough() {
				return c.ctx.Err()
			}
			for _, piece := range [][]string{{"HEAD"}, {"journal.0"}, {"journal.1"}, {"badger"}, {"journal.0", "journal.1"}} {
				if err := c.putBack(now, filepath.Join(ages[age], "log"), piece); err != nil {
					c.fail("%v of age %d: %v", piece, age, err)
				}
			}
			if err := c.putAllBack(now, ages[age], note); err != nil {
				c.fail("the whole of age %d: %v", age, err)
			}
		}
	}
	c.note("%d of the directories with an old part opened with everything, %d were refused with exit code %d and not changed", c.whole, c.refused, exitCorrupt)
	c.note("an old copy of the whole directory opens, as it must: each was found out by a checkpoint kept elsewhere (eventlog.Extends)")
	return c.ctx.Err()
}

func (c *campaign) putBack(now image, old string, piece []string) error {
	cfg, remove, err := now.fresh(c)
	if err != nil {
		return err
	}
	defer remove()
	for _, name := range piece {
		if err := errors.Join(os.RemoveAll(filepath.Join(cfg.Dir, name)), copyTree(filepath.Join(old, name), filepath.Join(cfg.Dir, name))); err != nil {
			return err
		}
	}
	c.count(func(r *Row) { r.Faults++ })
	return c.outcome(now, cfg, "")
}

// putAllBack opens an old copy of everything: it is whole as of then. Against the newest
// checkpoint it is seen to be old, and goes on being so after it has grown.
func (c *campaign) putAllBack(now image, old string, note string) error {
	im := now
	im.cfg.Dir = filepath.Join(old, "log")
	cfg, remove, err := im.fresh(c)
	if err != nil {
		return err
	}
	defer remove()
	c.count(func(r *Row) { r.Faults++ })
	l, err := c.begin(cfg)
	if err != nil {
		return fmt.Errorf("it does not open: %w", err)
	}
	defer l.kill()
	for range 2 {
		s, err := l.ask(order{Op: "against", Request: note}, "against")
		if err != nil {
			return err
		}
		if s.Error == "" {
			c.count(func(r *Row) { r.Unseen++ })
			return errors.New("the checkpoint does not show it")
		}
		c.count(func(r *Row) { r.Seen++ })
		if err := l.must(order{Op: "load", N: 1, Stop: len(now.acks), Seed: 77}, "loaded"); err != nil {
			return err
		}
	}
	return nil
}
