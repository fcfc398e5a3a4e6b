package daemon

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How a watched file is read.
const (
	// settle is how long it must be quiet: editors write in steps.
	settle = 50 * time.Millisecond
	// settleMax bounds that, where something goes on changing beside it.
	settleMax = time.Second
	// unfinishedWait is how long a file that looks half written must stay the same.
	unfinishedWait = time.Second
	// lookEvery is how often its state is compared where no event tells: on a network file
	// system, or after its folder was replaced.
	lookEvery = 5 * time.Second
)

// errEmpty is a file with nothing in it: what an editor leaves that truncates before it
// writes, or that found the disk full.
var errEmpty = errors.New("the file is empty; to mean nothing write {}")

// fileWatch follows what a path leads to: the file may be written in place, replaced by
// renaming, be a link, or stand behind one (Kubernetes swaps a linked folder), and it may
// be gone for a while. Folders are watched, since a watch on a file ends with the file.
type fileWatch struct {
	path  string // absolute
	max   int64
	taken func(doc []byte, err error) bool // hears each change, also that it cannot be read; false: it is to hear it again

	events *fsnotify.Watcher // nil: this system gives none
	names  []string          // the entries whose change may change what path leads to
	wg     sync.WaitGroup
	quit   chan struct{}

	stat    fileState
	told    [sha256.Size]byte // digest of what was told last
	failed  string            // the error that was told last; empty: the file was fine
	pending [sha256.Size]byte // digest of what looks half written
}

// fileState tells a file from what was there before without reading it.
type fileState struct {
	info os.FileInfo // nil: it cannot be looked at
}

func (a fileState) same(b fileState) bool {
	if a.info == nil || b.info == nil {
		return a.info == nil && b.info == nil
	}
	return os.SameFile(a.info, b.info) && a.info.Size() == b.info.Size() && a.info.ModTime().Equal(b.info.ModTime()) && a.info.Mode() == b.info.Mode()
}

// watchFile follows path until stop is called; stop waits until taken has returned. It
// begins with a look: the file may have changed since it was read.
func watchFile(path string, max int64, logger *slog.Logger, taken func([]byte, error) bool) (stop func()) {
	w := &fileWatch{path: filepath.Clean(path), max: max, taken: taken, quit: make(chan struct{})}
	events, err := fsnotify.NewWatcher()
	if err != nil {
		logger.Warn("changes of a file are noticed late", "file", path, "wait_ms", lookEvery.Milliseconds(), "error", err)
	} else {
		w.events = events
	}
	w.follow()
	w.wg.Go(w.run)
	return func() {
		close(w.quit)
		w.wg.Wait()
		if w.events != nil {
			_ = w.events.Close() // there is nothing to save
		}
	}
}

func (w *fileWatch) run() {
	var events chan fsnotify.Event
	var problems chan error
	if w.events != nil {
		events, problems = w.events.Events, w.events.Errors
	}
	look := time.NewTimer(settle)
	defer look.Stop()
	poll := time.NewTicker(lookEvery)
	defer poll.Stop()
	var since time.Time // the first event that was not looked into; zero: none
	soon := func() {
		if since.IsZero() {
			since = time.Now()
		}
		look.Reset(max(0, min(settle, time.Until(since.Add(settleMax)))))
	}
	for {
		select {
		case <-w.quit:
			return
		case e := <-events:
			if slices.Contains(w.names, filepath.Clean(e.Name)) {
				soon()
			}
		case <-problems: // events were lost
			soon()
		case <-poll.C:
			w.follow()
			if info, err := os.Stat(w.path); !w.stat.same(fileState{infoOr(info, err)}) {
				soon()
			}
		case <-look.C:
			since = time.Time{}
			if wait := w.look(); wait > 0 {
				look.Reset(wait)
			}
		}
	}
}

func infoOr(info os.FileInfo, err error) os.FileInfo {
	if err != nil {
		return nil
	}
	return info
}

// look reads the file and tells what is new. It returns how long to wait for another
// look; 0: none is due.
func (w *fileWatch) look() time.Duration {
	w.follow()
	info, err := os.Stat(w.path)
	w.stat = fileState{infoOr(info, err)}
	doc, err := readLimited(w.path, w.max)
	digest := sha256.Sum256(doc)
	if err == nil && !finished(doc) && digest != w.told && digest != w.pending {
		w.pending = digest
		return unfinishedWait
	}
	if err == nil && len(bytes.TrimSpace(doc)) == 0 {
		err = errEmpty
	}
	if err != nil {
		w.pending = [sha256.Size]byte{}
		if w.failed != err.Error() {
			w.failed = err.Error()
			w.taken(nil, err) // there is nothing to be told again
		}
		return 0
	}
	if digest == w.told && w.failed == "" {
		return 0
	}
	w.told, w.failed = digest, ""
	if !w.taken(doc, nil) {
		w.told = [sha256.Size]byte{}
		return lookEvery
	}
	return 0
}

// finished reports whether doc looks whole: it ends with a line. One that does not is as
// likely cut where a buffer ended.
func finished(doc []byte) bool { return len(doc) > 0 && doc[len(doc)-1] == '\n' }

// follow watches the folders of all that decides what path leads to.
func (w *fileWatch) follow() {
	w.names = waypoints(w.path)
	if w.events == nil {
		return
	}
	folders := make([]string, 0, len(w.names))
	for _, name := range w.names {
		folders = append(folders, filepath.Dir(name))
	}
	for _, old := range w.events.WatchList() {
		if !slices.Contains(folders, old) {
			_ = w.events.Remove(old) // it is gone, or it will not be asked about
		}
	}
	for _, folder := range folders {
		_ = w.events.Add(folder) // one that cannot be watched is looked at now and then
	}
}

// waypoints lists the directory entries that decide what path leads to: itself, and each
// symbolic link on the way.
func waypoints(path string) []string {
	const linksMax = 40 // as the kernel has it
	found := []string{path}
	for range linksMax {
		link, rest, ok := firstLink(path)
		if !ok {
			break
		}
		target, err := os.Readlink(link)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
		found = append(found, link, path)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// firstLink finds the first component of path that is a symbolic link, and what follows
// it.
func firstLink(path string) (link, rest string, ok bool) {
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != filepath.Separator {
			continue
		}
		info, err := os.Lstat(path[:end])
		if err != nil {
			return "", "", false
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return path[:end], strings.TrimPrefix(path[end:], string(filepath.Separator)), true
		}
	}
	return "", "", false
}
