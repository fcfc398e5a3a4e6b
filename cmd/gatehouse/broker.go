package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func (a *app) brokerCommand() *cobra.Command {
	c := &cobra.Command{Use: "broker", Short: "Let brokers in"}
	c.AddCommand(a.brokerAddCommand())
	c.AddCommand(&cobra.Command{
		Use:   "remove NAME...",
		Short: "Take brokers' credentials and end what they have open",
		Long: `Take a broker's credentials: its connection ends at once, its sessions end, no
certificate is issued to it any more, and what it still asks is refused. A certificate to
serve with is valid until it ends; one of an internal component counts no more. "broker add"
lets it in again, with new credentials.`,
		Example: example("gatehouse broker remove mosquitto --dir ./gh"),
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := brokersNamed(args)
			if err != nil {
				return err
			}
			removed := make([]daemon.BrokerRemoved, len(names))
			for i, name := range names {
				if err := a.ask(c.Context(), daemon.OpBrokerRemove, daemon.BrokerRequest{Name: name}, &removed[i]); err != nil {
					return after(args[:i], "removed", err)
				}
			}
			return showEach(a, removed, func(w io.Writer) error {
				for _, r := range removed {
					fmt.Fprintf(w, "broker %s is removed; %d sessions end\n", r.Name, r.Sessions)
				}
				if removed[0].External {
					fmt.Fprintf(w, "take %s out of the NATS server's configuration, too\n", map[bool]string{true: "its user", false: "their users"}[len(removed) == 1])
				}
				return nil
			})
		},
	})
	c.AddCommand(&cobra.Command{
		Use:   "server-config [NAME...]",
		Short: "Print the users of an external NATS server",
		Long: `Make the credentials that the daemon of DIR needs at an external NATS server (its own,
the operators', the embedded MQTT broker's, and those of the named brokers) and print
that server's configuration: users with allow-lists, and nobody else. Then set nats.url
and nats.creds (DIR/brokers/gatehouse.creds) in gatehouse.yaml.`,
		Example: example("gatehouse broker server-config mosquitto --dir ./gh > nats-server.conf"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.needDir()
			if err != nil {
				return err
			}
			names, err := brokersNamed(args)
			if err != nil {
				return err
			}
			var config strings.Builder
			if err := daemon.WriteNATSConfig(&config, dir, names); err != nil {
				return err
			}
			return a.show(map[string]string{"config": config.String()}, func(w io.Writer) error {
				_, err := io.WriteString(w, config.String())
				return err
			})
		},
	})
	return c
}

