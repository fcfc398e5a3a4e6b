package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// documents is what the daemon knows of its files beyond the log: which of them holds
// something else than what is in force, and why.
type documents struct {
	taking sync.Mutex // held while a document is taken: one at a time

	mu       sync.Mutex
	problems map[messages.StreamID]problem // guarded by mu; none: the file is in force
	restart  []string                      // guarded by mu: keys that a restart is needed for
}

// problem is why what a file holds is not in force: it was rejected, which is on record,
// or it cannot be read.
type problem struct {
	rejected bool
	since    time.Time
	errors   []string
}

// note remembers why the file of stream is not in force, if there are lines that say why,
// and reports whether that is news: a problem that was not known so, or the end of one.
func (s *documents) note(stream messages.StreamID, rejected bool, lines []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(lines) == 0 {
		_, bad := s.problems[stream]
		delete(s.problems, stream)
		return bad
	}
	if p := s.problems[stream]; p.rejected == rejected && slices.Equal(p.errors, lines) {
		return false
	}
	if s.problems == nil {
		s.problems = make(map[messages.StreamID]problem)
	}
	s.problems[stream] = problem{rejected: rejected, since: time.Now(), errors: lines}
	return true
}

func (s *documents) needRestart(keys []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := !slices.Equal(s.restart, keys)
	s.restart = keys
	return news && len(keys) > 0
}

// read returns the problem with the file of stream, if there is one.
func (s *documents) read(stream messages.StreamID) (problem, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.problems[stream]
	return p, ok
}

func (s *documents) restartFor() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.restart)
}

// takeDocuments puts the configuration and the policy of the files into force. At the
// first start a bad one refuses the start; later the last good one stays in force and
// the rejection is on record (design.md, section 7).
func (d *Daemon) takeDocuments(ctx context.Context) error {
	var err error
	switch {
	case d.cfg.File != "":
		err = d.takeSection(ctx)
	case d.cfg.Section != nil:
		err = d.replaceSection(ctx, *d.cfg.Section)
	}
	if err != nil {
		return err
	}
	d.tune(d.views.Section())
	if d.cfg.Policy != "" {
		doc, err := readLimited(d.cfg.Policy, policy.MaxDocumentBytes)
		return d.takePolicyFile(ctx, doc, err)
	}
	return nil
}

// takeSection takes what gatehouse.yaml said when the program started.
func (d *Daemon) takeSection(ctx context.Context) error {
	if problems := d.cfg.Problems; len(problems) > 0 {
		return d.reject(ctx, d.cfg.Document, problems)
	}
	return d.replaceSection(ctx, d.cfg.Settings.ClientDeviceAuth)
}

// origin is how the log names where the section is from: gatehouse.yaml, or the program.
func (d *Daemon) origin() string {
	if d.cfg.File == "" {
		return d.cfg.Mode
	}
	return filepath.Base(d.cfg.File)
}

// replaceSection puts a section into force, and the device groups in it, unless they
// stand in a file of their own.
func (d *Daemon) replaceSection(ctx context.Context, s config.Section) error {
	doc, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("print the section: %w", err)
	}
	c := messages.ReplaceConfig{Document: doc, Source: messages.Source_SOURCE_FILE, Origin: d.origin()}
	if err := d.take(ctx, c, d.views.HasConfig()); err != nil || d.cfg.Policy != "" {
		return err
	}
	groups := []byte(s.DeviceGroups)
	if groups == nil {
		if !d.views.HasPolicy() {
			return nil
		}
		groups = []byte("{}") // none denies everything, also where there were some (client-device-auth spec 1.3)
	}
	return d.take(ctx, messages.ReplacePolicy{Document: groups, Source: messages.Source_SOURCE_FILE, Origin: d.origin()}, d.views.HasPolicy())
}

// reject puts on record why gatehouse.yaml cannot be used.
func (d *Daemon) reject(ctx context.Context, doc []byte, lines []string) error {
	return d.take(ctx, messages.RejectConfig{Document: doc, Origin: d.origin(), Errors: lines}, d.views.HasConfig())
}

