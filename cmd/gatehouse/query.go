package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// query asks the running daemon, or, when none runs, what its directory says.
func query[A any](ctx context.Context, a *app, op string, request any, stored func(*daemon.Stored) (A, error)) (A, error) {
	var answer A
	err := a.ask(ctx, op, request, &answer)
	if !errors.Is(err, errNotRunning) {
		return answer, err
	}
	s, openErr := daemon.OpenStored(ctx, a.dir)
	if openErr != nil {
		return answer, fmt.Errorf("%w; and %w", err, logError(openErr, "the daemon that has it cannot be asked: wait until it is ready, or stop it first"))
	}
	answer, err = stored(s)
	return answer, errors.Join(err, s.Log.Close())
}

// logError gives an event log's error its exit code. inUse is what to do if another
// process has the log open, which depends on the command.
func logError(err error, inUse string) error {
	switch {
	case errors.Is(err, eventlog.ErrCorrupt):
		return &exitError{exitCorrupt, err}
	case errors.Is(err, eventlog.ErrNewer):
		return &exitError{exitNewer, fmt.Errorf("%w; use the version that wrote it, or a later one", err)}
	case errors.Is(err, eventlog.ErrInUse):
		return &exitError{exitInUse, fmt.Errorf("%w; %s", err, inUse)}
	}
	return err
}
