package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
)

func (a *app) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print the counts of requests, with the reference's names",
		Long: `Print the metrics of Greengrass' client device auth, with its names: what was emitted
last (each metrics.aggregatePeriodSeconds, unless metrics.disableMetrics), and what was
counted since the start; and how authorities and certificates are. Prometheus finds these and more at /metrics of the status page.`,
		Example: example("gatehouse metrics --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.metrics(c.Context()) },
	}
}

func (a *app) metrics(ctx context.Context) error {
	var r metrics.Report
	if err := a.ask(ctx, daemon.OpMetrics, nil, &r); err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error {
		for _, name := range slices.Sorted(maps.Keys(r.Total)) {
			fmt.Fprintf(w, "%s: %d since the start\n", name, r.Total[name])
		}
		if c := r.Certificates; c != nil {
			printCertificateMetrics(w, c)
		}
		if r.Disabled {
			fmt.Fprintln(w, "emission is off: metrics.disableMetrics")
			return nil
		}
		if e := r.Emitted; e != nil {
			fmt.Fprintf(w, "emitted at %s, for up to %d s:\n", when(&e.At), e.PeriodSeconds)
			for _, m := range e.Metrics {
				fmt.Fprintf(w, "  %s %s %s %d\n", m.Name, m.Unit, m.Aggregation, m.Value)
			}
		}
		fmt.Fprintf(w, "next at %s\n", when(r.NextAt))
		return nil
	})
}

func printCertificateMetrics(w io.Writer, c *metrics.Certificates) {
	for _, which := range slices.Sorted(maps.Keys(c.AuthoritySeconds)) {
		left := int64(c.AuthoritySeconds[which])
		fmt.Fprintf(w, "authority, %s: ends in %s\n", which, age(&left))
	}
	for _, usage := range slices.Sorted(maps.Keys(c.Soonest)) {
		left := int64(c.Soonest[usage].Seconds)
		fmt.Fprintf(w, "certificates, %s: %d held; that of %s ends next, in %s\n", usage, c.Subscribers[usage], c.Soonest[usage].Subscriber, age(&left))
	}
	for _, reason := range slices.Sorted(maps.Keys(c.Issued)) {
		fmt.Fprintf(w, "certificates issued, %s: %d since the start\n", reason, c.Issued[reason])
	}
	fmt.Fprintf(w, "certificates not delivered: %d; uploads of authorities that failed: %d; warnings: %d\n", c.Undelivered, c.UploadsFailed, c.Warnings)
}