func (d *Daemon) takePolicyFile(ctx context.Context, doc []byte, err error) error {
	if err != nil {
		if !d.views.HasPolicy() {
			return err
		}
		d.unreadable(messages.StreamPolicy, d.cfg.Policy, err)
		return nil
	}
	name := filepath.Base(d.cfg.Policy)
	if parsed, err := policy.Parse(doc, policy.Options{File: name}); err == nil {
		for _, w := range parsed.Warnings {
			d.logger.Warn("policy", "warning", w.Error())
		}
	}
	return d.take(ctx, messages.ReplacePolicy{Document: doc, Source: messages.Source_SOURCE_FILE, Origin: name}, d.views.HasPolicy())
}

// unreadable notes that there is nothing to judge.
func (d *Daemon) unreadable(stream messages.StreamID, file string, err error) {
	if d.documents.note(stream, false, []string{err.Error()}) {
		d.logger.Error("file cannot be read: what it held stays in force", "file", file, "error", err)
	}
}

// take submits a document. A rejected one is an error unless there is a former one.
func (d *Daemon) take(ctx context.Context, c messages.Command, former bool) error {
	reply, err := d.sys.Do(ctx, c, messages.Cause{})
	if isBusy(err) && former && d.answering.Load() == nil {
		d.logger.Error("document not taken: the former one stays in force until there is room", "stream", string(c.Target()), "error", err)
		return nil // the files are looked at again once all is up
	}
	if err != nil {
		return err
	}
	rejected, _ := reply.(messages.Rejected)
	news := d.documents.note(c.Target(), true, rejected.Errors)
	if len(rejected.Errors) > 0 && !former {
		return errors.New(strings.Join(rejected.Errors, "\n"))
	}
	if !news {
		return nil
	}
	for _, line := range rejected.Errors {
		d.logger.Error("document rejected: the former one stays in force", "error", line)
	}
	if len(rejected.Errors) == 0 {
		d.logger.Info("document good again: it is in force", "stream", string(c.Target()))
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

// watchFiles takes the documents anew whenever their files change.
func (d *Daemon) watchFiles(context.Context) error {
	if d.cfg.File != "" {
		d.onClose(watchFile(d.cfg.File, config.DocumentBytesMax, d.logger, d.changed(d.cfg.File, d.takeFile)))
	}
	if d.cfg.Policy != "" {
		d.onClose(watchFile(d.cfg.Policy, policy.MaxDocumentBytes, d.logger, d.changed(d.cfg.Policy, d.takePolicyFile)))
	}
	return nil
}

// changed makes what hears of a file's changes: one at a time over both files, and an
// append that hangs is given up. What is not taken is to be told again.
func (d *Daemon) changed(file string, take func(context.Context, []byte, error) error) func([]byte, error) bool {
	return func(doc []byte, err error) (taken bool) {
		d.documents.taking.Lock()
		defer d.documents.taking.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err = take(ctx, doc, err); err == nil {
			return true
		}
		again := isBusy(err) || ctx.Err() != nil
		d.logger.Error("file not taken: what was in force stays so", "file", file, "again", again, "error", err)
		return !again
	}
}

// takeFile takes gatehouse.yaml as it is now. It is in force as a whole or not at all,
// but for the keys that are read at the start only.
func (d *Daemon) takeFile(ctx context.Context, doc []byte, err error) error {
	if err != nil {
		d.unreadable(messages.StreamConfig, d.cfg.File, err)
		return nil
	}
	previous := d.views.Section()
	f, warnings, err := config.ParseFile(doc, &previous)
	if err != nil {
		config.InFile(d.origin(), policy.ErrorsOf(err))
		return d.reject(ctx, doc, strings.Split(err.Error(), "\n"))
	}
	config.InFile(d.origin(), warnings)
	for _, w := range warnings {
		d.logger.Warn("configuration", "warning", w.Error())
	}
	if keys := config.NeedRestart(d.cfg.Settings, f); d.documents.needRestart(keys) {
		d.logger.Warn("keys changed that are read at the start only: restart Gatehouse to use them", "file", d.cfg.File, "keys", strings.Join(keys, " "))
	}
	if next := f.ClientDeviceAuth.CertificateAuthority; previous.CertificateAuthority.Reconfigures(next) {
		d.logger.Info("the authority is replaced by plan: both are published for a while", "ca_type", next.CAType, "custom", next.Custom())
	}
	return d.replaceSection(ctx, f.ClientDeviceAuth)
}
