package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/sim/scenario"
)

func (a *app) scenarioCommand() *cobra.Command {
	var schema bool
	c := &cobra.Command{
		Use: "scenario FILE...", Short: "Play scenarios of trust, clocks and a cloud that fails, in virtual time",
		Long: `Play files of scenarios, in the shape of offline-trust.json, against the real actors, log
and cloud client with the emulated cloud, in virtual time: a line per failure, last line
"N passed, M failed", exit 1 if any failed. Files are JSON or YAML.

` + scenario.Help(),
		Example: example("gatehouse sim scenario sim/scenario/testdata/offline-trust.json", "gatehouse sim scenario --schema"),
		Args: func(c *cobra.Command, files []string) error {
			if schema {
				return cobra.NoArgs(c, files)
			}
			return cobra.MinimumNArgs(1)(c, files)
		},
		RunE: func(c *cobra.Command, files []string) error {
			if schema {
				_, err := a.out.Write(scenario.Schema())
				return err
			}
			return a.playScenarios(c.Context(), files)
		},
	}
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of scenario files and play nothing")
	return c
}

func (a *app) playScenarios(ctx context.Context, names []string) error {
	files := make([]*scenario.File, len(names))
	for i, name := range names {
		doc, err := readFile(name, scenario.FileBytesMax)
		if err != nil {
			return err
		}
		if files[i], err = scenario.Parse(name, doc); err != nil {
			return err
		}
	}
	all := scenario.Result{Failures: []scenario.Failure{}}
	for i, f := range files {
		r, err := scenario.Run(ctx, names[i], f)
		if err != nil {
			return err
		}
		all.Passed, all.Failed, all.Failures = all.Passed+r.Passed, all.Failed+r.Failed, append(all.Failures, r.Failures...)
	}
	err := a.show(all, func(w io.Writer) error {
		for _, f := range all.Failures {
			fmt.Fprintln(w, f)
		}
		_, err := fmt.Fprintf(w, "%d passed, %d failed\n", all.Passed, all.Failed)
		return err
	})
	if err == nil && all.Failed > 0 {
		err = &exitError{exitFailed, errQuiet}
	}
	return err
}
