package trace

import (
	"net"
	"regexp"
	"strings"
)

// place is what the name of an AWS endpoint says (cloud spec 0).
type place struct {
	service string // "data", "credentials" or "greengrass", of which the last is the region's
	region  string
	account string // the account's prefix; empty: the region's
}

var awsHost = regexp.MustCompile(`^(?:([a-z0-9]+)(-ats|-beta|\.credentials|)\.iot|(greengrass)[-.]ats\.iot|(greengrass-ats)\.iot)\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// placeOf reads the name of an endpoint; known is false if it is none of AWS's.
func placeOf(endpoint string) (p place, known bool) {
	m := awsHost.FindStringSubmatch(hostOf(endpoint))
	if m == nil {
		return p, false
	}
	p.region = m[5]
	switch {
	case m[3] != "" || m[4] != "" || m[1] == "greengrass":
		p.service = "greengrass"
	case m[2] == ".credentials":
		p.service, p.account = "credentials", m[1]
	default:
		p.service, p.account = "data", m[1]
	}
	return p, true
}

// hostOf is the host of host, host:port or a URL, in lower case.
func hostOf(endpoint string) string {
	_, rest, found := strings.Cut(endpoint, "://")
	if !found {
		rest = endpoint
	}
	rest, _, _ = strings.Cut(rest, "/")
	if host, _, err := net.SplitHostPort(rest); err == nil {
		rest = host
	}
	return strings.ToLower(strings.TrimSuffix(rest, "."))
}
