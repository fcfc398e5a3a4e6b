package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file system of one's own, mounted at dir.
type disk struct {
	dir     string
	image   string // the block device's content; "": none
	unmount func() error
}

// tmpfs mounts a file system in memory of so many MiB.
func (c *campaign) tmpfs(mib int) (*disk, error) {
	dir, err := c.temp("tmpfs")
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return &disk{dir: dir, unmount: c.onEnd(func() error { return unmount(dir) })}, nil
}

// ext4 makes a disk of so many MiB with an ext4 on it, and mounts it.
func (c *campaign) ext4(mib int) (*disk, error) {
	dir, err := c.memoryDir("disk")
	if err != nil {
		return nil, err
	}
	image := filepath.Join(dir, "image")
	if err := makeExt4(image, mib); err != nil {
		return nil, err
	}
	return c.mount(image)
}

func makeExt4(image string, mib int) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(mib)<<20), f.Close()); err != nil {
		return err
	}
	// No lazy initialisation: nothing shall write but what is looked at. No reserve for root.
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// mount mounts an image through a loop device, which goes with the mount.
func (c *campaign) mount(image string) (*disk, error) {
	dir, err := c.temp("mount")
	if err != nil {
		return nil, err
	}
	var out []byte
	for range 20 { // two that look for a free loop device may find the same
		if out, err = exec.Command("mount", "-t", "ext4", "-o", "loop", image, dir).CombinedOutput(); err == nil {
			return &disk{dir: dir, image: image, unmount: c.onEnd(func() error { return unmount(dir) })}, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("mount %s: %w: %s", image, err, out)
}

// unmount takes a file system away, and waits until nobody is in it any more.
func unmount(dir string) error {
	var err error
	for range 200 {
		if err = unix.Unmount(dir, 0); err == nil || errors.Is(err, unix.EINVAL) { // not mounted
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("unmount %s: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h).
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// cutPower ends all writing to the disk at once: what is not on it is lost.
func (d *disk) cutPower() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	return nil
}
