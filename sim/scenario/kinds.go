package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kind is a kind of event: what the file calls it, what it does, and its fields.
type kind struct {
	name, doc string
	act       action // a pointer to a zero value
}

// kinds are all events there are, in the order of the help.
var kinds = []kind{
	{"cloudCert", "registers a certificate in the cloud, or changes its status", &cloudCert{}},
	{"cloudAttach", "attaches a certificate to a thing in the cloud", &cloudAttach{}},
	{"cloudDetach", "takes it away again", &cloudDetach{}},
	{"associate", "makes a thing a client device of the core in the cloud", &associate{}},
	{"disassociate", "ends that", &disassociate{}},
	{"listError", "makes the cloud refuse to list the core's client devices", &listError{}},
	{"fault", "makes the cloud misbehave", &faultEvent{}},
	{"account", "changes what the cloud lets the core do", &account{}},
	{"cloudReachable", "says whether the cloud answers: if not, nothing listens there", &cloudReachable{}},
	{"network", "says whether the core's own link to the cloud is up, the flag that decides who is checked again; one that comes up without \"at\" does so with the next event that is not the cloud's, at its moment", &network{}},
	{"certValidity", "gives a certificate its validity, from the scenario's beginning on; without it, it is valid throughout", &certValidity{}},
	{"componentCert", "the core's own authority issues a certificate to an internal component", &componentCert{}},
	{"verify", "a broker asks whether a certificate is good (VerifyClientDeviceIdentity)", &verify{}},
	{"session", "a broker asks for a session (GetClientDeviceAuthToken), and closes it again", &session{}},
	{"connect", "verify, and session if that says yes", &connect{}},
	{"close", "a thing that stayed goes away: its sessions are closed by the broker", &closeSessions{}},
	{"authorize", "a broker asks for the latest session of a thing that stayed whether it may do something", &authorize{}},
	{"refresh", "looks at the daily refresh of all stored trust, which runs by itself when it is due", &refresh{}},
	{"sessions", "looks at the sessions of things", &sessions{}},
	{"state", "looks at what is stored", &state{}},
	{"log", "counts events in the log", &logCounts{}},
	{"config", "puts another clientDeviceAuth section in force", &configure{}},
	{"quarantine", "an operator refuses a device", &quarantine{}},
	{"release", "an operator ends that", &release{}},
	{"fleetCert", "the fleet's authority issues a certificate to a device that nobody registered", &fleetCert{}},
	{"registration", "lets devices of the fleet's authority register from now on, under their certificate's common name", &registrationOf{}},
	{"registrar", "says what becomes of those who ask to be registered", &registrar{}},
	{"arrive", "a client connects, and the broker asks for everything at once (authenticate)", &arrive{}},
	{"restart", "the core is stopped in order and started on the same log", &restart{}},
	{"kill", "the core ends as by kill -9, and is started on the same log", &kill{}},
	{"reboot", "the machine is off for a while", &reboot{}},
	{"suspend", "the machine sleeps; then the core goes on", &suspend{}},
	{"clock", "turns the core's wall clock, or says whether it is synchronised", &clock{}},
	{"cloudDate", "sets the cloud's clock wrong", &cloudDate{}},
	{"wait", "lets time pass", &wait{}},
}

// cloudOnly marks events that change the cloud alone.
type cloudOnly struct{}

func (cloudOnly) ofCloud() {}

func kindOf(name string) *kind {
	if i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name }); i >= 0 {
		return &kinds[i]
	}
	return nil
}

func kindNames() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// alias is a scenario's name for a certificate. "garbage" is no certificate at all.
type alias string

func (a alias) check() error {
	if a == "" || len(a) > 64 || strings.ContainsFunc(string(a), func(r rune) bool { return !strconv.IsPrint(r) }) {
		return errors.New("a certificate's name has 1 to 64 printable characters")
	}
	return nil
}

// thing is the name of a thing, or a client id that is to be refused as one.
type thing string

func (t thing) check() error {
	if len(t) > 1024 {
		return fmt.Errorf("a client id of %d bytes, want at most 1024", len(t))
	}
	return nil
}

// outcome is what came of asking for a session.
type outcome string

func (outcome) choices() []string { return []string{ok, denied, serviceError} }

// The outcomes.
const (
	ok           = "ok"
	denied       = "denied"        // InvalidCredential
	serviceError = "service-error" // Service
)

// source is on whose word a verify was answered.
type source string

func (source) choices() []string {
	return []string{"cloud", "local", "validity", "component", "none"}
}
