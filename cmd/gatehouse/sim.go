package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

func (a *app) simCommand() *cobra.Command {
	c := &cobra.Command{Use: "sim", Short: "Simulate: the cloud of gatehouse dev"}
	cloud := &cobra.Command{Use: "cloud", Short: "Steer the emulated cloud of gatehouse dev"}
	certificate := "CERT is a certificate id, its first 8 digits or more, a PEM file, or a thing's name."
	cloud.AddCommand(
		a.cloudOrder("off", "Take the cloud away", "", 0, func(ctx context.Context, c *awsemu.ControlClient, _ []string) (string, error) {
			return "the cloud is away", c.SetOnline(ctx, false)
		}),
		a.cloudOrder("on", "Bring the cloud back", "", 0, func(ctx context.Context, c *awsemu.ControlClient, _ []string) (string, error) {
			return "the cloud is back", c.SetOnline(ctx, true)
		}),
		a.cloudOrder("revoke CERT", "Revoke a certificate", certificate, 1, func(ctx context.Context, c *awsemu.ControlClient, args []string) (string, error) {
			id, err := c.Revoke(ctx, args[0])
			return fmt.Sprintf("certificate %.12s… is revoked", id), err
		}),
		a.cloudOrder("detach THING CERT", "Take a certificate from a thing", certificate, 2, func(ctx context.Context, c *awsemu.ControlClient, args []string) (string, error) {
			id, err := c.Detach(ctx, args[0], args[1])
			return fmt.Sprintf("certificate %.12s… no longer belongs to %s", id, args[0]), err
		}),
		a.cloudOrder("attach THING CERT", "Give a certificate to a thing", certificate, 2, func(ctx context.Context, c *awsemu.ControlClient, args []string) (string, error) {
			id, err := c.Attach(ctx, args[0], args[1])
			return fmt.Sprintf("certificate %.12s… belongs to %s", id, args[0]), err
		}),
		a.cloudStatus(), a.cloudFault(),
	)
	c.AddCommand(cloud)
	return c
}

// cloudOrder is a command that gives one order and says what it did.
func (a *app) cloudOrder(use, short, long string, args int, order func(context.Context, *awsemu.ControlClient, []string) (string, error)) *cobra.Command {
	word, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Long: strings.TrimSpace(short + ".\n\n" + long), Args: cobra.ExactArgs(args),
		Example: example("gatehouse sim cloud " + strings.NewReplacer("CERT", "sensor-1", "THING", "sensor-1").Replace(use) + " --dir ./gh"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			done, err := order(c.Context(), awsemu.NewControlClient(controlSocket(dir)), args)
			if err != nil {
				return fmt.Errorf("sim cloud %s: %w", word, err)
			}
			return a.show(map[string]string{"done": done}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, done)
				return err
			})
		},
	}
}

func (a *app) cloudStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what the emulated cloud knows", Args: cobra.NoArgs,
		Example: example("gatehouse sim cloud status --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			info, err := awsemu.NewControlClient(controlSocket(dir)).Status(c.Context())
			if err != nil {
				return err
			}
			return a.show(info, func(w io.Writer) error { return printInForce(w, info) })
		},
	}
}

func (a *app) cloudFault() *cobra.Command {
	var f awsemu.Fault
	c := &cobra.Command{
		Use: "fault", Short: "Make the cloud misbehave; without flags, end it", Args: cobra.NoArgs,
		Example: example("gatehouse sim cloud fault --latency 3s --dir ./gh", "gatehouse sim cloud fault --status 503 --dir ./gh", "gatehouse sim cloud fault --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			if err := awsemu.NewControlClient(controlSocket(dir)).SetFault(c.Context(), f); err != nil {
				return fmt.Errorf("sim cloud fault: %w", err)
			}
			done := "the cloud misbehaves"
			if reflect.ValueOf(f).IsZero() {
				done = "the cloud behaves"
			}
			return a.show(map[string]string{"done": done}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, done)
				return err
			})
		},
	}
	bindFault(c, &f)
	return c
}

// controlSocket is where the emulated cloud of a dev directory takes orders.
func controlSocket(dir string) string { return filepath.Join(cloudDir(dir), "control.sock") }

func cloudDir(dir string) string         { return filepath.Join(dir, "cloud") }
func deviceDir(dir, thing string) string { return filepath.Join(dir, "devices", thing) }
