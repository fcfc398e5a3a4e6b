package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/load"
)

// loadPrefix begins the names of a fleet's devices: the policy of `gatehouse dev` is for
// sensor-*.
const loadPrefix = "sensor-load-"

// fleetMax is how many devices a fleet may have: its file is read whole.
const fleetMax = 200_000

// fleetFile is where the fleet of `sim load` lies.
func fleetFile(dir string) string { return filepath.Join(dir, "load", "fleet.pem") }

func (a *app) loadFleetCommand() *cobra.Command {
	var n int
	var prefix, out string
	c := &cobra.Command{
		Use: "fleet", Short: "Make devices for sim load in an emulated cloud", Args: cobra.NoArgs,
		Long: `Make devices for "sim load": a key and a certificate for each, signed by the authority of the
emulated cloud in --dir (of "gatehouse dev" or "gatehouse sim cloud serve", which must run),
and register them there: the thing, the active certificate, their attachment, and that they
are client devices of the core. "sim load" does so by itself at a "gatehouse dev"; this is
for a Gatehouse whose cloud is "gatehouse sim cloud serve". What is there stays, and only
what is missing is made.

With AWS itself, register devices there, and give "sim load --fleet" a folder with their
certificates.`,
		Example: example("gatehouse sim load fleet --devices 50 --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			if out == "" {
				out = fleetFile(dir)
			}
			fleet, err := makeFleet(c.Context(), dir, out, prefix, n)
			if err != nil {
				return err
			}
			return a.show(map[string]any{"devices": len(fleet), "file": out}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d devices, %s to %s, in %s\n", len(fleet), fleet[0].Thing, fleet[len(fleet)-1].Thing, here(out))
				return err
			})
		},
	}
	c.Flags().IntVar(&n, "devices", 200, "how many there shall be")
	c.Flags().StringVar(&prefix, "prefix", loadPrefix, "what their names begin with")
	c.Flags().StringVar(&out, "out", "", "the file with certificates and keys (default: DIR/load/fleet.pem)")
	return c
}

// loadFleet reads the devices, of a file, or makes them in the emulated cloud of a dev.
func (a *app) loadFleet(ctx context.Context, file string, n int) ([]*load.Device, error) {
	if file != "" {
		return load.ReadFleet(file, n)
	}
	if a.dir == "" || !isDevDir(a.dir) {
		return nil, errors.New("which devices? name their certificates with --fleet; at a `gatehouse dev`, named with --dir, they are made")
	}
	return makeFleet(ctx, a.dir, fleetFile(a.dir), loadPrefix, n)
}

// makeFleet has n devices in file and in the emulated cloud of dir.
func makeFleet(ctx context.Context, dir, file, prefix string, n int) ([]*load.Device, error) {
	if n < 1 || n > fleetMax {
		return nil, &exitError{exitUsage, fmt.Errorf("%d devices: want 1 to %d", n, fleetMax)}
	}
	authority, err := readAuthority(cloudAuthorityFiles(dir))
	if err != nil {
		return nil, fmt.Errorf("no emulated cloud in %s: %w", dir, err)
	}
	fleet, err := load.ReadFleet(file, math.MaxInt)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if missing := n - len(fleet); missing > 0 {
		bundle, err := issueFleet(ctx, authority, prefix, len(fleet), missing)
		if err != nil {
			return nil, err
		}
		if fleet, err = addToFleet(file, bundle); err != nil {
			return nil, err
		}
	}
	return fleet[:n], registerFleet(ctx, dir, fleet[:n])
}

// issueFleet makes devices after the first have, as a bundle.
func issueFleet(ctx context.Context, authority *awsemu.Authority, prefix string, have, n int) ([]byte, error) {
	made := make([]*awsemu.Identity, n)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil && ctx.Err() == nil; i += len(errs) {
				made[i], errs[w] = authority.IssueDevice(fmt.Sprintf("%s%05d", prefix, have+i+1), time.Now())
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	var bundle []byte
	for _, one := range made {
		bundle = load.AppendBundle(bundle, one.CertificatePEM, one.KeyPEM)
	}
	return bundle, nil
}

// addToFleet appends to a fleet's file and reads it anew.
func addToFleet(file string, bundle []byte) ([]*load.Device, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := daemon.WriteFile(file, bytes.Join([][]byte{before, bundle}, nil), 0o600); err != nil {
		return nil, err
	}
	return load.ReadFleet(file, math.MaxInt)
}

// registerFleet makes devices known to the emulated cloud that runs in dir, as far as they
// are not.
func registerFleet(ctx context.Context, dir string, fleet []*load.Device) error {
	list := make([]awsemu.Enrolment, len(fleet))
	for i, d := range fleet {
		list[i] = awsemu.Enrolment{Thing: messages.ThingName(d.Thing), DER: d.DER}
	}
	if err := awsemu.NewControlClient(controlSocket(dir)).EnrollAll(ctx, list); err != nil {
		return fmt.Errorf("register the fleet: %w; does the emulated cloud of %s run?", err, dir)
	}
	return nil
}
