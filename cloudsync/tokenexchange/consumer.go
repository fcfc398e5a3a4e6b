package tokenexchange

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Consumer is whose programs may have the credentials.
type Consumer struct {
	Name string
	// UID is the user whose programs they are: the token's file belongs to it.
	UID int
	// AnyUser lets programs of other users show the token, too: those in containers, whose
	// users the kernel shows under other numbers.
	AnyUser bool
}

// Own is the consumer that is the daemon itself.
const Own = "gatehouse"

var consumerPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// CheckConsumerName returns why name cannot be a consumer's. It names a folder, too.
func CheckConsumerName(name string) error {
	if !consumerPattern.MatchString(name) {
		return fmt.Errorf("consumer %.80q: want 1 to 63 of a-z 0-9 _ . - that begin with a letter or digit", name)
	}
	if name == Own {
		return fmt.Errorf("consumer %q is Gatehouse itself: choose another name", name)
	}
	return nil
}

// The files in a consumer's folder, which belong to its user and nobody else can enter.
const (
	tokenFile       = "token"       // the token and nothing else, as SDKs read it
	EnvironmentFile = "environment" // the variables, one a line: for `gatehouse run` and systemd
)

const (
	tokenPrefix     = "ghtx_" // for tools that look for secrets
	tokenRandom     = 32
	tokenBytesMax   = 128
	environBytesMax = 16 << 10
)

func newToken() string {
	var b [tokenRandom]byte
	_, _ = rand.Read(b[:]) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func isToken(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(s, tokenPrefix))
	return err == nil && len(b) == tokenRandom && strings.HasPrefix(s, tokenPrefix)
}

// digest is what of a token is kept in memory.
type digest [sha256.Size]byte

// vault keeps the tokens, in a folder of the daemon's own, so that programs that are running
// when the daemon is restarted go on. Copies lie in the consumers' folders: nothing is ever
// read from those, where their users may write.
type vault struct {
	own    string // the daemon's folder: NAME holds NAME's token
	shared string // where the consumers' folders are
}

// openVault makes both folders. Others may pass through the shared one where consumers are
// other users.
func openVault(own, shared string, consumers []Consumer) (*vault, error) {
	mode := fs.FileMode(0o700)
	if slices.ContainsFunc(consumers, func(c Consumer) bool { return c.UID != os.Geteuid() }) {
		mode = 0o711
	}
	for _, folder := range []struct {
		path string
		mode fs.FileMode
	}{{own, 0o700}, {shared, mode}} {
		if err := os.MkdirAll(folder.path, folder.mode); err != nil {
			return nil, err
		}
		if err := checkFolder(folder.path, folder.mode); err != nil {
			return nil, err
		}
	}
	return &vault{own, shared}, nil
}

// checkFolder refuses a folder that another user could change, and sets its mode.
func checkFolder(path string, mode fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s: want a folder that only this user can change; it is %s: see who made it", path, info.Mode())
	}
	if info.Mode().Perm() == mode {
		return nil
	}
	return os.Chmod(path, mode)
}

// token is the consumer's token: the one it had, or a new one.
func (v *vault) token(name string) (string, error) {
	path := filepath.Join(v.own, name)
	text, err := readSmall(path, tokenBytesMax)
	if err == nil && isToken(string(text)) {
		return string(text), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	root, err := os.OpenRoot(v.own)
	if err != nil {
		return "", err
	}
	defer root.Close()
	token := newToken()
	return token, write(root, name, token, os.Geteuid())
}

var errNeedsRoot = errors.New("a consumer of another user needs the daemon to run as root")

// give lays token and variables into the consumer's folder.
func (v *vault) give(c Consumer, token string, variables []string) error {
	folder := filepath.Join(v.shared, c.Name)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	// The folder's parent is this user's, so that the folder is no other than it was.
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: no folder: see who made it, and remove it", folder)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		return err
	}
	if err := os.Lchown(folder, c.UID, -1); err != nil {
		return fmt.Errorf("%w; %w", err, errNeedsRoot)
	}
	if err := write(root, tokenFile, token, c.UID); err != nil {
		return err
	}
	return write(root, EnvironmentFile, strings.Join(variables, "\n")+"\n", c.UID)
}

// write puts a file with mode 0400 in place, whole. The folder may be its reader's: so the file
// is a new one, and what is done to it is done by its descriptor.
func write(root *os.Root, name, content string, uid int) error {
	fresh := "." + name + "." + newToken()[len(tokenPrefix):][:16]
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Chown(uid, -1), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(fresh, name)
	}
	if err != nil {
		_ = root.Remove(fresh)
		return fmt.Errorf("%s: %w", filepath.Join(root.Name(), name), err)
	}
	return nil
}

// Withdraw takes the tokens of all consumers away, where there are no consumers any more: who
// comes back gets another. The folders are those of ServerConfig.
func Withdraw(own, shared string) error {
	v := &vault{own, shared}
	if err := v.retain(nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("token exchange: %w", err)
	}
	return nil
}

// retain removes the tokens of consumers that there are no more.
func (v *vault) retain(consumers []Consumer) error {
	entries, err := os.ReadDir(v.own)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.ContainsFunc(consumers, func(c Consumer) bool { return c.Name == e.Name() }) {
			continue
		}
		if consumerPattern.MatchString(e.Name()) {
			v.remove(e.Name())
		}
		if err := os.Remove(filepath.Join(v.own, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a consumer's folder away, with what give made in it. What its user put there
// stays.
func (v *vault) remove(name string) {
	if root, err := os.OpenRoot(filepath.Join(v.shared, name)); err == nil {
		_ = root.Remove(tokenFile)
		_ = root.Remove(EnvironmentFile)
		_ = root.Close()
	}
	_ = os.Remove(filepath.Join(v.shared, name))
}

// readSmall reads a regular file of at most max bytes.
func readSmall(path string, max int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s: not a regular file", path))
	}
	text, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(text)) > max {
		err = fmt.Errorf("%s: more than %d bytes", path, max)
	}
	return text, err
}
