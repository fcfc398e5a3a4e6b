package tokenexchange

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 12346 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 12347 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:C351 0100007F:1F90 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000000000000000
   4: 0100007F:C352 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1
`

// The client's end counts, while its program has it open: the kernel lists what was closed
// under user 0.
func TestTheKernelsTableIsRead(t *testing.T) {
	if kernelAddress(netip.MustParseAddrPort("127.0.0.1:8080"), false) != "0100007F:1F90" {
		t.Skip("the table is one of a little-endian machine")
	}
	server := netip.MustParseAddrPort("127.0.0.1:8080")
	for port, want := range map[uint16]int{50000: 1000, 50001: -1, 50002: -1, 50003: -1} {
		uid, err := findUser(strings.NewReader(tcpTable), netip.AddrPortFrom(server.Addr(), port), server, false)
		if want < 0 && err == nil || want >= 0 && (err != nil || uid != want) {
			t.Errorf("port %d: user %d, %v", port, uid, err)
		}
	}
	if got := kernelAddress(server, true); got != "0000000000000000FFFF00000100007F:1F90" {
		t.Errorf("as IPv6: %s", got)
	}
}

func FuzzFindUser(f *testing.F) {
	f.Add(tcpTable)
	f.Add(" 1: 0100007F:C350 0100007F:1F90 01 a b c -1 0 1")
	f.Fuzz(func(t *testing.T, table string) {
		server := netip.MustParseAddrPort("127.0.0.1:8080")
		uid, err := findUser(strings.NewReader(table), netip.AddrPortFrom(server.Addr(), 50000), server, false)
		if err == nil && (uid < 0 || !strings.Contains(table, kernelAddress(netip.AddrPortFrom(server.Addr(), 50000), false))) {
			t.Errorf("%q: user %d", table, uid)
		}
	})
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://localhost:1/\nAWS_CONTAINER_AUTHORIZATION_TOKEN=t\n")
	f.Add("LD_PRELOAD=x\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseEnvironment(text)
		if err != nil {
			return
		}
		for _, v := range list {
			name, _, _ := strings.Cut(v, "=")
			if !slices.Contains(variables, name) || strings.ContainsAny(v, "\n\r\x00") {
				t.Errorf("%q gives %q", text, v)
			}
		}
	})
}

// What would win over the variables is gone, the rest is as it was.
func TestNothingWinsOverTheVariables(t *testing.T) {
	given := []string{VariableURI + "=u", VariableToken + "=t"}
	got := Environ([]string{
		"PATH=/bin", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=s", "AWS_PROFILE=p", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/r",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=old", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=old", "AWS_CA_BUNDLE=b", "AWS_REGION=r", "AWS_WEB_IDENTITY_TOKEN_FILE=w",
		"AWS_CONFIG_FILE=/root/.aws/config", "HOME=/root",
	}, given)
	want := []string{"PATH=/bin", "AWS_CA_BUNDLE=b", "AWS_REGION=r", "HOME=/root", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_CONFIG_FILE=/dev/null", VariableURI + "=u", VariableToken + "=t"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestConsumerNames(t *testing.T) {
	for name, good := range map[string]bool{"app": true, "a-1_b.c": true, "": false, ".": false, "..": false, "a/b": false, "App": false, Own: false, strings.Repeat("a", 64): false, "-a": false} {
		if err := CheckConsumerName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
