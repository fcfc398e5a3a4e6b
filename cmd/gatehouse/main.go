// Command gatehouse decides at the edge which IoT client devices may connect, publish
// and subscribe at the local MQTT brokers, and keeps deciding when the cloud is away.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes, beside 0 and 1 (design.md, section 11).
const (
	exitFailed  = 1
	exitUsage   = 2
	exitCorrupt = 20
	exitAppend  = 21
	exitNewer   = 22
	exitInUse   = 23
)

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

// run is the program: the command line in, the exit code out. Tests call it.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(os.Stdout, os.Stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errQuiet) {
		fmt.Fprintln(os.Stderr, "gatehouse:", err)
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage // cobra has no type for it
	}
	return exitFailed
}

// errQuiet is an error whose text was printed already.
var errQuiet = errors.New("failed")
