package tokenexchange

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// As the kernel sees it: nobody cannot read the token, and gets nothing by it.
func TestTheKernelTellsUsersApart(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatal("only root can be two users")
		}
		t.Skip("only root can be two users")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatal(err)
		}
		t.Skip("curl is missing")
	}
	base, err := os.MkdirTemp("", "tokenexchange-") // t.TempDir lies below a folder that is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *ServerConfig, _ *source) {
		c.Shared = filepath.Join(base, "consumers")
		c.Consumers = append(c.Consumers, Consumer{Name: "theirs", UID: nobody})
	})
	as := func(uid uint32, name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Dir = "/"
		out, err := cmd.Output()
		return string(out), err
	}
	theirs, ours := filepath.Join(s.cfg.Shared, "theirs", "token"), filepath.Join(s.cfg.Shared, "app", "token")
	if got, err := as(nobody, "cat", theirs); err != nil || got != s.token("theirs") {
		t.Errorf("its user reads %q, %v", got, err)
	}
	if got, err := as(nobody, "cat", ours); err == nil {
		t.Errorf("another user reads %q", got)
	}
	if got, err := as(4711, "cat", theirs); err == nil {
		t.Errorf("a third user reads %q", got)
	}
	for _, c := range []struct {
		uid   uint32
		token string
		want  string
	}{
		{nobody, s.token("theirs"), "ASIANEEDLE"}, {0, s.token("app"), "ASIANEEDLE"},
		{nobody, s.token("app"), "AccessDenied"}, {0, s.token("theirs"), "AccessDenied"}, {4711, s.token("theirs"), "AccessDenied"},
	} {
		got, err := as(c.uid, curl, "-s", "-H", "Authorization: "+c.token, s.URL())
		if err != nil || !strings.Contains(got, c.want) {
			t.Errorf("user %d: %s, %v; want %s", c.uid, got, err, c.want)
		}
	}
	if got := s.throughIPv6(s.token("app")); !strings.Contains(got, "ASIANEEDLE") {
		t.Errorf("through a socket of IPv6: %s", got)
	}
}

// throughIPv6 asks by a socket of IPv6 that is connected to 127.0.0.1: Go itself would take
// one of IPv4.
func (s *site) throughIPv6(token string) string {
	s.t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		return "ASIANEEDLE: no IPv6 here, so nobody comes by it"
	}
	if err != nil {
		s.t.Fatal(err)
	}
	here := netip.MustParseAddrPort("127.0.0.1:" + s.port)
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Port: int(here.Port()), Addr: here.Addr().As16()}); err != nil {
		s.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	fmt.Fprintf(f, "GET %s HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: %s\r\nConnection: close\r\n\r\n", Path, s.port, token)
	text, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// The files of a consumer, and what becomes of them.
func TestTokensLieInFilesOfTheirUsers(t *testing.T) {
	s := newSite(t, nil)
	mode := func(path string) os.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			return 0
		}
		return info.Mode()
	}
	folder := filepath.Join(s.cfg.Shared, "app")
	for path, want := range map[string]os.FileMode{
		s.cfg.Own: os.ModeDir | 0o700, s.cfg.Shared: os.ModeDir | 0o700, folder: os.ModeDir | 0o700,
		filepath.Join(folder, "token"): 0o400, filepath.Join(folder, "environment"): 0o400, filepath.Join(s.cfg.Own, "app"): 0o400,
	} {
		if got := mode(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	list, err := ReadEnvironment(ConsumerEnvironment(s.cfg.Shared, "app"))
	want := []string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + s.URL(), "AWS_CONTAINER_AUTHORIZATION_TOKEN=" + s.token("app"),
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + filepath.Join(folder, "token"), "AWS_REGION=eu-central-1", "AWS_DEFAULT_REGION=eu-central-1",
	}
	if err != nil || fmt.Sprint(list) != fmt.Sprint(want) {
		t.Errorf("variables %v, %v", list, err)
	}

	// Programs that run go on after a restart, unless the consumer is no more, or its token is
	// none: what lies in its own folder does not count.
	before := s.token("app")
	if err := os.Remove(filepath.Join(folder, "token")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "token")); err != nil {
		t.Fatal(err)
	}
	s.cfg.Consumers = s.cfg.Consumers[:1]
	s.restart()
	if s.token("app") != before || mode(filepath.Join(folder, "token")) != 0o400 {
		t.Errorf("after a restart the token is %v", mode(filepath.Join(folder, "token")))
	}
	if mode(filepath.Join(s.cfg.Shared, "other")) != 0 || mode(filepath.Join(s.cfg.Own, "other")) != 0 {
		t.Error("the files of a consumer that is no more are there")
	}
	if err := os.Chmod(filepath.Join(s.cfg.Own, "app"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.cfg.Own, "app"), []byte("short"), 0o400); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if s.token("app") == before || !isToken(s.token("app")) {
		t.Error("a spoilt token is used")
	}

	// A folder that others can change holds no secret.
	s.Server.Close()
	if err := os.Chmod(s.cfg.Shared, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(s.cfg); err == nil || !strings.Contains(err.Error(), "only this user can change") {
		t.Errorf("a folder for everybody: %v", err)
	}
	if err := os.Chmod(s.cfg.Shared, 0o700); err != nil {
		t.Fatal(err)
	}
	s.restart()
}

// What a user puts in the way in its own folder keeps nobody from starting: the daemon decides
// about devices, too.
func TestAUserCannotKeepTheServerFromStarting(t *testing.T) {
	s := newSite(t, nil)
	folder := filepath.Join(s.cfg.Shared, "app")
	before := s.token("app")
	for _, name := range []string{"token", "environment"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(folder, name, "in", "the", "way"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.restart()
	for _, token := range []string{before, s.token("other")} {
		if status, _, _ := s.get(token); status != 200 {
			t.Errorf("a program: %d", status)
		}
	}
	if !strings.Contains(s.log.String(), "consumer=app") {
		t.Errorf("nobody is told: %s", &s.log)
	}
}
