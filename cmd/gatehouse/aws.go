package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/awsreader"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func (a *app) awsCommand() *cobra.Command {
	c := &cobra.Command{Use: "aws", Short: "Look at what AWS knows of this core"}
	c.AddCommand(a.awsTraceCommand())
	return c
}

// traceTimeout bounds a whole trace.
const traceTimeout = time.Minute

func (a *app) awsTraceCommand() *cobra.Command {
	var f siteFlags
	var device, dot bool
	c := &cobra.Command{
		Use:   "trace [THING|CERT]",
		Short: "Follow the way from a thing to its role, and name the broken link",
		Long: `Follow the way from a thing to the credentials of its role, as AWS has it now: thing,
certificate and CA, policies, role alias, IAM role with trust, duration and permissions;
what the credentials endpoint says, asked with the core's own certificate; and beside them
endpoints, service role, client devices and clock. Prints a tree, the broken link, and what
to do about it. Changes nothing.

THING is a thing's name. CERT is a certificate's id (64 hex digits), ARN or PEM file. With
neither it is this core, as gatehouse.yaml says, or that of a dev. A client device of the
core needs no role; --device says that it is one.

It asks as you: with AWS's default credentials, or --profile; where you have none, and
cloud.control.credentials is tokenExchange, as the core, by its role, which may read little;
in the directory of a dev as administrator of its emulated cloud. It says who asked. You need read-only rights: iot:Describe*, iot:List*,
iot:GetPolicy, iam:GetRole, iam:ListRolePolicies, iam:GetRolePolicy,
iam:ListAttachedRolePolicies, iam:GetPolicy, iam:GetPolicyVersion,
greengrass:GetServiceRoleForAccount and
greengrass:ListClientDevicesAssociatedWithCoreDevice. What you may not read is shown as
unknown, with the permission that is missing.

--json prints the form gatehouse/trace-1: state (ok, unknown, warning or broken), findings
(the cause first: state, fault, path, detail, fix, needs), askedAs and the tree. --dot prints it for
Graphviz. Exit 1 if a link is broken.`,
		Example: example("gatehouse aws trace -c gatehouse.yaml", "gatehouse aws trace --dir ./gh", "gatehouse aws trace sensor-1 --dir ./gh",
			"gatehouse aws trace my-core --region eu-central-1 --dot | dot -Tsvg > core.svg"),
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if dot && a.json {
				return &exitError{exitUsage, errors.New("--dot or --json: one of them")}
			}
			subject := ""
			if len(args) == 1 {
				subject = args[0]
			}
			return a.awsTrace(c.Context(), f, subject, device, dot)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&device, "device", false, "it is a client device, which needs no role")
	c.Flags().BoolVar(&dot, "dot", false, "print a picture for Graphviz")
	return c
}

func (f *siteFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", "", "configuration `FILE` of this core")
	c.Flags().StringVar(&f.region, "region", "", "AWS region (default: as configured)")
	c.Flags().StringVar(&f.profile, "profile", "", "of AWS's shared files, whose credentials to ask with")
	c.Flags().StringVar(&f.endpoint, "endpoint-url", "", "of AWS's control planes, such as an emulator's")
	c.Flags().StringVar(&f.ca, "ca", "", "`FILE` with the authorities to verify that by (default: the system's)")
	c.Flags().StringVar(&f.roleAlias, "role-alias", "", "role alias of the core (default: as configured)")
	c.Flags().StringVar(&f.credentialEndpoint, "credential-endpoint", "", "the account's credentials endpoint (default: as configured)")
}

func (a *app) awsTrace(ctx context.Context, f siteFlags, subject string, device, dot bool) error {
	s, err := a.siteOf(ctx, f)
	if err != nil {
		return err
	}
	cfg := trace.Config{Local: s.local, Device: device, Now: time.Now}
	if err := takeSubject(&cfg, subject); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	r, err := s.trace(ctx, cfg)
	if err != nil {
		return err
	}
	if dot {
		err = r.WriteDOT(a.out)
	} else {
		err = a.show(r, r.WriteText)
	}
	if err == nil && r.State == trace.Broken {
		return errQuiet
	}
	return err
}

// trace traces what cfg says, with the site's reader and prober.
func (s *coreSite) trace(ctx context.Context, cfg trace.Config) (*trace.Report, error) {
	if s.away != nil {
		return nil, s.away
	}
	reader, err := awsreader.New(s.control)
	if err != nil {
		return nil, fmt.Errorf("%w; name the region with --region, or a configuration with -c", err)
	}
	defer reader.Close()
	cfg.Reader, cfg.Clock = reader, reader.Clock
	prober, why := s.prober()
	if prober != nil {
		defer prober.Close()
		cfg.Prober = prober
	}
	cfg.NoProbe = why
	r, err := trace.Run(ctx, cfg)
	if err == nil && s.asker != nil {
		r.AskedAs = s.asker.Who()
	}
	return r, err
}

// takeSubject reads what to trace: a certificate's id, a PEM file, or a thing's name.
func takeSubject(cfg *trace.Config, subject string) error {
	if subject == "" {
		if cfg.Local.Thing == "" && cfg.Local.Certificate == "" {
			return &exitError{exitUsage, errors.New("which thing? name it, or this core's configuration with -c, or the directory of a dev with --dir")}
		}
		return nil
	}
	id := subject
	if arn, after, found := strings.Cut(subject, ":cert/"); found && strings.HasPrefix(arn, "arn:") {
		id = after
	}
	if id, err := messages.ParseCertificateID(strings.ToLower(id)); err == nil {
		cfg.Certificate = id
		return nil
	}
	if _, err := os.Stat(subject); strings.HasSuffix(subject, ".pem") || strings.ContainsRune(subject, os.PathSeparator) || err == nil && !isThing(subject) {
		certificate, err := readCertificate(subject)
		if err != nil {
			return err
		}
		cfg.Certificate = messages.CertificateIDOf(certificate.Raw)
		return nil
	}
	name, err := messages.ParseThingName(subject)
	cfg.Thing = name
	return err
}

func isThing(s string) bool {
	_, err := messages.ParseThingName(s)
	return err == nil
}
