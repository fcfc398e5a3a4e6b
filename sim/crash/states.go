package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
)

// How a node's host reads snapshots of entities, see nodeConfig.Snapshots.
const (
	snapshotsNone    = "missing"
	snapshotsOld     = "of an older age"
	snapshotsGarbage = "corrupt"
	snapshotsOther   = "of another version"
	snapshotsLie     = "another device's" // a planted bug: what must be found
)

// readAgain has a node do the same to the same devices, and returns what came of each: it
// shows the state that the entities have folded.
func (c *campaign) readAgain(im image, snapshots string) ([]string, error) {
	cfg, remove, err := im.fresh(c)
	if err != nil {
		return nil, err
	}
	defer remove()
	cfg.Snapshots = snapshots
	l, err := c.begin(cfg)
	if err != nil {
		return nil, err
	}
	defer l.kill()
	if _, err := c.lookAt(l, im.acks); err != nil {
		return nil, err
	}
	var came []string
	for thing := 1; thing <= 3; thing++ {
		for i, kind := range probeKinds {
			s, err := l.ask(order{Op: "probe", Kind: kind, N: thing, Request: fmt.Sprintf("probe-%d-%d", thing, i)}, "done")
			if err != nil {
				return nil, err
			}
			reply, _, _ := strings.Cut(s.Reply, " ") // without the token
			line := fmt.Sprintf("%d %s: %s %.60s", thing, kind, reply, s.Error)
			for _, a := range s.Acks {
				line += " " + a.Kind.String()
			}
			came = append(came, line)
		}
	}
	d, err := l.ask(order{Op: "digest"}, "digest")
	return append(came, d.Effects), err
}

// oldSnapshots is A9: whatever a snapshot is, the state is that of the whole log.
func oldSnapshots(c *campaign) error {
	for part := range c.pick(2, 20) {
		im, err := c.longImage(part)
		if err != nil {
			return err
		}
		want, err := c.readAgain(im, snapshotsNone)
		if err != nil {
			return err
		}
		kinds := []string{"", snapshotsOld, snapshotsGarbage, snapshotsOther}
		if c.bug == bugStale {
			kinds = []string{snapshotsLie}
		}
		for _, how := range kinds {
			got, err := c.readAgain(im, how)
			if err != nil {
				return fmt.Errorf("snapshots %s: %w", how, err)
			}
			c.count(func(r *Row) { r.Faults++ })
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				c.count(func(r *Row) { r.Unseen++ })
				for i := range want {
					if i < len(got) && got[i] != want[i] {
						c.fail("snapshots %s: the state is another than the log's: %s, want %s", how, got[i], want[i])
						break
					}
				}
				continue
			}
			c.count(func(r *Row) { r.Seen++ })
		}
	}
	return nil
}

// longImage is a closed log with a few devices that have had so much happen to them that
// their entities keep snapshots.
func (c *campaign) longImage(part int) (image, error) {
	dir, err := c.memoryDir("long")
	if err != nil {
		return image{}, err
	}
	im := image{name: "long", cfg: small}
	im.cfg.Host, im.cfg.Dir = true, filepath.Join(dir, "long", "log")
	l, err := c.begin(im.cfg)
	if err != nil {
		return im, err
	}
	defer l.kill()
	for thing := 1; thing <= 3; thing++ {
		if err := l.must(order{Op: "wear", N: thing, Bytes: 170 + 37*part + thing}, "worn"); err != nil {
			return im, err
		}
	}
	im.acks = l.told()
	return im, l.end()
}

// fromNewer is A10: what a newer version wrote is refused, with exit code 22, and not
// changed; unless it can be passed by.
func fromNewer(c *campaign) error {
	images, err := c.images(false, 60)
	if err != nil {
		return err
	}
	type alien struct {
		name    string
		do      func(dir string, cfg nodeConfig) error
		refused bool
	}
	appended := func(kind, schema int, critical, closed bool) func(string, nodeConfig) error {
		return func(_ string, cfg nodeConfig) error {
			l, err := c.begin(cfg)
			if err != nil {
				return err
			}
			defer l.kill()
			if err := l.must(order{Op: "alien", N: kind, Bytes: schema, Again: critical}, "done"); err != nil {
				return err
			}
			if closed {
				return l.end()
			}
			return nil
		}
	}
	format := func(file string) func(string, nodeConfig) error {
		return func(dir string, _ nodeConfig) error { return raiseFormat(filepath.Join(dir, file)) }
	}
	list := []alien{
		{"a critical record of an unknown kind, killed", appended(60000, 1, true, false), true},
		{"a critical record of an unknown kind, closed", appended(60000, 1, true, true), true},
		{"a critical record of a known kind in schema 9, killed", appended(26, 9, true, false), true},
		{"a critical record of a known kind in schema 9, closed", appended(26, 9, true, true), true},
		{"a record of an unknown kind, killed", appended(60001, 1, false, false), false},
		{"a record of an unknown kind, closed", appended(60001, 1, false, true), false},
		{"HEAD in the next format", format("HEAD"), true},
		{"journal.0 in the next format", format("journal.0"), true},
		{"journal.1 in the next format", format("journal.1"), true},
	}
	for range c.pick(1, 10) {
		for _, im := range images {
			for _, a := range list {
				if c.enough() {
					return c.ctx.Err()
				}
				if err := c.newer(im, a.do, a.refused); err != nil {
					c.fail("%s, %s log: %v", a.name, im.name, err)
				}
			}
		}
	}
	return c.ctx.Err()
}

func (c *campaign) newer(im image, change func(string, nodeConfig) error, refused bool) error {
	cfg, remove, err := im.fresh(c)
	if err != nil {
		return err
	}
	defer remove()
	bug := c.bug
	cfg.Bug = bugNone
	if err := change(cfg.Dir, cfg); err != nil {
		return err
	}
	cfg.Bug = bug
	before := cfg.Dir + ".before"
	if err := copyTree(cfg.Dir, before); err != nil {
		return err
	}
	c.count(func(r *Row) { r.Faults++ })
	l, err := c.begin(cfg)
	if l != nil {
		defer l.kill()
	}
	switch {
	case refused && err == nil:
		c.count(func(r *Row) { r.Unseen++ })
		return errors.New("it opens")
	case refused && l.code() != exitNewer:
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("exit code %d, want %d: %w", l.code(), exitNewer, err)
	case refused:
		if err := sameBut(before, cfg.Dir, ""); err != nil {
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("it is refused, and changed: %w", err)
		}
	case err != nil:
		return fmt.Errorf("it can be passed by, and is refused: %w", err)
	default:
		if _, err := c.lookAt(l, im.acks); err != nil {
			return err
		}
	}
	c.count(func(r *Row) { r.Seen++ })
	return nil
}

// raiseFormat gives both copies of a slot pair (eventlog/slots.go) the next format number,
// as a newer version would write it.
func raiseFormat(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range int64(2) {
		b := make([]byte, 4096)
		if _, err := f.ReadAt(b, i*4096); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(b[8:])+1)
		binary.BigEndian.PutUint32(b[4092:], crc32.Checksum(b[:4092], crc32.MakeTable(crc32.Castagnoli)))
		if _, err := f.WriteAt(b, i*4096); err != nil {
			return err
		}
	}
	return nil
}
