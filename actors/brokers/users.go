package brokers

import (
	"encoding/base64"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// userRegistry knows the users of the embedded server by their nkeys and checks who
// connects. The server's own nkey users do not do for two reasons: they refuse the
// .creds files that stock clients read (these send a JWT in place of the nkey), and a
// new one needs a reload of the server's options.
type userRegistry struct {
	mu    sync.RWMutex
	users map[string]registered // guarded by mu; by public nkey
}

type registered struct {
	name        string
	permissions *server.Permissions
}

func newUserRegistry() *userRegistry { return &userRegistry{users: map[string]registered{}} }

func (r *userRegistry) add(name string, as role, public string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users[public] = registered{name, allowedTo(as, name).permissions()}
}

// addChecked is add for keys from outside: one key is one user for good.
func (r *userRegistry) addChecked(name string, as role, public string) error {
	if !nkeys.IsValidPublicUserKey(public) {
		return fmt.Errorf("nkey %.60q: want a public user key, 56 characters that begin with U", public)
	}
	r.mu.RLock()
	other, taken := r.users[public]
	r.mu.RUnlock()
	if taken && other.name != name {
		return fmt.Errorf("nkey %s belongs to %s already", public, other.name)
	}
	r.add(name, as, public)
	return nil
}

// remove forgets the keys of name and returns them.
func (r *userRegistry) remove(name string) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := map[string]bool{}
	for public, u := range r.users {
		if u.name == name {
			gone[public] = true
			delete(r.users, public)
		}
	}
	return gone
}

// Check implements server.Authentication: a client is who it says if it signed this
// connection's nonce with a known nkey. It holds the lock until the user is registered,
// so that remove, once it has returned, finds every connection of the removed.
func (r *userRegistry) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	opts := c.GetOpts()
	public, err := claimedKey(opts)
	if err != nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	user, ok := r.users[public]
	if !ok || !signed(public, c.GetNonce(), opts.Sig) {
		return false
	}
	c.RegisterUser(&server.User{Username: user.name, Permissions: user.permissions})
	return true
}

// claimedKey is the nkey that a client says it has: in the field for it, or as the
// subject of the JWT in a .creds file. Nothing else in the JWT counts: not its
// permissions, and above all not that it be a bearer token.
func claimedKey(opts *server.ClientOpts) (string, error) {
	if opts.JWT == "" {
		return opts.Nkey, nil
	}
	claims, err := jwt.DecodeUserClaims(opts.JWT)
	if err != nil {
		return "", fmt.Errorf("user JWT: %w", err)
	}
	if opts.Nkey != "" && opts.Nkey != claims.Subject {
		return "", errors.New("the JWT is another user's than the nkey")
	}
	return claims.Subject, nil
}

// signed reports whether sig is public's signature of nonce. Clients write base64 in
// two ways, both of which the server's own check takes.
func signed(public string, nonce []byte, sig string) bool {
	if len(nonce) == 0 || sig == "" {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(sig); err != nil {
			return false
		}
	}
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		return false
	}
	return key.Verify(nonce, raw) == nil
}
