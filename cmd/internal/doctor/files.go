package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

const (
	filesMax     = 2000 // of a folder that are looked at
	fileBytesMax = 1 << 20
)

// files checks what lies on this machine, and who may read it.
func (h *Host) files(context.Context) []Result {
	list := []Result{h.configFile()}
	if h.Dir == "" {
		return append(list, unknown("files.directory", "no directory of a daemon is named (--dir, or dir in gatehouse.yaml)"))
	}
	info, err := os.Stat(h.Dir)
	if err != nil {
		return append(list, bad(Warning, "files.directory", "the daemon's directory", []string{"the first start makes it: gatehouse serve -c gatehouse.yaml"}, "%v", err))
	}
	owner := ownerOf(info)
	list = append(list, directory(h.Dir, info))
	for _, folder := range []struct{ check, path string }{
		{"files.keys", filepath.Join(h.Dir, "keys")}, {"files.credentials", daemon.BrokersDir(h.Dir)}, {"files.log", daemon.LogDir(h.Dir)},
	} {
		list = append(list, folderPrivate(folder.check, folder.path, owner))
	}
	return append(list, h.secretFiles()...)
}

// directory judges the daemon's own: others may look in, for ca.pem, but not change what is
// there. What is secret is in folders that they may not enter.
func directory(path string, info fs.FileInfo) Result {
	const name = "files.directory"
	mode := info.Mode().Perm()
	switch {
	case !info.IsDir():
		return bad(Failed, name, "a directory", []string{"name another with --dir, or dir in gatehouse.yaml"}, "%s is none", path)
	case mode&0o022 != 0:
		return bad(Failed, name, "mode 0700, or 0755 for ca.pem", []string{"chmod 0700 " + path}, "%s has mode %04o: others may put files of theirs in the place of the daemon's", path, mode)
	}
	return ok(name, "%s: mode %04o, owner %s", path, mode, userName(ownerOf(info)))
}

func (h *Host) configFile() Result {
	const name = "files.config"
	switch {
	case h.Dev:
		return ok(name, "gatehouse dev needs none")
	case h.File == "":
		return unknown(name, "no configuration file is named (-c)")
	case len(h.Problems) > 0:
		return bad(Failed, name, "a file that can be used as a whole", []string{"gatehouse config check " + h.File}, "%s", strings.Join(h.Problems, "; "))
	}
	return ok(name, "%s can be used", h.File)
}

// secretFiles checks the files that the configuration names.
func (h *Host) secretFiles() (list []Result) {
	secrets := []struct{ check, setting, path string }{
		{"files.core-key", "cloud.privateKey", h.Key},
		{"files.passphrase", "keys.passphraseFile", h.Config.Keys.PassphraseFile},
		{"files.nats-creds", "nats.creds", h.Config.NATS.Creds},
		{"files.nats-key", "nats.tls.privateKey", h.Config.NATS.TLS.PrivateKey},
		{"files.pin", "keys.pkcs11.pinFile", h.Config.Keys.PKCS11.PINFile},
	}
	for _, s := range secrets {
		if s.path == "" {
			continue
		}
		r := private(s.check, s.path, -1, 0o400, Failed)
		if r.State != OK {
			r.Found = s.setting + ": " + r.Found
		}
		list = append(list, r)
	}
	for _, s := range []struct{ check, setting, path string }{
		{"files.policy", "policyFile", h.Config.PolicyFile}, {"files.nats-ca", "nats.tls.ca", h.Config.NATS.TLS.CA},
		{"files.nats-certificate", "nats.tls.certificate", h.Config.NATS.TLS.Certificate}, {"files.control-ca", "cloud.control.ca", h.Config.Cloud.Control.CA},
	} {
		if s.path == "" {
			continue
		}
		if _, err := readFile(s.path); err != nil {
			list = append(list, bad(Failed, s.check, "a file that can be read", []string{"put it there, or correct " + s.setting}, "%s: %v", s.setting, err))
		} else {
			list = append(list, ok(s.check, "%s can be read", s.path))
		}
	}
	return list
}

// private checks that one file or folder is its owner's alone. owner is whose it should be,
// -1 for anybody's; a group that may read is of state group.
func private(name, path string, owner int, want fs.FileMode, group State) Result {
	info, err := os.Stat(path)
	if err != nil {
		return bad(Failed, name, "a file that is there", []string{"bring it back, or correct the configuration"}, "%v", err)
	}
	mode := info.Mode().Perm()
	expected := fmt.Sprintf("mode %04o", want)
	chmod := []string{fmt.Sprintf("chmod %04o %s", want, path)}
	switch {
	case mode&0o007 != 0 || mode&0o020 != 0:
		return bad(Failed, name, expected, append(chmod, "see who has read it: what it holds may be known to others"), "%s has mode %04o: others may use it", path, mode)
	case mode&0o070 != 0:
		return bad(group, name, expected, chmod, "%s has mode %04o: its group may use it", path, mode)
	case owner >= 0 && ownerOf(info) != owner:
		return bad(Failed, name, "one owner for all of the daemon's files", []string{fmt.Sprintf("chown %d %s", owner, path)}, "%s belongs to %s, and the directory to %s", path, userName(ownerOf(info)), userName(owner))
	}
	return ok(name, "%s: mode %04o, owner %s", path, mode, userName(ownerOf(info)))
}

// folderPrivate checks a folder and all that is in it.
func folderPrivate(name, path string, owner int) Result {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return unknown(name, "%s is not there yet: the first start makes it", path)
	}
	if r := private(name, path, owner, 0o700, Failed); r.State != OK {
		return r
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrPermission) {
		return unknown(name, "%s belongs to another user: run this as %s, or as root", path, userName(owner))
	}
	if err != nil {
		return unknown(name, "%v", err)
	}
	for i, e := range entries {
		if i == filesMax {
			break
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a daemon is at work
		}
		if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return bad(Failed, name, "plain files", []string{"see what put it there"}, "%s is no plain file", filepath.Join(path, e.Name()))
		}
		// Inside a folder that nobody else enters, a file's own mode counts for secrets.
		if strings.HasSuffix(e.Name(), ".pub") || name == "files.log" {
			continue
		}
		if r := private(name, filepath.Join(path, e.Name()), owner, 0o400, Failed); r.State != OK {
			return r
		}
	}
	return ok(name, "%s: %d files, of %s alone", path, len(entries), userName(owner))
}

func ownerOf(info fs.FileInfo) int {
	if st, known := info.Sys().(*syscall.Stat_t); known {
		return int(st.Uid)
	}
	return -1
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(uid)
}

// readFile reads a file of a bounded length.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err == nil && len(text) > fileBytesMax {
		err = fmt.Errorf("%s: more than %d bytes", path, fileBytesMax)
	}
	return text, err
}
