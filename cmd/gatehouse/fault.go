package main

import (
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// bindFault gives c the flags that describe a fault.
func bindFault(c *cobra.Command, f *awsemu.Fault) {
	flags := c.Flags()
	flags.StringVar((*string)(&f.Operation), "operation", "", "only this operation: "+string(cloudsync.OpVerifyIdentity)+" or "+string(cloudsync.OpVerifyAssociation))
	flags.DurationVar(&f.Latency, "latency", 0, "wait before answering")
	flags.IntVar(&f.Status, "status", 0, "answer this HTTP status")
	flags.StringVar(&f.ErrorType, "error", "", "with --status: this AWS error type")
	flags.DurationVar(&f.RetryAfter, "retry-after", 0, "with --status: this Retry-After")
	flags.StringVar(&f.Body, "body", "", "answer this body")
	flags.StringVar(&f.ContentType, "content-type", "", "of the body")
	flags.BoolVar(&f.Drop, "drop", false, "close the connection without an answer")
	flags.BoolVar(&f.Truncate, "truncate", false, "break off in the middle of the answer")
}
