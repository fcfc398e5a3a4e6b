package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

func (a *app) cloudSeed() *cobra.Command {
	c := &cobra.Command{Use: "seed", Short: "Write, check and describe what an emulated cloud begins with"}
	export := &cobra.Command{
		Use: "export", Short: "Print what the emulated cloud knows, as a seed", Args: cobra.NoArgs,
		Long: "Print what the emulated cloud knows, as a seed: JSON, also a file for --state.\n\nPrivate keys are not in it.", Example: example("gatehouse sim cloud seed export --dir ./gh > seed.json"),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			seed, err := awsemu.NewControlClient(controlSocket(dir)).Seed(c.Context())
			if err != nil {
				return fmt.Errorf("sim cloud seed export: %w", err)
			}
			return (&app{out: a.out, json: true}).show(seed, nil)
		},
	}
	check := &cobra.Command{
		Use: "check FILE", Short: "Read a seed and say what is wrong with it", Args: cobra.ExactArgs(1), Example: example("gatehouse sim cloud seed check seed.yaml"),
		RunE: func(_ *cobra.Command, args []string) error { return a.checkSeed(args[0]) },
	}
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a seed", Args: cobra.NoArgs, Example: example("gatehouse sim cloud seed schema > seed.schema.json"),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(awsemu.SeedSchema())
			return err
		},
	}
	c.AddCommand(export, check, schema)
	return c
}

func (a *app) checkSeed(file string) error {
	doc, err := readFile(file, awsemu.SeedBytesMax)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "gatehouse-seed-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }() // what is left is the system's to clean
	authority, err := awsemu.NewAuthority("scratch", time.Now())
	if err != nil {
		return err
	}
	registry := awsemu.NewRegistry()
	if err := registry.Seed(doc, makers(scratch, authority)); err != nil {
		return seedError(file, err)
	}
	n := map[string]int{"things": registry.Things(), "certificates": len(registry.Certificates())}
	return a.show(n, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ok: %d things, %d certificates\n", n["things"], n["certificates"])
		return err
	})
}

func seedError(file string, err error) error {
	if problems := policy.ErrorsOf(err); len(problems) > 0 {
		return inFile(file, problems)
	}
	return fmt.Errorf("%s: %w", file, err)
}
