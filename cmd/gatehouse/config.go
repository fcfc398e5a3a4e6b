package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// configMaxBytes bounds a configuration file.
const configMaxBytes = 1 << 20

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check configuration files"}
	c.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Print the values in force, or what is wrong",
		Long: `Read gatehouse.yaml, or a Greengrass clientDeviceAuth section as it is pasted from a
deployment, and print the values in force. Exit 1 if it cannot be used.`,
		Example: example("gatehouse config check gatehouse.yaml", "gatehouse config check --json section.json"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.configCheck(args[0]) },
	})
	return c
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
	doc, err := readFile(file, configMaxBytes)
	if err != nil {
		return err
	}
	r := configResult{File: file}
	inForce, warnings, err := config.ParseAny(doc, nil)
	if err != nil {
		r.Errors = inFile(file, policy.ErrorsOf(err))
	} else {
		if inForce.ClientDeviceAuth.CertificateAuthority.Custom() {
			warnings = append(warnings, &policy.Error{
				Kind: policy.KindUnsupported, Path: "clientDeviceAuth.certificateAuthority",
				Msg: "an authority of your own is not supported by this version: `gatehouse serve` will not start", Hint: "remove certificateUri and privateKeyUri for a managed one",
			})
		}
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
