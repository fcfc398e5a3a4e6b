package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// DialNATS is nats.Connect with an error that says where to, and nothing that is secret.
func DialNATS(urls string, options ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(urls, options...)
	if err == nil {
		return nc, nil
	}
	if _, unreadable := errors.AsType[*url.Error](err); unreadable { // it quotes the URL
		err = errors.New("want URLs such as tls://nats.example:4222, separated by commas, special characters in a password as in %2C")
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
	parts := strings.Split(urls, "@")
	for i, secret := range parts[:len(parts)-1] {
		scheme := ""
		if end := strings.LastIndex(secret, "://"); end >= 0 {
			scheme = secret[:end] + "://"
		}
		parts[i] = scheme + "xxxxx"
	}
	return strings.Join(parts, "@")
}
