package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// app is what all commands share.
type app struct {
	out, err io.Writer
	json     bool
	dir      string
	verbose  bool
}

// dirVariable names the daemon's directory for all commands.
const dirVariable = "GATEHOUSE_DIR"

func newRoot(out, errOut io.Writer) *cobra.Command {
	a := &app{out: out, err: errOut}
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "Decide at the edge which IoT devices may talk to the local MQTT brokers",
		Long: `Gatehouse decides at the edge which IoT client devices may connect, publish and
subscribe at the local MQTT brokers, and keeps deciding when the cloud is away.

Try it, with nothing installed:

    gatehouse dev`,
		Version:       daemon.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON instead of text")
	flags.StringVar(&a.dir, "dir", os.Getenv(dirVariable), "the daemon's directory (default: $"+dirVariable+")")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	root.AddCommand(a.devCommand(), a.serveCommand(), a.deviceCommand(), a.policyCommand(), a.configCommand(),
		a.explainCommand(), a.logCommand(), a.brokerCommand(), a.trustCommand(), a.caCommand(), a.certCommand(), a.metricsCommand(), a.simCommand(), a.statusCommand(), a.credentialsCommand(), a.runCommand(), a.awsCommand(), a.doctorCommand(), a.registrationCommand())
	for _, c := range root.Commands() {
		strict(c)
	}
	return root
}

// strict makes wrong arguments of c and the commands below it a wrong call, for scripts:
// cobra by itself answers `device quarantne` with help and success.
func strict(c *cobra.Command) {
	if c.HasSubCommands() {
		c.Args, c.SuggestionsMinimumDistance = cobra.ArbitraryArgs, 2
		own := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && own != nil:
				return own(c, args)
			case len(args) == 0:
				return c.Help()
			}
			text := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				text += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return &exitError{exitUsage, errors.New(text)}
		}
	} else if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if _, ok := errors.AsType[*exitError](err); err == nil || ok {
				return err
			}
			return &exitError{exitUsage, fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
		}
	}
	for _, below := range c.Commands() {
		strict(below)
	}
}

// logger writes for the operator to standard error.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// show prints v as JSON if asked for, else calls text.
func (a *app) show(v any, text func(w io.Writer) error) error {
	if !a.json {
		return text(plain{a.out})
	}
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// needDir is the directory, or an error that says how to name it.
func (a *app) needDir() (string, error) {
	if a.dir == "" {
		return "", fmt.Errorf("which daemon? name its directory with --dir, or in $%s", dirVariable)
	}
	return a.dir, nil
}

// askTimeout bounds one question to the daemon, as the daemon itself does. Help and README
// say so.
const askTimeout = 10 * time.Second

// ask asks the running daemon of the directory.
func (a *app) ask(ctx context.Context, op string, request, reply any) error {
	c, err := a.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.Ask(ctx, op, request, reply)
}

// errNotRunning says that there is no daemon to ask.
var errNotRunning = errors.New("no daemon is running")

func (a *app) dial() (*admin.Client, error) {
	dir, err := a.needDir()
	if err != nil {
		return nil, err
	}
	run, err := daemon.ReadRun(dir)
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", errNotRunning, dir, err)
	}
	creds, err := os.ReadFile(daemon.CredsFile(dir, authapi.OperatorAdmin))
	if err != nil {
		return nil, fmt.Errorf("the administrator's credentials: %w", err)
	}
	c, err := admin.Dial(run.NATS, authapi.OperatorAdmin, creds, nil)
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", errNotRunning, dir, err)
	}
	return c, nil
}

// example indents the lines of an Example text as cobra's help wants them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

// here shortens a path below the working directory, for commands to paste.
func here(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}
