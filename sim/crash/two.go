package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// refusedWithin is how soon a second process must have been told that the log is in use.
const refusedWithin = time.Second

// unlockAll is bugUnlocks: the process lets go of its locks and goes on.
func unlockAll(dir string) error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		var fd int
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if _, errNumber := fmt.Sscan(e.Name(), &fd); err == nil && errNumber == nil && (target == dir || target == filepath.Join(dir, "LOCK")) {
			if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
				return err
			}
		}
	}
	return nil
}

// twoProcesses is A12: a second process on a log in use is told so and touches nothing,
// also when the first is stopped, and when LOCK is another file than it was.
func twoProcesses(c *campaign) error {
	before := []struct {
		name string
		do   func(l *life, dir string) error
	}{
		{"the holder runs", func(*life, string) error { return nil }},
		{"the holder is stopped", func(l *life, _ string) error { return stopped(l) }},
		{"LOCK was put back from a copy", func(l *life, dir string) error {
			lock := filepath.Join(dir, "LOCK")
			return errors.Join(copyFile(lock, lock+".copy"), os.Rename(lock+".copy", lock))
		}},
		{"LOCK was removed", func(l *life, dir string) error { return os.Remove(filepath.Join(dir, "LOCK")) }},
	}
	c.each(c.pick(20, 200), func(i int) error {
		how := before[i%len(before)]
		cfg, err := c.config("two", i%3 == 0)
		if err != nil {
			return err
		}
		l, err := c.begin(cfg)
		if err != nil {
			return err
		}
		defer l.kill()
		if err := l.order(order{Op: "load", N: 4, Bytes: 300, Seed: uint64(i + 1)}); err != nil {
			return err
		}
		l.await(c.ctx, 20)
		if err := how.do(l, cfg.Dir); err != nil {
			return err
		}
		c.count(func(r *Row) { r.Faults++ })
		if err := c.second(l, cfg, how.name == "the holder is stopped"); err != nil {
			return fmt.Errorf("%s: %w", how.name, err)
		}
		_ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGCONT)
		l.await(c.ctx, len(l.told())+20) // it goes on
		l.kill()
		_, err = c.look(cfg, l.told())
		return err
	})
	if !c.night && c.bug == "" {
		return c.secondDaemon()
	}
	return c.ctx.Err()
}

// stopped stops a process, and waits until it is.
func stopped(l *life) error {
	pid := l.cmd.Process.Pid
	if err := syscall.Kill(-pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for range 1000 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		var id int
		var name, state string
		if _, err := fmt.Sscan(string(text), &id, &name, &state); err == nil && state == "T" {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("it does not stop")
}

// second starts another process on the log that l holds.
func (c *campaign) second(l *life, cfg nodeConfig, still bool) error {
	at := cfg.Dir + ".before"
	if still { // nothing else moves
		if err := copyTree(cfg.Dir, at); err != nil {
			return err
		}
	}
	cfg.Bug = bugNone
	began := time.Now()
	other, err := c.begin(cfg)
	took := time.Since(began)
	if other != nil {
		defer other.kill()
	}
	switch {
	case err == nil:
		c.count(func(r *Row) { r.Unseen++ })
		return errors.New("a second process has opened the log")
	case other.code() != exitInUse:
		c.count(func(r *Row) { r.Unseen++ })
		return fmt.Errorf("exit code %d, want %d: %w", other.code(), exitInUse, err)
	case took > refusedWithin*time.Duration(1+9*boolInt(c.wide > 1)): // with others beside it the machine is slow
		return fmt.Errorf("the second process was told after %v", took)
	}
	if still {
		if err := sameBut(at, cfg.Dir, ""); err != nil {
			c.count(func(r *Row) { r.Unseen++ })
			return fmt.Errorf("the second process changed the directory: %w", err)
		}
	}
	c.count(func(r *Row) { r.Seen++ })
	select {
	case <-l.ended:
		return fmt.Errorf("the first process ended: %v", l.exit)
	default:
		return nil
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
