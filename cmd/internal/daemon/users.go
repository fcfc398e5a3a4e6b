package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// users keeps which nkeys may act as which broker or operator: public halves in
// users.json, the secret halves in .creds files that are handed out. The command line and
// a running daemon may both add to it, so the file is what counts.
type users struct {
	dir string // "brokers" in the daemon's directory

	mu   sync.Mutex
	keys map[string][]string // name → public nkeys, as last read or written; guarded by mu
}

// usersMaxBytes bounds users.json.
const usersMaxBytes = 1 << 20

// BrokersDir is where a daemon's directory keeps the brokers' credentials.
func BrokersDir(dir string) string { return filepath.Join(dir, "brokers") }

func openUsers(dir string) (*users, error) {
	u := &users{dir: BrokersDir(dir)}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkPrivate(u.dir); err != nil {
		return nil, err
	}
	return u, u.read()
}

// read takes what users.json says; mu is held, or nobody else has u yet.
func (u *users) read() error {
	keys := map[string][]string{}
	doc, err := readLimited(u.file(), usersMaxBytes)
	if err == nil {
		if err := json.Unmarshal(doc, &keys); err != nil {
			return fmt.Errorf("%s: %w; restore it, or remove it and add the brokers again", u.file(), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	u.keys = keys
	return nil
}

// lock keeps other processes from adding users until unlock is called.
func (u *users) lock() (unlock func(), err error) {
	dir, err := os.Open(u.dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", u.dir, err), dir.Close())
	}
	return func() { _ = dir.Close() }, nil // the kernel ends the lock with it
}

// checkPrivate refuses a folder of credentials that others may enter: who can write it
// lets anyone in, as anybody.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s: mode %04o lets others at the brokers' credentials; see who made it, then chmod 700 %s", dir, mode, dir)
	}
	return nil
}

func (u *users) file() string { return filepath.Join(u.dir, "users.json") }

// CredsFile is where the credentials of a broker or operator are written.
func CredsFile(dir, name string) string { return filepath.Join(BrokersDir(dir), name+".creds") }

// ensure makes credentials for name unless there are some, and returns them.
func (u *users) ensure(name string) (brokers.Credentials, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	unlock, err := u.lock()
	if err != nil {
		return brokers.Credentials{}, err
	}
	defer unlock()
	if err := u.read(); err != nil {
		return brokers.Credentials{}, err
	}
	path := filepath.Join(u.dir, name+".creds")
	if file, err := readLimited(path, usersMaxBytes); err == nil {
		c, err := brokers.ParseCredentials(file)
		if err == nil && slices.Contains(u.keys[name], c.Public) {
			return c, nil
		}
	}
	return u.add(name, path)
}

// add makes fresh credentials for name beside those it has; mu and the lock are held.
func (u *users) add(name, path string) (brokers.Credentials, error) {
	c, err := newCredentials(name)
	if err != nil {
		return brokers.Credentials{}, err
	}
	u.keys[name] = append(u.keys[name], c.Public)
	doc, err := json.MarshalIndent(u.keys, "", "  ")
	if err != nil {
		return brokers.Credentials{}, err
	}
	// The public half first: credentials that nobody knows are harmless, but useless.
	if err := WriteFile(u.file(), doc, 0o600); err != nil {
		return brokers.Credentials{}, err
	}
	return c, WriteFile(path, c.File(), 0o400)
}

// knows says whether name has keys.
func (u *users) knows(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.read(); err != nil {
		return true // whoever asks goes on, and meets the error
	}
	return len(u.keys[name]) > 0
}

// remove takes the keys of name, and its credentials.
func (u *users) remove(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := u.read(); err != nil {
		return err
	}
	delete(u.keys, name)
	doc, err := json.MarshalIndent(u.keys, "", "  ")
	if err != nil {
		return err
	}
	if err := WriteFile(u.file(), doc, 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(u.dir, name+".creds")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func newCredentials(name string) (brokers.Credentials, error) {
	switch name {
	case authapi.ServiceName:
		return brokers.NewDaemonCredentials()
	case authapi.OperatorAdmin, authapi.OperatorAuditor:
		return brokers.NewOperatorCredentials(name)
	default:
		return brokers.NewBrokerCredentials(messages.BrokerID(name))
	}
}

// WriteNATSConfig makes the credentials that a daemon with an external NATS server needs
// in dir, those of the named brokers included, and writes that server's users.
func WriteNATSConfig(w io.Writer, dir string, names []messages.BrokerID) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	u, err := openUsers(dir)
	if err != nil {
		return err
	}
	all := []string{authapi.ServiceName, authapi.OperatorAdmin, authapi.OperatorAuditor, string(localBroker)}
	for _, name := range names {
		all = append(all, string(name))
	}
	for _, name := range all {
		if _, err := u.ensure(name); err != nil {
			return err
		}
	}
	var users []brokers.User
	err = u.all(func(name, public string) error {
		if name == authapi.ServiceName {
			name = "" // the daemon itself
		}
		users = append(users, brokers.User{Name: name, Public: public})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(users, func(a, b brokers.User) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Public, b.Public))
	})
	return brokers.WriteServerConfig(w, users)
}

// all calls f for each name and key.
func (u *users) all(f func(name, public string) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, keys := range u.keys {
		for _, public := range keys {
			if err := f(name, public); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteFile replaces a file as a whole: whoever reads it sees the old or the new one.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when all went well
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
