package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// An image is a log's directory, with keys beside it, and what was acknowledged of it.
type image struct {
	name string
	cfg  nodeConfig
	acks []ack
}

// memoryDir makes a directory in memory, where the machine has such, for what is opened
// thousands of times; what is not about disks needs none.
func (c *campaign) memoryDir(name string) (string, error) {
	parent, err := os.MkdirTemp("/dev/shm", "gatehouse-crash-"+name+"-")
	if err != nil {
		return c.temp(name)
	}
	c.onEnd(func() error { return os.RemoveAll(parent) })
	return parent, nil
}

// images makes directories as a crash and an orderly end leave them: "crashed" has a tail
// in the journal that is in Badger's write-ahead log as well; "closed" has none; "tail" has
// one that Badger knows nothing of.
func (c *campaign) images(host bool, events int) (list []image, err error) {
	dir, err := c.memoryDir("image")
	if err != nil {
		return nil, err
	}
	cfg := small
	cfg.Host, cfg.Dir = host, filepath.Join(dir, "live", "log")
	take := func(name string, acks []ack) error {
		im := image{name: name, cfg: cfg, acks: acks}
		im.cfg.Dir = filepath.Join(dir, name, "log")
		list = append(list, im)
		return copyTree(filepath.Dir(cfg.Dir), filepath.Dir(im.cfg.Dir))
	}
	var acks []ack
	for round, name := range []string{"", "crashed", "closed"} { // the first is for tables
		l, err := c.begin(cfg)
		if err != nil {
			return nil, err
		}
		defer l.kill()
		if err := l.must(order{Op: "load", N: 4, Bytes: 300, Stop: events, Seed: uint64(round + 1)}, "loaded"); err != nil {
			return nil, err
		}
		if err := l.must(order{Op: "snapshots"}, "snapshots"); err != nil {
			return nil, err
		}
		acks = append(acks, l.told()...)
		if name == "crashed" {
			if err := l.must(order{Op: "fed"}, "fed"); err != nil { // else the tail is in the journal alone: see eraseTail
				return nil, err
			}
			if err := take(name, acks[:len(acks):len(acks)]); err != nil {
				return nil, err
			}
		}
		if err := l.end(); err != nil {
			return nil, err
		}
		if name == "closed" {
			if err := take(name, acks[:len(acks):len(acks)]); err != nil {
				return nil, err
			}
		}
	}
	if c.bug == bugForgets {
		list[0].acks = acks // it opens, with a part of them
	}
	return list, nil
}

// fresh copies an image to be damaged, and says where.
func (im image) fresh(c *campaign) (nodeConfig, func(), error) {
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Dir(filepath.Dir(im.cfg.Dir))), im.name+"-")
	if err != nil {
		return im.cfg, nil, err
	}
	c.onEnd(func() error { return os.RemoveAll(dir) })
	cfg := im.cfg
	cfg.Dir = filepath.Join(dir, "log")
	return cfg, func() { _ = os.RemoveAll(dir) }, copyTree(filepath.Dir(im.cfg.Dir), dir)
}

// copyTree copies a directory, which may be in use, with its holes and modes.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for at := int64(0); ; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole is left
			return errors.Join(out.Truncate(fi.Size()), out.Chmod(fi.Mode().Perm()))
		}
		if err == nil {
			at, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(in, data, at-data)); err != nil {
			return err
		}
	}
}

// filesOf lists the files below dir, relative to it.
func filesOf(dir string) (list []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, dir+string(filepath.Separator)))
		}
		return err
	})
	return list, err
}

// sameBut compares two directories, all but one file; "" for none.
func sameBut(a, b, but string) error {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		names, err := filesOf(pair[0])
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == but {
				continue
			}
			x, errX := os.ReadFile(filepath.Join(pair[0], name))
			y, errY := os.ReadFile(filepath.Join(pair[1], name))
			if errX != nil || errY != nil || !bytes.Equal(x, y) {
				return fmt.Errorf("%s differs", name)
			}
		}
	}
	return nil
}
