package daemon

import (
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Version is this program's version, as the log and NATS discovery show it.
const Version = "0.1.0"

// Config is what a daemon is made of. Dir and Logger are required.
type Config struct {
	Dir  string // everything the daemon keeps; made with mode 0700
	Mode string // "dev" or "serve", for the record

	// Policy is the file that holds only deviceGroups, reloaded when it changes. Empty:
	// the section holds them.
	Policy string
	// File is gatehouse.yaml, with an absolute path: its section clientDeviceAuth is taken
	// again when it changes. Empty: there is none.
	File string
	// Document is what File held at the start, and Settings what it says, as written.
	// Problems say, with places, why its section cannot be used: then the one in the log
	// is.
	Document []byte
	Settings config.File
	Problems []string

	// Section is put in force at the start where there is no File; nil: what the log has is.
	Section *config.Section

	NATSListen string        // of the embedded server; empty: in process only
	NATSTLS    *tls.Config   // of the embedded server; needed off loopback
	NATS       *ExternalNATS // nil: the embedded server
	// MQTTListen is the embedded broker's address; empty: there is none.
	MQTTListen string
	MQTTMinTLS uint16              // oldest version of TLS it takes; 0: 1.2
	MQTTHosts  []string            // names and addresses devices dial, for its certificate
	HTTPListen string              // of the status page, on loopback; empty: there is none
	Brokers    []messages.BrokerID // made on start if they are not there yet

	// Cloud says how the cloud is reached; nil: never, and only stored trust counts.
	Cloud *cloudsync.Config
	// CloudTime, if set, tells the time by which the cloud's certificate is judged, from the
	// moment that the daemon knows it: for those who reach the cloud beside Cloud.DataPlane.
	CloudTime *CloudTime
	// Associations lists the things associated with this core; nil: stored trust is not
	// refreshed.
	Associations actors.Associations
	// Authorities tells the cloud which authorities devices must trust; nil: it is not told.
	// It is closed with the daemon. It needs Cloud, as the next.
	Authorities *cloudsync.Authorities
	// Addresses says how the core's addresses in the cloud are followed, but for its Keeper,
	// OnLink, Now and Log; nil: they are not.
	Addresses *shadow.Config
	// TokenExchange gives local programs AWS credentials; nil: it does not.
	TokenExchange *TokenExchange
	// Registration says which devices that nobody registered become known.
	Registration Registration
	// BudgetOffTime: stored trust counts, for a shorter time, when nobody knows how long
	// the machine was off (trust.unknownOffTime: budget). Default: it does not.
	BudgetOffTime bool
	// Trust overrides the configured trust duration, whose unit is the minute. 0: not.
	Trust time.Duration
	// Recheck is how often the cloud is asked about connected devices, beyond what keeps
	// their trust alive; 0: not more often than that.
	Recheck time.Duration

	CAType     string // of a new managed authority, instead of what Section says (dev: ECDSA_P256)
	Passphrase []byte // of the authority's key; nil: the key lies in a file of mode 0400
	// PKCS11 says how a token is reached that holds an authority of one's own.
	PKCS11 keys.PKCS11

	Logger *slog.Logger
	// Fatal ends the process when the log failed. Required in production; default panic.
	Fatal func(error)

	freeSpace func(dir string) (uint64, error) // of the log's file system; nil: the real one's
}

// localBroker is the embedded MQTT broker's own name.
const localBroker messages.BrokerID = "mqtt"

// ExternalNATS says how a NATS server that is not ours is reached.
type ExternalNATS struct {
	URL         string
	Credentials []byte // of the daemon: a .creds file or an nkey seed
	TLS         *tls.Config
}
