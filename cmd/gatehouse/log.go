package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// stopOrLive is what to do about a log that a daemon uses.
const stopOrLive = "stop the daemon first, or ask it with --live"

func (a *app) logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Read, verify and measure the event log"}
	var live bool
	var stream string
	var from uint64
	cat := &cobra.Command{
		Use:   "cat [DIR]",
		Short: "Print the records, oldest first",
		Example: example("gatehouse log cat ./gh", "gatehouse log cat --live --dir ./gh --stream device/sensor-1",
			"gatehouse log cat ./gh --json | jq .kind"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.dirArg(args); err != nil {
				return err
			}
			return a.logCat(c.Context(), daemon.RecordsRequest{From: from, Stream: messages.StreamID(stream)}, live)
		},
	}
	cat.Flags().Uint64Var(&from, "from", 0, "first sequence number")
	cat.Flags().StringVar(&stream, "stream", "", "one stream only, such as device/sensor-1")
	var kept string
	verify := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Recompute the whole log: bytes, tree, streams, checkpoints",
		Long: `Recompute the whole log: bytes, Merkle tree, streams, checkpoints. Exit 0 and
"ok: N events, root …"; exit 20 if it is corrupt, 22 if a newer version wrote it, 23 if
a daemon is using it (then --live asks the daemon to verify, which fails if it takes
longer than the daemon has for a request; a stopped daemon's log may take any time).

A log that verifies may still be an older copy that was put back: no look into the
directory can show it. --checkpoint takes what "log checkpoint" printed, kept where
nobody who can write the directory can write: the log must have all events that it
counts, and the same. Exit 20 if not.`,
		Example: example("gatehouse log verify ./gh", "gatehouse log verify --live --dir ./gh", "gatehouse log verify ./gh --checkpoint checkpoint.txt"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.dirArg(args); err != nil {
				return err
			}
			return a.logVerify(c.Context(), kept, live)
		},
	}
	verify.Flags().StringVar(&kept, "checkpoint", "", "a file with a checkpoint that the log must extend")
	checkpoint := &cobra.Command{
		Use:   "checkpoint",
		Short: "Print what the running daemon signs about its log, to be kept elsewhere",
		Long: `Print the log's checkpoint as of now: how many events it has and the root of their
Merkle tree, signed by the daemon (a C2SP tlog-checkpoint; the key is DIR/keys/log.pub).
Whoever keeps it elsewhere can tell later, with "log verify --checkpoint", that no event
up to here was taken away or changed, even if all of the directory was replaced.`,
		Example: example("gatehouse log checkpoint --dir ./gh > checkpoint.txt"),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var r daemon.CheckpointReport
			if err := a.ask(c.Context(), daemon.OpLogCheckpoint, nil, &r); err != nil {
				return err
			}
			return a.show(r, func(w io.Writer) error { _, err := io.WriteString(w, r.Checkpoint); return err })
		},
	}
	stat := &cobra.Command{
		Use: "stat [DIR]", Short: "Count records by kind", Args: cobra.MaximumNArgs(1),
		Example: example("gatehouse log stat ./gh", "gatehouse log stat --live --dir ./gh"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.dirArg(args); err != nil {
				return err
			}
			return a.logStat(c.Context(), live)
		},
	}
	cat.Flags().BoolVar(&live, "live", false, fmt.Sprintf("ask the running daemon, which has %s for each page", askTimeout))
	for _, one := range []*cobra.Command{verify, stat} {
		one.Flags().BoolVar(&live, "live", false, fmt.Sprintf("ask the running daemon, which has %s for all of it", askTimeout))
	}
	c.AddCommand(cat, verify, checkpoint, stat)
	return c
}

// dirArg takes the directory from the arguments, if it is there.
func (a *app) dirArg(args []string) error {
	if len(args) == 1 {
		a.dir = args[0]
	}
	_, err := a.needDir()
	return err
}

func (a *app) logCat(ctx context.Context, q daemon.RecordsRequest, live bool) error {
	if q.Stream != "" {
		if _, err := messages.ParseStreamID(string(q.Stream)); err != nil {
			return err
		}
	}
	if !live {
		return a.logCatStored(ctx, q)
	}
	for {
		var page daemon.Records
		if err := a.ask(ctx, daemon.OpRecords, q, &page); err != nil {
			return err
		}
		for _, line := range page.Records {
			if err := a.printRecord(line); err != nil {
				return err
			}
		}
		if err := daemon.CorruptError(page.Corrupt); err != nil {
			return logError(err, stopOrLive)
		}
		if page.Next == 0 {
			return nil
		}
		q.From = page.Next
	}
}

