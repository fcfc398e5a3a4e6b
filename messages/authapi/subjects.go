package authapi

import (
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The protocol's fixed names.
const (
	// ServiceName is the name the daemon registers under, as `nats service info` shows it.
	ServiceName = "gatehouse"
	// SubjectPrefix starts every subject of this version of the protocol.
	SubjectPrefix = "gatehouse.v1."

	pushPrefix  = SubjectPrefix + "push."
	inboxPrefix = "_INBOX_"

	// replyMaxBytes bounds a reply subject; client libraries make ones under 80 bytes.
	replyMaxBytes = 256
)

// The people beside the brokers, each with an inbox of its own, as brokers have.
const (
	// CredentialsTag marks the JWT in a credentials file that Gatehouse made: no NATS
	// operator signed it, and what counts is the nkey beside it.
	CredentialsTag = "gatehouse"

	OperatorAdmin   = "admin"
	OperatorAuditor = "auditor"
)

// Op is a request a broker may make; its value is the last token of the subject.
type Op string

// The operations. Permissions is Gatehouse's own: it returns what Authenticate
// returned, compiled afresh, after a policy-changed push.
const (
	OpVerify       Op = "verify"
	OpToken        Op = "token"
	OpAuthorize    Op = "authorize"
	OpAuthenticate Op = "authenticate"
	OpPermissions  Op = "permissions"
	OpClose        Op = "close"
	OpCertificates Op = "certificates"
)

// Ops lists every operation, in the order documents show them.
func Ops() []Op {
	return []Op{OpVerify, OpToken, OpAuthorize, OpAuthenticate, OpPermissions, OpClose, OpCertificates}
}

// Push is a kind of message the daemon sends unasked; its value is the last token of
// the subject.
type Push string

// The pushes.
const (
	PushSessionClosed      Push = "session-closed"
	PushPolicyChanged      Push = "policy-changed"
	PushCertificateUpdated Push = "certificate-updated"
	PushHeartbeat          Push = "heartbeat"
)

// Pushes lists every kind of push.
func Pushes() []Push {
	return []Push{PushSessionClosed, PushPolicyChanged, PushCertificateUpdated, PushHeartbeat}
}

// ParseBroker checks s and returns it as the name of a broker that can take part in
// the protocol: a messages.BrokerID that is not the second word of one of Gatehouse's
// own subjects, lest a broker named "admin" may publish on gatehouse.v1.admin.*.
func ParseBroker(s string) (messages.BrokerID, error) {
	switch s {
	case "push", "events", "audit", ServiceName, OperatorAdmin, OperatorAuditor:
		return "", fmt.Errorf("broker id: %w: %q is a word of the protocol, choose another name", messages.ErrInvalidID, s)
	}
	return messages.ParseBrokerID(s)
}

// Subject is where broker sends its op requests.
func Subject(broker messages.BrokerID, op Op) string {
	return SubjectPrefix + string(broker) + "." + string(op)
}

// AllBrokers is the subscription that hears op from every broker.
func AllBrokers(op Op) string { return SubjectPrefix + "*." + string(op) }

// ParseSubject reads a request's subject. The broker it returns is who sent the
// request, as far as NATS permissions hold: it comes from nowhere else.
func ParseSubject(subject string) (messages.BrokerID, Op, error) {
	broker, op, err := cutSubject(subject, SubjectPrefix, "op")
	if err != nil {
		return "", "", err
	}
	switch o := Op(op); o {
	case OpVerify, OpToken, OpAuthorize, OpAuthenticate, OpPermissions, OpClose, OpCertificates:
		return broker, o, nil
	}
	return "", "", fmt.Errorf("subject %.120q: no operation %.40q", subject, op)
}

// PushSubject is where the daemon sends pushes of kind p to broker.
func PushSubject(broker messages.BrokerID, p Push) string {
	return pushPrefix + string(broker) + "." + string(p)
}

// PushSubjects is the one subscription a broker makes for all its pushes: one, so
// that NATS keeps them in the order they were sent.
func PushSubjects(broker messages.BrokerID) string { return pushPrefix + string(broker) + ".>" }

// ParsePushSubject reads a push's subject.
func ParsePushSubject(subject string) (messages.BrokerID, Push, error) {
	broker, push, err := cutSubject(subject, pushPrefix, "push")
	if err != nil {
		return "", "", err
	}
	switch p := Push(push); p {
	case PushSessionClosed, PushPolicyChanged, PushCertificateUpdated, PushHeartbeat:
		return broker, p, nil
	}
	return "", "", fmt.Errorf("subject %.120q: no push %.40q", subject, push)
}

// cutSubject takes apart what follows prefix: a broker and one word, which errors call what.
func cutSubject(subject, prefix, what string) (broker messages.BrokerID, word string, err error) {
	rest, ok := strings.CutPrefix(subject, prefix)
	name, word, dotted := strings.Cut(rest, ".")
	if !ok || !dotted {
		return "", "", fmt.Errorf("subject %.120q: want %s<broker>.<%s>", subject, prefix, what)
	}
	if broker, err = ParseBroker(name); err != nil {
		return "", "", fmt.Errorf("subject %.120q: %w", subject, err)
	}
	return broker, word, nil
}

// InboxPrefix is the prefix of broker's reply subjects, without the last dot, as
// nats.CustomInboxPrefix and nats.js' inboxPrefix take it.
func InboxPrefix(broker messages.BrokerID) string { return inboxPrefix + string(broker) }

// CheckReply reports whether reply lies inside broker's inbox. The NATS server checks
// what a client may publish and hear, but not where it asks others to reply: without
// this check a broker would have the daemon write into another broker's inbox or onto
// its pushes (reliability spec R11).
func CheckReply(broker messages.BrokerID, reply string) error {
	head := len(inboxPrefix) + len(broker)
	if len(reply) <= head || reply[:len(inboxPrefix)] != inboxPrefix || reply[len(inboxPrefix):head] != string(broker) {
		return fmt.Errorf("reply subject %.120q: want one below %s%s", reply, inboxPrefix, broker)
	}
	return checkTail(reply, head)
}

// CheckOperatorReply is CheckReply for what is asked of the daemon by others than
// brokers, such as discovery: the reply must go to the administrator's inbox, the
// auditor's, or the default inbox of a NATS client, which no broker may hear.
func CheckOperatorReply(reply string) error {
	for _, inbox := range []string{"_INBOX", inboxPrefix + OperatorAdmin, inboxPrefix + OperatorAuditor} {
		if len(reply) > len(inbox) && reply[:len(inbox)] == inbox && reply[len(inbox)] == '.' {
			return checkTail(reply, len(inbox))
		}
	}
	return fmt.Errorf("reply subject %.120q: want one inside an operator's inbox", reply)
}

// checkTail checks that from byte at on, reply is a dot and one or more plain tokens.
func checkTail(reply string, at int) error {
	if len(reply) > replyMaxBytes {
		return fmt.Errorf("reply subject: %d bytes, want at most %d", len(reply), replyMaxBytes)
	}
	dot := false
	for i := at; i < len(reply); i++ {
		c := reply[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' { // nearly all of it
			if dot = false; i > at {
				continue
			}
		}
		if c <= ' ' || c >= 0x7f || c == '*' || c == '>' || (i == at && c != '.') || (c == '.' && dot) {
			return fmt.Errorf("reply subject %.120q: byte %d is %q: want plain tokens", reply, i, c)
		}
		dot = c == '.'
	}
	if dot {
		return fmt.Errorf("reply subject %.120q: ends in a dot", reply)
	}
	return nil
}

const requestIDMaxBytes = 64

// RequestID reads the header Gatehouse-Request-Id, with which a broker may name its
// request: 1 to 64 of [A-Za-z0-9_-]. Empty means that it did not.
func RequestID(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	if _, err := messages.ParseBrokerID(header); err != nil { // the same alphabet and length
		return "", invalid(fmt.Errorf("header %s: want 1 to %d letters, digits, '_' or '-'", HeaderRequestID, requestIDMaxBytes))
	}
	return header, nil
}
