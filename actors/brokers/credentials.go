package brokers

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// credentialsMaxBytes bounds a credentials file; real ones are about 1 KiB.
const credentialsMaxBytes = 16 << 10

// ownTag marks the JWT of credentials made here, which no NATS operator has signed.
const ownTag = authapi.CredentialsTag

// Credentials let a NATS client act as one user: an nkey with its secret seed. The file
// form is the .creds file that every NATS client reads.
type Credentials struct {
	Name   string // of the broker or operator
	Public string // the nkey by which the server knows the user: "U…"
	file   []byte
	own    bool // made here: the nkey is what counts; else the JWT is
}

// NewBrokerCredentials makes a fresh nkey for broker and its credentials.
//
// What proves the user is the nkey's signature of the server's nonce, and what the user
// may do is kept by the server under the nkey. The JWT in the file is an envelope: stock
// clients insist on one (nats.UserCredentials, nats.js credsAuthenticator, the nats
// command), so it is there, signed by an account key that is thrown away.
func NewBrokerCredentials(broker messages.BrokerID) (Credentials, error) {
	if _, err := authapi.ParseBroker(string(broker)); err != nil {
		return Credentials{}, fmt.Errorf("make credentials: %w", err)
	}
	return newCredentials(string(broker))
}

// NewOperatorCredentials makes credentials for authapi.OperatorAdmin or
// authapi.OperatorAuditor.
func NewOperatorCredentials(name string) (Credentials, error) {
	if name != authapi.OperatorAdmin && name != authapi.OperatorAuditor {
		return Credentials{}, fmt.Errorf("make credentials: no operator %q, want %s or %s", name, authapi.OperatorAdmin, authapi.OperatorAuditor)
	}
	return newCredentials(name)
}

// NewDaemonCredentials makes credentials for the daemon itself at an external NATS
// server; the embedded one needs none.
func NewDaemonCredentials() (Credentials, error) { return newCredentials(daemonName) }

func newCredentials(name string) (Credentials, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return Credentials{}, fmt.Errorf("make nkey of %s: %w", name, err)
	}
	defer user.Wipe()
	account, err := nkeys.CreateAccount()
	if err != nil {
		return Credentials{}, fmt.Errorf("make nkey of %s: %w", name, err)
	}
	defer account.Wipe()
	public, err := user.PublicKey()
	if err != nil {
		return Credentials{}, fmt.Errorf("make nkey of %s: %w", name, err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	claims.Tags.Add(ownTag)
	envelope, err := claims.Encode(account)
	if err != nil {
		return Credentials{}, fmt.Errorf("make credentials of %s: %w", name, err)
	}
	seed, err := user.Seed()
	if err != nil {
		return Credentials{}, fmt.Errorf("make credentials of %s: %w", name, err)
	}
	file, err := jwt.FormatUserConfig(envelope, seed)
	if err != nil {
		return Credentials{}, fmt.Errorf("make credentials of %s: %w", name, err)
	}
	return Credentials{Name: name, Public: public, file: file, own: true}, nil
}

// ParseCredentials reads a .creds file, or an nkey seed alone.
func ParseCredentials(file []byte) (Credentials, error) {
	if len(file) > credentialsMaxBytes {
		return Credentials{}, fmt.Errorf("credentials: %d bytes, want at most %d", len(file), credentialsMaxBytes)
	}
	user, err := nkeys.ParseDecoratedUserNKey(file)
	if err != nil {
		return Credentials{}, errors.New("credentials: no nkey user seed in it: want a .creds file or a seed that begins with SU")
	}
	defer user.Wipe()
	public, err := user.PublicKey()
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: %w", err)
	}
	c := Credentials{Public: public, file: bytes.Clone(file), own: true}
	text, err := nkeys.ParseDecoratedJWT(file)
	if err != nil || text == string(file) { // no JWT in it: a seed alone
		return c, nil
	}
	claims, err := jwt.DecodeUserClaims(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: user JWT: %w", err)
	}
	if claims.Subject != public {
		return Credentials{}, errors.New("credentials: the JWT and the seed are of different users")
	}
	c.Name, c.own = claims.Name, slices.Contains(claims.Tags, ownTag)
	return c, nil
}

// File returns the .creds file: a secret, to be kept in a file of mode 0400.
func (c Credentials) File() []byte { return bytes.Clone(c.file) }

// LogValue keeps the seed out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.Name + " " + c.Public) }

// String keeps the seed out of error texts.
func (c Credentials) String() string { return "credentials of " + c.Name + " " + c.Public }

// option is how a nats.go client uses c: by its nkey if they were made here, which works
// on every server that knows the nkey; by the JWT if an operator signed it.
func (c Credentials) option() (nats.Option, error) {
	if !c.own {
		return nats.UserCredentialBytes(c.file), nil
	}
	user, err := nkeys.ParseDecoratedUserNKey(c.file)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return nats.Nkey(c.Public, user.Sign), nil
}