func (a *app) logCatStored(ctx context.Context, q daemon.RecordsRequest) (err error) {
	log, err := daemon.OpenReadOnly(a.dir)
	if err != nil {
		return logError(err, stopOrLive)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	records := log.Scan(ctx, max(q.From, 1), math.MaxUint64)
	if q.Stream != "" {
		records = log.Read(ctx, q.Stream, 1)
	}
	for rec, err := range records {
		if err != nil {
			return logError(err, stopOrLive)
		}
		if rec.Seq < q.From {
			continue
		}
		line, err := messages.RecordJSON(&rec)
		if err != nil {
			return err
		}
		if err := a.printRecord(line); err != nil {
			return err
		}
	}
	return nil
}

// printRecord prints a record: as JSON a line each, or in columns.
func (a *app) printRecord(line []byte) error {
	if a.json {
		_, err := fmt.Fprintln(a.out, string(line))
		return err
	}
	var r struct {
		Seq                uint64
		Time, Stream, Kind string
		Event              json.RawMessage
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	stream := r.Stream
	if id, ok := messages.StreamID(stream).Certificate(); ok {
		stream = fmt.Sprintf("certificate/%.12s…", id)
	}
	event := string(r.Event)
	if len(event) > 160 {
		event = strings.ToValidUTF8(event[:160], "") + "…"
	}
	_, err := fmt.Fprintf(plain{a.out}, "%6d  %-24s  %-26s  %-20s %s\n", r.Seq, r.Time, stream, r.Kind, event)
	return err
}

func (a *app) logVerify(ctx context.Context, kept string, live bool) error {
	var q daemon.VerifyRequest
	if kept != "" {
		text, err := readFile(kept, checkpointBytesMax)
		if err == nil && len(text) == 0 {
			err = fmt.Errorf("%s is empty", kept)
		}
		if err != nil {
			return fmt.Errorf("--checkpoint: %w", err)
		}
		q.Checkpoint = string(text)
	}
	var report daemon.VerifyReport
	var err error
	if live {
		err = a.ask(ctx, daemon.OpLogVerify, q, &report)
	} else {
		report, err = daemon.VerifyStored(ctx, a.dir, q, a.progress("verifying"))
	}
	if err := errors.Join(daemon.CorruptError(report.Corrupt), err); err != nil {
		return logError(err, stopOrLive)
	}
	return a.show(report, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ok: %d events, root %s\n", report.Events, report.Root)
		if report.Extends != nil && err == nil {
			_, err = fmt.Fprintf(w, "it extends the checkpoint of %d events\n", *report.Extends)
		}
		return err
	})
}

// checkpointBytesMax bounds the file of a checkpoint, which has a few hundred bytes.
const checkpointBytesMax = 2048

// readLog calls read with the log of a stopped daemon.
func (a *app) readLog(read func(eventlog.Log) error) error {
	log, err := daemon.OpenReadOnly(a.dir)
	if err != nil {
		return err
	}
	return errors.Join(read(log), log.Close())
}

// progress is a progress bar on a terminal, and nothing elsewhere.
func (a *app) progress(what string) func(done, total uint64) {
	f, ok := a.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetDescription(what),
				progressbar.OptionSetWriter(a.err), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
		_ = bar.Set64(int64(done)) // a bar that cannot be drawn is no reason to stop
	}
}

func (a *app) logStat(ctx context.Context, live bool) error {
	var s daemon.LogStats
	var err error
	if live {
		err = a.ask(ctx, daemon.OpLogStat, nil, &s)
	} else {
		err = a.readLog(func(log eventlog.Log) (err error) {
			s, err = daemon.CountRecords(ctx, log, a.progress("counting"))
			return err
		})
	}
	if err := errors.Join(daemon.CorruptError(s.Corrupt), err); err != nil {
		return logError(err, stopOrLive)
	}
	return a.show(s, func(w io.Writer) error {
		fmt.Fprintf(w, "%d events in %d streams, %d bytes, root %s\n", s.Events, s.Streams, s.Bytes, s.Root)
		return printTree(w, "", jsonMap(s.Kinds))
	})
}

// jsonMap makes a map that printTree takes.
func jsonMap(m map[string]uint64) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
