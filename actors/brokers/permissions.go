package brokers

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// daemonName is the user and the inbox of the daemon itself. authapi.ParseBroker refuses
// it to brokers.
const daemonName = authapi.ServiceName

// role is what a user of the NATS server may be.
type role uint8

const (
	roleBroker role = iota
	roleAuditor
	roleAdmin
	roleDaemon
)

// allowed is a user's allow-lists. There are no deny-lists: in NATS they have been
// by-passed by overlapping wildcards before (reliability spec 1.3, 4.5).
type allowed struct {
	publish   []string
	subscribe []string
	responds  bool // may answer what it is asked, wherever the asker says: see authapi.CheckReply
}

// allowedTo returns the allow-lists of the user name in role r.
func allowedTo(r role, name string) allowed {
	discovery := []string{
		"$SRV.PING", "$SRV.INFO", "$SRV.STATS",
		"$SRV.PING." + authapi.ServiceName, "$SRV.INFO." + authapi.ServiceName, "$SRV.STATS." + authapi.ServiceName,
		"$SRV.PING." + authapi.ServiceName + ".*", "$SRV.INFO." + authapi.ServiceName + ".*", "$SRV.STATS." + authapi.ServiceName + ".*",
	}
	inbox := authapi.InboxPrefix(messages.BrokerID(name)) + ".>"
	switch r {
	case roleDaemon:
		a := allowed{
			publish:   []string{authapi.SubjectPrefix + "push.>", authapi.SubjectPrefix + "events.>"},
			subscribe: append(discovery, authapi.SubjectPrefix+"admin.*", authapi.SubjectPrefix+"audit.*", inbox),
			responds:  true,
		}
		for _, op := range authapi.Ops() {
			a.subscribe = append(a.subscribe, authapi.AllBrokers(op))
		}
		return a
	case roleAuditor:
		return allowed{
			publish:   append(discovery, authapi.SubjectPrefix+"audit.*"),
			subscribe: []string{inbox, authapi.SubjectPrefix + "events.>"},
		}
	case roleAdmin:
		return allowed{
			publish:   append(discovery, authapi.SubjectPrefix+"admin.*"),
			subscribe: []string{inbox},
		}
	default:
		a := allowed{subscribe: []string{inbox, authapi.PushSubjects(messages.BrokerID(name))}}
		for _, op := range authapi.Ops() {
			a.publish = append(a.publish, authapi.Subject(messages.BrokerID(name), op))
		}
		return a
	}
}

// responseTTL is how long the daemon may take to answer: more than a desk's deadline.
const responseTTL = 30 * time.Second

// permissions is a as the embedded server takes it.
func (a allowed) permissions() *server.Permissions {
	p := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: a.publish},
		Subscribe: &server.SubjectPermission{Allow: a.subscribe},
	}
	if a.responds {
		p.Response = &server.ResponsePermission{MaxMsgs: 1, Expires: responseTTL}
	}
	return p
}

// User is a user of an external NATS server, for WriteServerConfig.
type User struct {
	Name   string // a broker's, authapi.OperatorAdmin or authapi.OperatorAuditor; empty for the daemon
	Public string // its nkey
}

func (u User) role() role {
	switch u.Name {
	case "":
		return roleDaemon
	case authapi.OperatorAdmin:
		return roleAdmin
	case authapi.OperatorAuditor:
		return roleAuditor
	default:
		return roleBroker
	}
}

// WriteUserConfig writes the entry of one user for the "users" list of an external
// nats-server's configuration.
func WriteUserConfig(w io.Writer, u User) error {
	name := u.Name
	if u.role() == roleDaemon {
		name = daemonName
	}
	a := allowedTo(u.role(), name)
	var b strings.Builder
	fmt.Fprintf(&b, "    # %s\n    { nkey: %s, permissions: {\n", name, u.Public)
	fmt.Fprintf(&b, "        publish:   { allow: [%s] },\n", quoted(a.publish))
	fmt.Fprintf(&b, "        subscribe: { allow: [%s] }", quoted(a.subscribe))
	if a.responds {
		fmt.Fprintf(&b, ",\n        allow_responses: { max: 1, expires: %q }", responseTTL)
	}
	b.WriteString(" } }\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write NATS user of %s: %w", name, err)
	}
	return nil
}

// WriteServerConfig writes the authorization section of an external nats-server's
// configuration: the daemon, the operators and the brokers, each with its allow-lists,
// and nobody else (reliability spec 4.5).
func WriteServerConfig(w io.Writer, users []User) error {
	if _, err := fmt.Fprintf(w, "max_payload: %d\nmax_control_line: %d\nauthorization {\n  users = [\n", maxPayload, maxControlLine); err != nil {
		return fmt.Errorf("write NATS configuration: %w", err)
	}
	for _, u := range users {
		if err := WriteUserConfig(w, u); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(w, "  ]\n}\n"); err != nil {
		return fmt.Errorf("write NATS configuration: %w", err)
	}
	return nil
}

func quoted(subjects []string) string { return `"` + strings.Join(subjects, `", "`) + `"` }
