package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// DialNATS is nats.Connect with an error that says where to, and nothing that is secret.
func DialNATS(urls string, options ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(urls, options...)
	if err == nil {
		return nc, nil
	}
	if _, unreadable := errors.AsType[*url.Error](err); unreadable || !wellFormed(urls) { // it may quote a part of the URL
		err = errors.New("want URLs such as tls://nats.example:4222, separated by commas, special characters in a password percent-encoded, as in %2C for a comma")
	}
	return nil, fmt.Errorf("NATS at %s: %w", RedactURLs(urls), err)
}

// KeepDialingNATS is DialNATS that takes a server that is down for no error: the connection
// is made when it comes. One that is there and refuses us still is.
func KeepDialingNATS(urls string, options ...nats.Option) (*nats.Conn, error) {
	nc, err := DialNATS(urls, options...)
	if _, network := errors.AsType[net.Error](err); network || errors.Is(err, nats.ErrNoServers) || errors.Is(err, io.EOF) {
		return DialNATS(urls, append(options, nats.RetryOnFailedConnect(true))...)
	}
	return nc, err
}

// RedactURLs makes URLs, separated by commas, fit for errors and logs: whatever may be a
// user, password or token becomes "xxxxx", and rather too much than too little where a
// URL is malformed.
func RedactURLs(urls string) string {
	list := splitURLs(urls)
	for i, one := range list {
		shown := scheme.FindString(one)
		where := one[len(shown):]
		if at := strings.LastIndexByte(where, '@'); at >= 0 {
			shown += strings.Repeat("xxxxx@", strings.Count(where, "@"))
			where = where[at+1:]
			if !place.MatchString(where) {
				where = host.FindString(where) + "xxxxx"
			}
		} else if !place.MatchString(where) {
			where = "xxxxx" // perhaps a password whose host was forgotten
		}
		list[i] = shown + where
	}
	return strings.Join(list, ",")
}

// The parts of a URL of NATS. What is not one of these is taken for a secret.
var (
	scheme = regexp.MustCompile(`^\s*(?:nats|tls|wss?|https?|mqtts?|tcp)://`)
	place  = regexp.MustCompile(`^\s*` + hostPattern + `(?::[0-9]{1,5})?(?:/[^@]*)?\s*$`)
	host   = regexp.MustCompile(`^(?:` + hostPattern + `[:/])?`)
)

const hostPattern = `(?:\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\]|[\pL\pN._-]*)`

// splitURLs parts a list at its commas, but for those that may be part of a password: where
// no host and port stand before one, or a user without a scheme behind it.
func splitURLs(urls string) []string {
	parts := strings.Split(urls, ",")
	list := parts[len(parts)-1:]
	for _, part := range slices.Backward(parts[:len(parts)-1]) {
		where := scheme.ReplaceAllString(part, "")
		where = where[strings.LastIndexByte(where, '@')+1:]
		if next := list[0]; !place.MatchString(where) || strings.Contains(next, "@") && !scheme.MatchString(next) {
			list[0] = part + "," + next
		} else {
			list = slices.Insert(list, 0, part)
		}
	}
	return list
}

// wellFormed says whether every part of the URLs is what it seems to be: else an error of a
// connection may name as its host what was meant as a password.
func wellFormed(urls string) bool {
	return !slices.ContainsFunc(splitURLs(urls), func(one string) bool {
		one = strings.TrimSpace(scheme.ReplaceAllString(one, ""))
		at := strings.LastIndexByte(one, '@') + 1
		return strings.ContainsAny(one[:at], "/?# ") || !place.MatchString(one[at:])
	})
}
