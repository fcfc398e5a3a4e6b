package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

func (a *app) simCommand() *cobra.Command {
	c := &cobra.Command{Use: "sim", Short: "Simulate: whole worlds under a seed, scenarios in virtual time, load, an emulated AWS cloud"}
	cloud := &cobra.Command{Use: "cloud", Short: "Run an emulated AWS cloud, or steer that of gatehouse dev"}
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
		a.cloudAssociation("associate", "Make things client devices of the core", "%s is a client device of the core", (*awsemu.ControlClient).Associate),
		a.cloudAssociation("disassociate", "End that things are client devices of the core", "%s is no client device of the core", (*awsemu.ControlClient).Disassociate),
		a.cloudAssociations(), a.cloudConnectivity(), a.cloudStatus(), a.cloudFault(), a.cloudServe(), a.cloudSeed(),
	)
	c.AddCommand(cloud, a.scenarioCommand(), a.simRunCommand(simulated()), a.loadCommand())
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

// cloudAssociation is a command that changes which things are the core's.
func (a *app) cloudAssociation(word, short, done string, order func(*awsemu.ControlClient, context.Context, messages.ThingName, ...messages.ThingName) error) *cobra.Command {
	var core string
	c := &cobra.Command{
		Use: word + " THING...", Short: short, Args: cobra.MinimumNArgs(1),
		Long:    short + ".\n\nThe daemon hears of it at its next refresh of trust.",
		Example: example("gatehouse sim cloud " + word + " sensor-1 --dir ./gh"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			var things []messages.ThingName
			for _, arg := range args {
				thing, err := messages.ParseThingName(arg)
				if err != nil {
					return err
				}
				things = append(things, thing)
			}
			if err := order(awsemu.NewControlClient(controlSocket(dir)), c.Context(), messages.ThingName(core), things...); err != nil {
				return fmt.Errorf("sim cloud %s: %w", word, err)
			}
			done := fmt.Sprintf(done, strings.Join(args, ", "))
			return a.show(map[string]string{"done": done}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, done)
				return err
			})
		},
	}
	c.Flags().StringVar(&core, "core", "", "of this core (default: the only one)")
	return c
}

func (a *app) cloudAssociations() *cobra.Command {
	var core string
	c := &cobra.Command{
		Use: "associations", Short: "List the client devices of the core", Args: cobra.NoArgs,
		Example: example("gatehouse sim cloud associations --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			found, err := awsemu.NewControlClient(controlSocket(dir)).Associations(c.Context(), messages.ThingName(core))
			if err != nil {
				return fmt.Errorf("sim cloud associations: %w", err)
			}
			return a.show(found, func(w io.Writer) error {
				for _, d := range found.Devices {
					if _, err := fmt.Fprintf(w, "%s\tsince %s\n", d.Thing, d.Since.Format(time.RFC3339)); err != nil {
						return err
					}
				}
				_, err := fmt.Fprintf(w, "%d client devices of %s\n", len(found.Devices), found.Core)
				return err
			})
		},
	}
	c.Flags().StringVar(&core, "core", "", "of this core (default: the only one)")
	return c
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

// controlSocket is where the emulated cloud of a dev directory takes orders.
func controlSocket(dir string) string { return filepath.Join(cloudDir(dir), "control.sock") }

func cloudDir(dir string) string         { return filepath.Join(dir, "cloud") }
func deviceDir(dir, thing string) string { return filepath.Join(dir, "devices", thing) }
