package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// pageBytes is what file systems and disks lose, tear and misdirect at a time.
const pageBytes = 4096

// A mutation is what became of a file: its bytes after it, nil: it is gone.
type mutation struct {
	name   string
	change func(b []byte, other []byte, rng *rand.Rand) []byte // other is another file of the directory
}

// used picks a place of b that is not zero, if there is one.
func used(b []byte, rng *rand.Rand) int {
	at := rng.IntN(len(b))
	for range 64 {
		if b[at] != 0 {
			return at
		}
		at = rng.IntN(len(b))
	}
	if first := bytes.IndexFunc(b, func(r rune) bool { return r != 0 }); first >= 0 {
		return first
	}
	return at
}

// page is the part of b that shares a page with at.
func page(b []byte, at int) []byte {
	from := at / pageBytes * pageBytes
	return b[from:min(from+pageBytes, len(b))]
}

var mutations = []mutation{
	{"bit flip", func(b, _ []byte, rng *rand.Rand) []byte {
		b[used(b, rng)] ^= 1 << rng.IntN(8)
		return b
	}},
	{"zeroed page", func(b, _ []byte, rng *rand.Rand) []byte {
		clear(page(b, used(b, rng)))
		return b
	}},
	{"torn page", func(b, other []byte, rng *rand.Rand) []byte { // its end is of something else
		p := page(b, used(b, rng))
		cut := rng.IntN(len(p))
		if len(other) > 0 {
			copy(p[cut:], page(other, used(other, rng)))
		} else {
			clear(p[cut:])
		}
		return b
	}},
	{"duplicated page", func(b, _ []byte, rng *rand.Rand) []byte {
		copy(page(b, used(b, rng)), bytes.Clone(page(b, used(b, rng))))
		return b
	}},
	{"swapped pages", func(b, _ []byte, rng *rand.Rand) []byte {
		x, y := page(b, used(b, rng)), page(b, used(b, rng))
		keep := bytes.Clone(x)
		copy(x, y)
		copy(y, keep)
		return b
	}},
	{"misdirected page", func(b, other []byte, rng *rand.Rand) []byte {
		if len(other) > 0 {
			copy(page(b, used(b, rng)), page(other, used(other, rng)))
		}
		return b
	}},
	{"truncated", func(b, _ []byte, rng *rand.Rand) []byte { return b[:rng.IntN(len(b))] }},
	{"longer", func(b, other []byte, rng *rand.Rand) []byte {
		return append(b, page(append(other, make([]byte, 64)...), 0)...)
	}},
	{"removed", func([]byte, []byte, *rand.Rand) []byte { return nil }},
}

// mutate is A4: one file of a directory is not what was written. The log opens with all
// that was acknowledged, or is refused with exit code 20 and not touched.
func mutate(c *campaign) error {
	images, err := c.images(false, 100)
	if err != nil {
		return err
	}
	hosted, err := c.images(true, 60)
	if err != nil {
		return err
	}
	images = append(images, hosted...)
	type job struct {
		im   image
		file string
		m    mutation
	}
	var jobs []job
	for want := c.pick(300, 5000); len(jobs) < want; {
		for _, im := range images {
			names, err := filesOf(im.cfg.Dir)
			if err != nil {
				return err
			}
			for i, name := range names {
				for k := range len(mutations) {
					m := mutations[(k+i+len(jobs))%len(mutations)]
					if name == "LOCK" && m.name != "longer" && m.name != "removed" { // it is empty
						continue
					}
					jobs = append(jobs, job{im, name, m})
				}
			}
		}
	}
	rng := c.chance(0)
	rng.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	jobs = jobs[:c.pick(300, 5000)]
	c.each(len(jobs), func(i int) error {
		j := jobs[i]
		if err := c.mutateOne(j.im, j.file, j.m, c.chance(i+1)); err != nil {
			return fmt.Errorf("%s, %s of the %s log: %w", j.m.name, j.file, j.im.name, err)
		}
		return nil
	})
	if err := c.tellSpread(); err != nil {
		return err
	}
	return c.eraseTail()
}

