package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check configuration files, and show what is in force"}
	c.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Print the values in force, or what is wrong",
		Long: `Read gatehouse.yaml, or a Greengrass clientDeviceAuth section as it is pasted from a
deployment, and print the values in force. Exit 1 if it cannot be used.`,
		Example: example("gatehouse config check gatehouse.yaml", "gatehouse config check --json section.json"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.configCheck(args[0]) },
	}, &cobra.Command{
		Use:   "show",
		Short: "Print the values in force, since when, and what was rejected",
		Long: `Print the values of clientDeviceAuth in force, the records of the log that put
configuration and policy in force, why what their files hold now is not in force, and
which keys wait for a restart. Works on a stopped daemon's directory, too.`,
		Example: example("gatehouse config show --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.configShow(c.Context()) },
	})
	return c
}

func (a *app) configShow(ctx context.Context) error {
	r, err := query(ctx, a, daemon.OpConfig, nil, func(s *daemon.Stored) (daemon.ConfigReport, error) { return daemon.StoredConfig(s), nil })
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error {
		if err := printInForce(w, r.Section); err != nil {
			return err
		}
		printDocuments(w, r.Documents, r.RestartFor)
		return nil
	})
}

// printDocuments says which documents are in force, what is wrong with their files, and
// what waits for a restart.
func printDocuments(w io.Writer, list []daemon.DocumentReport, restartFor []string) {
	for _, d := range list {
		if d.Record == 0 {
			fmt.Fprintf(w, "%s: none in force\n", d.Document)
		} else {
			fmt.Fprintf(w, "%s: in force since %s, record %d, from %s, revision %.12s…\n", d.Document, when(d.Since), d.Record, d.Origin, d.Revision)
		}
		if p := d.Problem; p != nil {
			why := "the file cannot be read"
			if p.Record != 0 {
				why = fmt.Sprintf("the file was rejected, record %d", p.Record)
			}
			fmt.Fprintf(w, "  since %s %s; what is in force stays\n", when(&p.Since), why)
			for _, line := range p.Errors {
				fmt.Fprintf(w, "  %s\n", line)
			}
		}
	}
	if len(restartFor) > 0 {
		fmt.Fprintf(w, "changed since the start, restart Gatehouse to use: %s\n", strings.Join(restartFor, ", "))
	}
}

// configResult is what `config check --json` prints.
type configResult struct {
	File     string          `json:"file"`
	OK       bool            `json:"ok"`
	InForce  *config.File    `json:"inForce,omitempty"`
	Errors   policy.Errors   `json:"errors,omitempty"`
	Warnings config.Warnings `json:"warnings,omitempty"`
}

func (a *app) configCheck(file string) error {
	doc, err := readFile(file, config.DocumentBytesMax)
	if err != nil {
		return err
	}
	r := configResult{File: file}
	inForce, warnings, err := config.ParseAny(doc, nil)
	if err == nil {
		err = checkDataPlane(inForce.Cloud)
	}
	if err != nil {
		r.Errors = inFile(file, policy.ErrorsOf(err))
	} else {
		r.OK, r.InForce, r.Warnings = true, &inForce, inFile(file, warnings)
	}
	shown := a.show(r, func(w io.Writer) error {
		for _, e := range r.Errors {
			fmt.Fprintln(w, e)
		}
		for _, e := range r.Warnings {
			fmt.Fprintf(w, "warning: %s\n", e)
		}
		if r.OK {
			return printInForce(w, inForce)
		}
		return nil
	})
	if shown == nil && !r.OK {
		return &exitError{exitFailed, errQuiet}
	}
	return shown
}

// checkDataPlane refuses what `gatehouse serve` would: a cloud that cannot be asked.
func checkDataPlane(c config.Cloud) error {
	if c.Endpoint == "" {
		return nil
	}
	needed := []cloudsync.Operation{cloudsync.OpVerifyIdentity, cloudsync.OpVerifyAssociation}
	if c.Verifier == config.VerifierIoT {
		needed = nil
	}
	if err := cloudsync.CheckRoutes(c.Endpoint, routesOf(c.Operations), needed...); err != nil {
		return policy.Errors{{Kind: config.KindConflict, Path: "cloud.operations", Msg: err.Error()}}
	}
	return nil
}
