package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// Free space at the log: with less than failed nothing new is granted, with less than
// warned it is near.
const (
	freeFailed = 64 << 20
	freeWarned = 512 << 20
	inodesMin  = 1000
	// verifyTimeout is for reading a stopped daemon's log; a long one is verified in part. No
	// daemon can start meanwhile.
	verifyTimeout = 3 * time.Second
)

type status = daemon.Status

func (h *Host) authorities() string { return daemon.CAFile(h.Dir) }

// daemon passes on what a running daemon says is wrong.
func (h *Host) daemon(ctx context.Context) []Result {
	if h.Dir == "" {
		return []Result{unknown("daemon", "no directory of a daemon is named")}
	}
	s, err := h.Status(ctx)
	if errors.Is(err, ErrStopped) {
		return []Result{unknown("daemon", "it is stopped")}
	}
	if err != nil {
		return []Result{bad(Failed, "daemon", "an answer", []string{"see its log; restart it"}, "it does not answer: %v", err)}
	}
	list := []Result{ok("daemon", "version %s answers: %d events, %d things, %d sessions", s.Version, s.Events, s.Things, s.Sessions)}
	if (h.Dev || h.Config.Cloud.Configured()) && !s.CloudReachable {
		list = append(list, bad(Failed, "daemon.cloud", "a cloud that answers", []string{"see the checks of endpoints and of the cloud here"}, "the daemon does not reach the cloud: only devices that are trusted already are let in"))
	}
	if a := s.Addresses; a != nil && !a.Connected {
		list = append(list, bad(Warning, "daemon.addresses", "a connection to AWS IoT", []string{"see endpoint.data and cloud.policies here"}, "the core does not hear of new addresses: %s", a.Problem))
	}
	if c := s.Credentials; c != nil {
		list = append(list, tokenExchange(c))
	}
	for _, d := range s.Documents {
		if d.Problem != nil {
			list = append(list, bad(Failed, "daemon.configuration", "a document that can be used", []string{"correct it: it is taken up at once"}, "%s: %s", d.Document, strings.Join(d.Problem.Errors, "; ")))
		}
	}
	if len(s.RestartFor) > 0 {
		list = append(list, bad(Warning, "daemon.restart", "", []string{"restart the daemon when it suits"}, "changed, and in force at a restart only: %s", strings.Join(s.RestartFor, ", ")))
	}
	for _, w := range s.Warnings {
		list = append(list, bad(Warning, "daemon.warning", "", []string{"gatehouse status, gatehouse ca show and gatehouse credentials tell more"}, "%s", w))
	}
	return list
}

// tokenExchange judges the credentials that the daemon hands out.
func tokenExchange(c *daemon.Credentials) Result {
	const name = "daemon.credentials"
	do := []string{"see cloud.credentials and endpoint.credentials here", "gatehouse credentials"}
	switch {
	case c.RoleAlias == "":
		return unknown(name, "no role alias is configured (cloud.roleAlias)")
	case c.Until == nil:
		return bad(Failed, name, "credentials of role alias "+c.RoleAlias, do, "the daemon has none: %s", c.Problem)
	case c.Problem != "":
		return bad(Warning, name, "", do, "the daemon has some until %s, and gets no newer ones: %s", c.Until.UTC().Format(time.RFC3339), c.Problem)
	}
	return ok(name, "the daemon has those of %s, until %s", c.RoleAlias, c.Until.UTC().Format(time.RFC3339))
}

// log checks the event log and the space it has.
func (h *Host) log(ctx context.Context) []Result {
	if h.Dir == "" {
		return []Result{unknown("log", "no directory of a daemon is named")}
	}
	return []Result{h.verify(ctx), h.space()}
}

// verify reads a stopped daemon's log. One in use is the daemon's, which verified its tail
// when it opened it.
func (h *Host) verify(ctx context.Context) Result {
	const name = "log.verify"
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	if s, err := h.Status(ctx); !errors.Is(err, ErrStopped) {
		if err != nil {
			return unknown(name, "the daemon has it, and does not answer: %v", err)
		}
		return ok(name, "in use, %d events; `gatehouse log verify --live` reads all of it", s.Events)
	}
	log, err := daemon.OpenReadOnly(h.Dir)
	switch {
	case errors.Is(err, eventlog.ErrInUse):
		return unknown(name, "a daemon is starting or ending: %v", err)
	case errors.Is(err, eventlog.ErrCorrupt):
		return bad(Failed, name, "a log that is whole", []string{"bring back a copy that verifies, and keep this one as evidence: gatehouse log verify " + h.Dir}, "%v", err)
	case errors.Is(err, eventlog.ErrNewer):
		return bad(Failed, name, "a log that this version can read", []string{"use the version that wrote it, or a later one"}, "%v", err)
	case err != nil:
		return unknown(name, "%v", err)
	}
	defer func() { _ = log.Close() }()
	var done, total uint64
	report, err := daemon.VerifyLog(ctx, log, nil, daemon.VerifyRequest{}, func(d, t uint64) { done, total = d, t })
	switch {
	case ctx.Err() != nil:
		return ok(name, "opens, and the first %d of %d events are whole; `gatehouse log verify %s` reads all of it", done, total, h.Dir)
	case err != nil:
		return unknown(name, "%v", err)
	case report.Corrupt != "":
		return bad(Failed, name, "a log that is whole", []string{"bring back a copy that verifies, and keep this one as evidence: gatehouse log verify " + h.Dir}, "%s", report.Corrupt)
	}
	return ok(name, "%d events, root %s", report.Events, report.Root)
}

// space checks what is free on the log's file system.
func (h *Host) space() Result {
	const name = "log.space"
	path := daemon.LogDir(h.Dir)
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		if path = h.Dir; unix.Statfs(path, &st) != nil {
			return unknown(name, "%v", err)
		}
	}
	free := st.Bavail * uint64(st.Bsize)
	expected := fmt.Sprintf("%d MiB or more", freeWarned>>20)
	do := []string{"free space on the disk of " + path}
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return bad(Failed, name, "a disk that can be written", []string{"see why it is read-only: dmesg"}, "the disk of %s is mounted read-only", path)
	case free < freeFailed:
		return bad(Failed, name, expected, do, "%d MiB are free: nothing new is granted", free>>20)
	case free < freeWarned:
		return bad(Warning, name, expected, do, "%d MiB are free", free>>20)
	case st.Files > 0 && st.Ffree < inodesMin:
		return bad(Warning, name, fmt.Sprintf("%d inodes or more", inodesMin), do, "%d inodes are free", st.Ffree)
	}
	return ok(name, "%d MiB are free", free>>20)
}
