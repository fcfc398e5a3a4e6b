package ca

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NamesMax bounds the subject alternative names of a certificate.
const NamesMax = 32

// localhost stands in every server certificate (client-device-auth spec 6.2).
const localhost = "localhost"

// A Host is a name or an address a server is dialled by. The zero Host is none.
type Host struct {
	name    string     // DNS name, empty for an address
	address netip.Addr // without zone
}

// ParseHost reads a host as connectivity information holds it: a DNS name, an IPv4 or
// an IPv6 address in any case. A port or a zone beside an address is dropped, since a
// certificate cannot hold it (client-device-auth spec 6.2, the defect of the IP test).
func ParseHost(text string) (Host, error) {
	bare := text
	if inner, ok := strings.CutPrefix(text, "["); ok {
		bare = strings.TrimSuffix(inner, "]")
	}
	if address, err := netip.ParseAddr(bare); err == nil {
		return hostOf(address), nil
	}
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return hostOf(withPort.Addr()), nil
	}
	if err := checkName(text); err != nil {
		return Host{}, fmt.Errorf("host %.80q: %w", text, err)
	}
	return Host{name: text}, nil
}

func hostOf(address netip.Addr) Host { return Host{address: address.WithZone("").Unmap()} }

// checkName allows what RFC 1123 section 2.1 calls a host name, and underscores, which
// people use.
func checkName(name string) error {
	const nameBytesMax, labelBytesMax = 253, 63
	if name == "" || len(name) > nameBytesMax {
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(name), nameBytesMax)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > labelBytesMax {
			return fmt.Errorf("a label of %d bytes, want 1 to %d", len(label), labelBytesMax)
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return errors.New("a label that begins or ends with '-'")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("%q in a name", c)
			}
		}
	}
	return nil
}

// ParseHosts reads a list of hosts. What it cannot read it leaves out and reports, so
// that one bad entry of the connectivity information does not take the others' names
// out of the certificate.
func ParseHosts(texts []string) (hosts []Host, rejected []error) {
	for _, text := range texts {
		host, err := ParseHost(text)
		if err != nil {
			rejected = append(rejected, err)
			continue
		}
		hosts = append(hosts, host)
	}
	return hosts, rejected
}

// Storable returns of one source's addresses those that a Book takes, in their order, and
// why the others are left out: a list that is too long must not keep all of its addresses
// out of the certificates.
func Storable(addresses []string) (kept []string, left []error) {
	long := func(address string) bool { return len(address) > TextBytesMax }
	kept = addresses
	if i := slices.IndexFunc(addresses, long); i >= 0 {
		kept = slices.DeleteFunc(slices.Clone(addresses), long)
		left = append(left, fmt.Errorf("host %.80q… (%d of the kind): %d bytes, want at most %d", addresses[i], len(addresses)-len(kept), len(addresses[i]), TextBytesMax))
	}
	if len(kept) > addressesMax {
		left = append(left, fmt.Errorf("host %.80q, and what follows it: %d addresses of one source, at most %d are taken; shorten the list", kept[addressesMax], len(kept), addressesMax))
		kept = kept[:addressesMax]
	}
	return kept, left
}

func tooMany(h Host) error {
	return fmt.Errorf("host %s: a certificate has at most %d names with localhost; shorten the list of host addresses", h, NamesMax)
}

// IsAddress says whether h is an IP address.
func (h Host) IsAddress() bool { return h.address.IsValid() }

// String returns the name or the address in its canonical form.
func (h Host) String() string {
	if h.IsAddress() {
		return h.address.String()
	}
	return h.name
}

// withLocalhost returns hosts without repetitions and with localhost. Names are
// compared by their exact text, as the reference does.
func withLocalhost(hosts []Host) []Host {
	all := make([]Host, 0, len(hosts)+1)
	for _, host := range append(slices.Clip(hosts), Host{name: localhost}) {
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return all
}
