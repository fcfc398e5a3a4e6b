package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

const deviceMQTTPort = 8883

// cloudConnectivity shows and changes where the emulated cloud says that a core is.
func (a *app) cloudConnectivity() *cobra.Command {
	var core string
	c := &cobra.Command{
		Use: "connectivity", Short: "Show where devices are told to find the core", Args: cobra.NoArgs,
		Long:    "Show what devices discover of the core: its addresses, how many of its authorities, and the\nversion by which its shadow tells the core of a change.",
		Example: example("gatehouse sim cloud connectivity --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			return a.showConnectivity(c.Context(), awsemu.NewControlClient(controlSocket(dir)), messages.ThingName(core))
		},
	}
	set := &cobra.Command{
		Use: "set HOST[:PORT]...", Short: "Change where devices are told to find the core", Args: cobra.MinimumNArgs(1),
		Long:    "Change where devices are told to find the core: all its addresses, each with the port 8883 unless\nit says another. The core hears of it by its shadow.",
		Example: example("gatehouse sim cloud connectivity set 192.168.1.10 core.local:8884 --dir ./gh"),
		RunE: func(c *cobra.Command, args []string) error {
			addresses, err := parseAddresses(args)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return a.setConnectivity(c.Context(), messages.ThingName(core), addresses)
		},
	}
	clear := &cobra.Command{
		Use: "clear", Short: "Take all addresses of the core away", Args: cobra.NoArgs,
		Example: example("gatehouse sim cloud connectivity clear --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.setConnectivity(c.Context(), messages.ThingName(core), nil)
		},
	}
	c.PersistentFlags().StringVar(&core, "core", "", "of this core (default: the only one)")
	c.AddCommand(set, clear)
	return c
}

// parseAddresses reads HOST or HOST:PORT; an IPv6 address with a port is in brackets.
func parseAddresses(args []string) ([]awsemu.Connectivity, error) {
	var addresses []awsemu.Connectivity
	for _, arg := range args {
		address := awsemu.Connectivity{ID: arg, Host: arg, Port: deviceMQTTPort}
		if host, port, err := net.SplitHostPort(arg); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("%.80q: the port is not one of 0 to 65535", arg)
			}
			address.Host, address.Port = host, int(n)
		}
		if address.Host == "" || strings.ContainsAny(address.Host, "[]/ ") {
			return nil, fmt.Errorf("%.80q: want HOST or HOST:PORT", arg)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

func (a *app) setConnectivity(ctx context.Context, core messages.ThingName, addresses []awsemu.Connectivity) error {
	dir, err := a.needDir()
	if err != nil {
		return err
	}
	client := awsemu.NewControlClient(controlSocket(dir))
	if err := client.SetConnectivity(ctx, core, addresses...); err != nil {
		return fmt.Errorf("sim cloud connectivity: %w", err)
	}
	return a.showConnectivity(ctx, client, core)
}

func (a *app) showConnectivity(ctx context.Context, client *awsemu.ControlClient, core messages.ThingName) error {
	info, err := client.Connectivity(ctx, core)
	if err != nil {
		return fmt.Errorf("sim cloud connectivity: %w", err)
	}
	return a.show(info, func(w io.Writer) error {
		for _, address := range info.Addresses {
			if _, err := fmt.Fprintln(w, net.JoinHostPort(address.Host, strconv.Itoa(address.Port))); err != nil {
				return err
			}
		}
		version := "no version yet"
		if info.Version != "" {
			version = "version " + info.Version
		}
		_, err := fmt.Fprintf(w, "%d addresses and %d authorities of %s, %s\n", len(info.Addresses), len(info.Authorities), info.Core, version)
		return err
	})
}
