package awsemu

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// greeting is how a connection begins when a fault strikes it. The zero greeting is the
// usual one.
type greeting struct {
	change func(*tls.Config) // of the plane's own; nil: none
	portal bool              // whatever is asked is answered with the portal's page
	hang   bool              // nothing is ever said
}

// greet says how the next connection to plane begins.
func (e *Emulator) greet(plane cloudsync.Operation) greeting {
	f := e.faults.Load()
	if f == nil {
		return greeting{}
	}
	return f.connections[f.Connection(plane)]
}

var errNoAuthority = errors.New("the emulated cloud was started without its authority, which would have to sign the certificate")

// greetingOf prepares a fault of connections. Certificates are made now, by the emulated
// cloud's present time.
func (e *Emulator) greetingOf(kind fault.TLS) (greeting, error) {
	now := e.now()
	names, authority := ServerNames(), e.cfg.Authority
	switch kind {
	case fault.TLSHang:
		return greeting{hang: true}, nil
	case fault.TLSOldVersion:
		return greeting{change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }}, nil
	case fault.TLSExpired:
		now = now.Add(-2 * serverValidity)
	case fault.TLSWrongHost:
		names = []string{"elsewhere.example"}
	case fault.TLSUnknownAuthority, fault.TLSCaptivePortal:
		var err error
		if authority, err = NewAuthority("Nobody in particular", now); err != nil {
			return greeting{}, err
		}
	}
	if authority == nil {
		return greeting{}, fmt.Errorf("fault: tls %s: %w", kind, errNoAuthority)
	}
	identity, err := authority.IssueServer(names, now)
	if err != nil {
		return greeting{}, fmt.Errorf("fault: tls %s: %w", kind, err)
	}
	pair, err := identity.TLS()
	if err != nil {
		return greeting{}, fmt.Errorf("fault: tls %s: %w", kind, err)
	}
	portal := kind == fault.TLSCaptivePortal
	return greeting{portal: portal, change: func(c *tls.Config) {
		c.Certificates = []tls.Certificate{pair}
		if portal { // it asks nobody who they are, and takes any name
			c.ClientAuth, c.NextProtos, c.GetConfigForClient = tls.NoClientCert, nil, nil
		}
	}}, nil
}