// brokersNamed reads brokers' names.
func brokersNamed(args []string) ([]messages.BrokerID, error) {
	names := make([]messages.BrokerID, len(args))
	for i, arg := range args {
		var err error
		if names[i], err = authapi.ParseBroker(arg); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// after says how far an order for several brokers came.
func after(done []string, what string, err error) error {
	if len(done) == 0 {
		return err
	}
	return fmt.Errorf("%s: %s; then: %w", strings.Join(done, ", "), what, err)
}

// showEach shows the only one as itself, several as a list.
func showEach[T any](a *app, list []T, text func(io.Writer) error) error {
	if len(list) == 1 {
		return a.show(list[0], text)
	}
	return a.show(list, text)
}

func (a *app) brokerAddCommand() *cobra.Command {
	var certificates []string
	c := &cobra.Command{
		Use:   "add NAME...",
		Short: "Make brokers' credentials and let them in at once",
		Long: `Make an nkey for a broker, let it in at once with the permissions it needs and no
others, and print where its credentials are and how a NATS client uses them.

A new broker may have certificates by which it serves. --certificates says which it may have
from now on: server, client, both as server,client, or none. Who holds a client's
certificate is an internal component, which may do everything.`,
		Example: example("gatehouse broker add mosquitto --dir ./gh",
			"gatehouse broker add bridge --certificates client --dir ./gh", "gatehouse broker add load-1 load-2 --dir ./gh"),
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := brokersNamed(args)
			if err != nil {
				return err
			}
			var types *[]string
			if c.Flags().Changed("certificates") {
				if types, err = certificateTypes(certificates); err != nil {
					return err
				}
			}
			added := make([]daemon.BrokerAdded, len(names))
			for i, name := range names {
				if err := a.ask(c.Context(), daemon.OpBrokerAdd, daemon.BrokerRequest{Name: name, Certificates: types}, &added[i]); err != nil {
					return after(args[:i], "added", err)
				}
			}
			return showEach(a, added, func(w io.Writer) error { return printBrokers(w, added) })
		},
	}
	c.Flags().StringSliceVar(&certificates, "certificates", nil, "certificates it may have: server, client, or none (default: as before; server for a new broker)")
	_ = c.RegisterFlagCompletionFunc("certificates", cobra.FixedCompletions([]string{"server", "client", "server,client", "none"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// certificateTypes reads the flag --certificates.
func certificateTypes(list []string) (*[]string, error) {
	types := []string{}
	for _, word := range list {
		switch word {
		case "server", "client":
			types = append(types, strings.ToUpper(word))
		case "none":
			if len(list) > 1 {
				return nil, errors.New("--certificates none goes with nothing else")
			}
		default:
			return nil, fmt.Errorf("--certificates %.40q: want server, client, server,client or none", word)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("--certificates is empty: want server, client, server,client or none")
	}
	return &types, nil
}

// printBrokers says all about one, and of several where their credentials are.
func printBrokers(w io.Writer, added []daemon.BrokerAdded) error {
	if len(added) == 1 {
		return printBroker(w, added[0])
	}
	if added[0].External {
		fmt.Fprint(w, "add these users to the NATS server's configuration, and reload it:\n\n")
	}
	for _, b := range added {
		if b.External {
			fmt.Fprintln(w, b.Entry)
		}
	}
	for _, b := range added {
		fmt.Fprintf(w, "broker %s: %s\n", b.Name, here(b.File))
	}
	return nil
}

func printBroker(w io.Writer, b daemon.BrokerAdded) error {
	// A server that knows plain nkeys does not want the JWT of the credentials file.
	flag := "--creds"
	if b.External {
		flag = "--nkey"
		fmt.Fprintf(w, "add this user to the NATS server's configuration, and reload it:\n\n%s\n", b.Entry)
	}
	_, err := fmt.Fprintf(w, `broker %[1]s may ask %[2]s*
  server       %[3]s
  credentials  %[4]s (a secret: give it to the broker alone)
  inbox        %[5]s (set it: replies elsewhere are dropped)
  certificates %[8]s

try it:
  nats --server %[3]s %[7]s %[4]s --inbox-prefix %[5]s \
    request %[6]s '{"clientDeviceAuthToken":"…","operation":"mqtt:publish","resource":"mqtt:topic:x"}'
`, b.Name, authapi.SubjectPrefix+string(b.Name)+".", b.URL, here(b.File), authapi.InboxPrefix(b.Name),
		authapi.Subject(messages.BrokerID(b.Name), authapi.OpAuthorize), flag, certificatesText(b.Certificates))
	return err
}

func certificatesText(types []string) string {
	if len(types) == 0 {
		return "none"
	}
	text := strings.ToLower(strings.Join(types, ", "))
	if slices.Contains(types, string(authapi.CertificateClient)) {
		text += ": as an internal component its holder may do everything"
	}
	return text
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Describe the running daemon", Args: cobra.NoArgs,
		Example: example("gatehouse status --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			var s daemon.Status
			if err := a.ask(c.Context(), daemon.OpStatus, nil, &s); err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) error {
				documents, restartFor, refresh, warnings := s.Documents, s.RestartFor, s.Refresh, s.Warnings
				s.Documents, s.RestartFor, s.Refresh, s.Warnings = nil, nil, nil, nil
				if err := printInForce(w, s); err != nil {
					return err
				}
				if refresh != nil {
					printRefresh(w, *refresh)
				}
				printDocuments(w, documents, restartFor)
				printWarnings(w, warnings)
				return nil
			})
		},
	}
}
