package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Check and test policies"}
	check := &cobra.Command{
		Use:     "check FILE...",
		Short:   "Check that policy files can be put in force",
		Example: example("gatehouse policy check policy.yaml"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, files []string) error { return a.policyCheck(files) },
	}
	test := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run files of expected decisions",
		Long: `Run files in the shape of policy-eval.json or selection-rules.json: one line per
failure, last line "N passed, M failed", exit 1 if any failed.`,
		Example: example("gatehouse policy test actors/policy/testdata/policy-eval.json"),
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(_ *cobra.Command, files []string) error { return a.policyTest(files) },
	}
	c.AddCommand(check, test)
	return c
}

// policyResult is what `policy check` says of one file.
type policyResult struct {
	File     string        `json:"file"`
	OK       bool          `json:"ok"`
	Revision string        `json:"revision,omitempty"`
	Groups   int           `json:"groups"`
	Policies int           `json:"policies"`
	Errors   policy.Errors `json:"errors,omitempty"`
	Warnings policy.Errors `json:"warnings,omitempty"`
}

func (a *app) policyCheck(files []string) error {
	results, bad := []policyResult{}, false
	for _, file := range files {
		doc, err := readFile(file, policy.MaxDocumentBytes)
		if err != nil {
			return err
		}
		r := checkPolicy(file, doc)
		bad = bad || !r.OK
		results = append(results, r)
	}
	err := a.show(results, func(w io.Writer) error {
		for _, r := range results {
			for _, e := range r.Errors {
				fmt.Fprintln(w, e)
			}
			for _, e := range r.Warnings {
				fmt.Fprintf(w, "warning: %s\n", e)
			}
			if r.OK {
				fmt.Fprintf(w, "ok: %s: %d groups, %d policies, revision %s\n", r.File, r.Groups, r.Policies, policy.ShortRevision(r.Revision))
			}
		}
		return nil
	})
	if err == nil && bad {
		err = &exitError{exitFailed, errQuiet}
	}
	return err
}

func checkPolicy(file string, text []byte) policyResult {
	r := policyResult{File: file}
	doc, err := policy.Parse(text, policy.Options{File: file})
	if err != nil {
		r.Errors = policy.ErrorsOf(err)
		return r
	}
	r.OK, r.Revision, r.Groups, r.Policies, r.Warnings = true, doc.Revision(), len(doc.Groups), len(doc.Policies), doc.Warnings
	return r
}

// vectorsMaxBytes bounds a file of expected outcomes.
const vectorsMaxBytes = 64 << 20

func (a *app) policyTest(files []string) error {
	var passed, failed int
	failures := []string{}
	for _, file := range files {
		data, err := readFile(file, vectorsMaxBytes)
		if err != nil {
			return err
		}
		p, f, lines, err := policy.RunVectors(file, data)
		if err != nil {
			return fmt.Errorf("%w; want JSON in the shape of policy-eval.json: a policy itself is for `gatehouse policy check`", err)
		}
		passed, failed, failures = passed+p, failed+f, append(failures, lines...)
	}
	err := a.show(map[string]any{"passed": passed, "failed": failed, "failures": failures}, func(w io.Writer) error {
		for _, line := range failures {
			fmt.Fprintln(w, line)
		}
		_, err := fmt.Fprintf(w, "%d passed, %d failed\n", passed, failed)
		return err
	})
	if err == nil && failed > 0 {
		err = &exitError{exitFailed, errQuiet}
	}
	return err
}

// readFile reads a file that may be up to max bytes long; "-" is standard input.
func readFile(file string, max int64) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, max+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s: longer than %d bytes", file, max)
	}
	return data, nil
}
