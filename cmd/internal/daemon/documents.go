package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// takeDocuments puts the configuration and the policy of the files into force. At the
// first start a bad one refuses the start; later the last good one stays in force and
// the rejection is on record (design.md, section 7).
func (d *Daemon) takeDocuments(ctx context.Context) error {
	if len(d.cfg.Section) > 0 {
		if err := d.take(ctx, messages.ReplaceConfig{Document: d.cfg.Section, Source: messages.Source_SOURCE_FILE, Origin: d.cfg.Origin}, d.views.HasConfig()); err != nil {
			return err
		}
	}
	d.tune(d.views.Section())
	if d.cfg.Policy != "" {
		return d.takePolicyFile(ctx)
	}
	if groups := d.views.Section().DeviceGroups; groups != nil {
		return d.take(ctx, messages.ReplacePolicy{Document: groups, Source: messages.Source_SOURCE_FILE, Origin: d.cfg.Origin}, d.views.HasPolicy())
	}
	return nil
}

func (d *Daemon) takePolicyFile(ctx context.Context) error {
	doc, err := readLimited(d.cfg.Policy, policy.MaxDocumentBytes)
	if err != nil {
		if d.views.HasPolicy() {
			d.logger.Error("policy file cannot be read: the former policy stays in force", "file", d.cfg.Policy, "error", err)
			return nil
		}
		return err
	}
	name := filepath.Base(d.cfg.Policy)
	if parsed, err := policy.Parse(doc, policy.Options{File: name}); err == nil {
		for _, w := range parsed.Warnings {
			d.logger.Warn("policy", "warning", w.Error())
		}
	}
	return d.take(ctx, messages.ReplacePolicy{Document: doc, Source: messages.Source_SOURCE_FILE, Origin: name}, d.views.HasPolicy())
}

// take submits a document. A rejected one is an error unless there is a former one.
func (d *Daemon) take(ctx context.Context, c messages.Command, former bool) error {
	reply, err := d.sys.Do(ctx, c, messages.Cause{})
	if err != nil {
		return err
	}
	rejected, ok := reply.(messages.Rejected)
	if !ok {
		return nil
	}
	if !former {
		return errors.New(strings.Join(rejected.Errors, "\n"))
	}
	for _, line := range rejected.Errors {
		d.logger.Error("document rejected: the former one stays in force", "error", line)
	}
	return nil
}

// readLimited reads a regular file of at most max bytes: a pipe or a device has no end to
// wait for.
func readLimited(path string, max int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	doc, err := io.ReadAll(io.LimitReader(f, max+1)) // it may grow meanwhile
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(doc)) > max {
		return nil, fmt.Errorf("%s: more than %d bytes", path, max)
	}
	return doc, nil
}

// settle is how long a file must be quiet before it is read: editors write in steps.
const settle = 50 * time.Millisecond

// watcher reloads the policy file when it changes. It watches the folder, since editors
// replace the file.
type watcher struct {
	fs *fsnotify.Watcher
	wg sync.WaitGroup
}

func (d *Daemon) watchFiles(context.Context) error {
	if d.cfg.Policy == "" {
		return nil
	}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", d.cfg.Policy, err)
	}
	if err := fs.Add(filepath.Dir(d.cfg.Policy)); err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w", d.cfg.Policy, err), fs.Close())
	}
	w := &watcher{fs: fs}
	w.wg.Go(func() { d.watch(w) })
	d.onClose(func() {
		_ = fs.Close() // ends watch; there is nothing to save
		w.wg.Wait()
	})
	return nil
}

func (d *Daemon) watch(w *watcher) {
	name := filepath.Clean(d.cfg.Policy)
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if filepath.Clean(e.Name) == name && !e.Has(fsnotify.Chmod) {
				quiet.Reset(settle)
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			d.logger.Warn("policy file may have changed unseen; reading it", "error", err)
			quiet.Reset(settle)
		case <-quiet.C:
			d.reloadPolicy()
		}
	}
}

// reloadPolicy takes the changed file, or keeps the former policy and says why.
func (d *Daemon) reloadPolicy() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := d.takePolicyFile(ctx); err != nil {
		d.logger.Error("policy not reloaded: the former one stays in force", "file", d.cfg.Policy, "error", err)
	}
}