// tellSpread adds what became of the mutations to the notes.
func (c *campaign) tellSpread() error {
	c.count(func(r *Row) {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of the damaged directories opened with everything, %d were refused with exit code %d and not changed", c.whole, c.refused, exitCorrupt))
	})
	return nil
}

// mutateOne damages one file of a copy and opens it.
func (c *campaign) mutateOne(im image, file string, m mutation, rng *rand.Rand) error {
	cfg, remove, err := im.fresh(c)
	if err != nil {
		return err
	}
	defer remove()
	path := filepath.Join(cfg.Dir, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	names, err := filesOf(cfg.Dir)
	if err != nil {
		return err
	}
	other, err := os.ReadFile(filepath.Join(cfg.Dir, names[rng.IntN(len(names))]))
	if err != nil {
		return err
	}
	if len(b) == 0 && m.name != "removed" && m.name != "longer" {
		b = []byte{0}
	}
	was := bytes.Clone(b)
	for try := 0; bytes.Equal(b, was) && b != nil; try++ { // a page that was like the other is no fault
		if try == 20 {
			b = nil
			break
		}
		b = m.change(bytes.Clone(was), other, rng)
	}
	if b == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return err
	}
	c.count(func(r *Row) { r.Faults++ })
	return c.outcome(im, cfg, file)
}

// outcome opens a damaged copy of an image: whole, or refused and untouched.
func (c *campaign) outcome(im image, cfg nodeConfig, damaged string) error {
	before := cfg.Dir + ".before"
	if err := copyTree(cfg.Dir, before); err != nil {
		return err
	}
	l, err := c.begin(cfg)
	if err == nil {
		defer l.kill()
		if _, err := c.lookAt(l, im.acks); err != nil {
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("it opens, and: %w", err)
		}
		c.count(func(r *Row) { r.Seen++; c.whole++ })
		return nil
	}
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	c.count(func(r *Row) { r.Runs++ })
	if !errors.Is(err, errRefused) || l.code() != exitCorrupt {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("exit code %d, want %d: %w", l.code(), exitCorrupt, err)
	}
	if err := sameBut(before, cfg.Dir, ""); err != nil && !(damaged == "LOCK") {
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("it is refused, and changed: %w", err)
	}
	c.count(func(r *Row) { r.Seen++; c.refused++ })
	return nil
}

// eraseTail shows a limit that eventlog/doc.go names: what was appended in the last 200 ms
// is in the journal alone, and a page of it that reads as zeros is as if it had never been
// written. What is lost then is a suffix, of that much at most.
func (c *campaign) eraseTail() error {
	dir, err := c.memoryDir("tail")
	if err != nil {
		return err
	}
	cfg := small
	cfg.Dir = filepath.Join(dir, "live", "log")
	l, err := c.begin(cfg)
	if err != nil {
		return err
	}
	defer l.kill()
	if err := l.must(order{Op: "load", N: 1, Stop: 12}, "loaded"); err != nil {
		return err
	}
	l.kill() // Badger has nothing yet
	path := filepath.Join(cfg.Dir, "journal.0")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	last := bytes.LastIndexFunc(b, func(r rune) bool { return r != 0 })
	clear(page(b, last))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	again, err := c.begin(cfg)
	if err != nil {
		c.note("a page that is erased at the journal's end before Badger has its records (200 ms) is detected: %v", err)
		return nil
	}
	defer again.kill()
	s, err := again.ask(order{Op: "dump"}, "dump")
	if err != nil {
		return err
	}
	acks := l.told()
	if _, hole := judgeLog(s.Records, nil); hole != nil || !slices.IsSortedFunc(acks, func(a, b ack) int { return int(a.Seq) - int(b.Seq) }) {
		return fmt.Errorf("an erased tail leaves a hole: %w", hole)
	}
	if len(s.Records) == len(acks) {
		return errors.New("the erased page held nothing: the experiment is wrong")
	}
	c.note("limit, not counted above: erasing the last 4 KiB of the journal before Badger has its records (the last 200 ms) takes an acknowledged suffix unnoticed (%d of %d events here), as a disk would whose sync is a lie",
		len(acks)-len(s.Records), len(acks))
	return nil
}
