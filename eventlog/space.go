package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSpace is the default of Options.FreeSpace: what an unprivileged process may
// still use on the file system of dir.
func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

const (
	ballastName       = "ballast"
	compactionMax     = 128 << 20 // what Badger's compactions write before they delete
	memTablesInFlight = 2         // one being filled, one being flushed: each grows a file
)

// guard keeps Badger from ever meeting a full disk: it writes through memory maps, so
// it would be killed by SIGBUS, which Go cannot catch. Before each transaction there
// must be room for all that Badger may do until the next: fill a memtable's file,
// flush one to a table, and rewrite what its compactions may pick.
//
// Below that, Badger is not fed (stalled) and only the journal, which is preallocated,
// goes on. Records and grants are refused earlier (low): what is left is for what
// restricts. The ballast is given up when the journal is full of that, or for opening
// the log again, which must make a working copy of Badger.
type guard struct {
	dir      string
	free     func(dir string) (uint64, error)
	log      *slog.Logger
	memTable uint64
	ballast  int64 // size it should have, 0 for none

	low       atomic.Bool
	stalled   atomic.Bool // Badger is not fed; set by the feeder
	desperate atomic.Bool // the journal is full: give up the ballast

	mu       sync.Mutex
	lastFree uint64 // guarded by mu
	need     uint64 // guarded by mu; for Badger's next transaction
	released bool   // guarded by mu: the ballast is gone
}

func newGuard(dir string, o Options, ballastBytes uint64) *guard {
	g := &guard{dir: dir, free: o.FreeSpace, log: o.Logger, memTable: uint64(o.MemTableBytes), ballast: int64(ballastBytes)}
	g.need = memTablesInFlight * g.memTable
	fi, err := os.Stat(g.ballastPath())
	g.released = err != nil || fi.Size() != g.ballast
	return g
}

func (g *guard) ballastPath() string { return filepath.Join(g.dir, ballastName) }

// poll looks at the disk and decides whether space is low.
func (g *guard) poll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look()
}

// look is poll with mu held. It returns what is free.
func (g *guard) look() uint64 {
	free, err := g.free(g.dir)
	if err != nil { // not knowing counts as nothing left
		g.log.Error("cannot tell the free space", "error", err)
		free = 0
	}
	g.lastFree = free
	low := g.released && g.ballast > 0 || free < g.need+g.memTable
	if g.low.Swap(low) != low {
		g.log.Warn("free space", "low", low, "free_bytes", free, "needed_bytes", g.need+g.memTable)
	}
	return free
}

// check is asked before Badger writes a transaction while its tables take lsmBytes.
func (g *guard) check(lsmBytes int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.need = memTablesInFlight*g.memTable + min(uint64(lsmBytes), compactionMax)
	free := g.look()
	switch {
	case free < g.need:
		if g.desperate.Load() {
			free = g.release(free)
		}
		if free < g.need {
			return fmt.Errorf("%w: %d bytes free, Badger may need %d", ErrFull, free, g.need)
		}
	case g.released && g.ballast > 0 && free >= g.need+g.memTable+uint64(g.ballast):
		g.restore()
		g.look()
	}
	return nil
}

// release gives up the ballast and returns what is free then.
func (g *guard) release(free uint64) uint64 {
	if g.released {
		return free
	}
	if err := os.Remove(g.ballastPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.Error("cannot release the ballast", "error", err)
		return free
	}
	g.released = true
	g.log.Warn("released the ballast: free some space on the disk", "ballast_bytes", g.ballast, "free_bytes", free)
	return g.look()
}

// restore puts the ballast back.
func (g *guard) restore() {
	if err := createBallast(g.dir, g.ballast); err != nil {
		g.log.Warn("cannot restore the ballast", "error", err)
		return
	}
	g.released = false
	g.desperate.Store(false)
}

// createBallast takes size bytes of disk out of use.
func createBallast(dir string, size int64) error {
	path := filepath.Join(dir, ballastName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("create ballast: %w", err)
	}
	defer f.Close()
	if err := fillZero(f, size); err != nil {
		return errors.Join(fmt.Errorf("create ballast: %w", err), os.Remove(path))
	}
	return nil
}

// roomToClose reports whether Badger can flush its memtables, which Close makes it do.
// The ballast stays for the next open.
func (g *guard) roomToClose() error { return g.room(memTablesInFlight*g.memTable, false) }

// roomToOpen reports whether need bytes are free, without the ballast if that must be.
func (g *guard) roomToOpen(need uint64) error { return g.room(need, true) }

func (g *guard) room(need uint64, release bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	free := g.look()
	if free < need && release {
		free = g.release(free)
	}
	if free < need {
		return fmt.Errorf("%w: %d bytes free on the disk of %s, %d needed", ErrFull, free, g.dir, need)
	}
	return nil
}

// roomBeside reports whether size bytes can be written and everything is accepted still.
func (g *guard) roomBeside(size uint64) error {
	g.mu.Lock()
	need := g.need + g.memTable + size
	g.mu.Unlock()
	return g.room(need, false)
}

// wanted is how many more bytes must be free for everything to be accepted again.
func (g *guard) wanted() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	want := g.need + g.memTable
	if g.released {
		want += uint64(g.ballast)
	}
	return want - min(want, g.lastFree)
}

func (g *guard) status() (free uint64, low, ballast bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lastFree, g.low.Load(), !g.released
}

// diskBytes is what a file takes on disk: less than its length where it has holes.
func diskBytes(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Blocks) * 512
	}
	return uint64(fi.Size())
}
