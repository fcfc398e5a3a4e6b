package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

const endsSoon = 30 * 24 * time.Hour

// identity checks the core's certificate and key, and the roots it trusts.
func (h *Host) identity(context.Context) []Result {
	if h.Certificate == "" {
		return []Result{unknown("identity.pair", "no certificate is configured (cloud.certificate)")}
	}
	text, err := readFile(h.Certificate)
	if err != nil {
		return []Result{bad(Failed, "identity.pair", "the core's certificate", []string{"put it there, or correct cloud.certificate"}, "%v", err)}
	}
	key, err := readFile(h.Key)
	if err != nil {
		return []Result{bad(Failed, "identity.pair", "the key of the core's certificate", []string{"put it there, or correct cloud.privateKey; run this as the daemon's user, or as root"}, "%v", err)}
	}
	pair, err := tls.X509KeyPair(text, key)
	if err != nil { // its text tells what does not match, and nothing of the key
		return []Result{bad(Failed, "identity.pair", "a key that is the certificate's", []string{"name the key that was made with this certificate, or make another certificate"}, "%s and %s: %v", h.Certificate, h.Key, err)}
	}
	list := []Result{ok("identity.pair", "the key is the certificate's")}
	list = append(list, h.dates("identity.certificate", h.Certificate, pair.Leaf), usage(pair.Leaf))
	if len(pair.Certificate) > 1 {
		list = append(list, h.chained(pair))
	}
	return append(list, h.roots())
}

// chained checks that what stands behind the certificate in its file are its signers, in order.
func (h *Host) chained(pair tls.Certificate) Result {
	const name = "identity.chain"
	below := pair.Leaf
	for i, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad(Failed, name, "certificates alone", []string{"take it out of " + h.Certificate}, "certificate %d of %s cannot be read: %v", i+2, h.Certificate, err)
		}
		if err := below.CheckSignatureFrom(c); err != nil {
			return bad(Failed, name, "the certificate first, and each one's signer behind it", []string{"put them in that order into " + h.Certificate}, "certificate %d did not sign the one before it: %v", i+2, err)
		}
		if r := h.dates(name, h.Certificate, c); r.State != OK {
			return r
		}
		below = c
	}
	return ok(name, "%d certificates, each signed by the next", len(pair.Certificate))
}

// dates judges how long a certificate is good.
func (h *Host) dates(name, path string, c *x509.Certificate) Result {
	now := h.Now()
	left := c.NotAfter.Sub(now)
	until := c.NotAfter.UTC().Format("2006-01-02 15:04Z")
	switch {
	case now.Before(c.NotBefore):
		return bad(Failed, name, "a certificate that is valid now", []string{"check this machine's clock first: timedatectl"}, "%s is not valid before %s", path, c.NotBefore.UTC().Format("2006-01-02 15:04Z"))
	case left <= 0:
		return bad(Failed, name, "a certificate that is valid now", []string{"check this machine's clock first: timedatectl", "make, register and attach another"}, "%s ended at %s", path, until)
	case left < min(endsSoon, c.NotAfter.Sub(c.NotBefore)/5):
		return bad(Warning, name, "a month to go", []string{"make, register and attach another in time"}, "%s ends at %s, in %v", path, until, left.Round(time.Hour))
	}
	return ok(name, "valid until %s", until)
}

// usage judges whether a certificate can be a client's.
func usage(c *x509.Certificate) Result {
	const name = "identity.usage"
	another := []string{"make a certificate for clients: extended key usage clientAuth, or none, and CA:FALSE"}
	switch {
	case c.IsCA:
		return bad(Failed, name, "the certificate of a client", another, "it is an authority's certificate")
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return bad(Failed, name, "the certificate of a client", another, "its extended key usage does not have clientAuth")
	}
	return ok(name, "it can be a client's")
}

// roots checks the file by which endpoints are verified.
func (h *Host) roots() Result {
	const name = "identity.roots"
	if h.CA == "" {
		return ok(name, "the system's roots are used")
	}
	text, err := readFile(h.CA)
	if err != nil {
		return bad(Failed, name, "PEM of the endpoints' roots", []string{"correct cloud.ca, or put Amazon's roots there: https://www.amazontrust.com/repository/AmazonRootCA1.pem"}, "%v", err)
	}
	count, ended := 0, ""
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return bad(Failed, name, "certificates alone", []string{"take what is no certificate out of " + h.CA}, "%s holds a %s that cannot be used", h.CA, block.Type)
		}
		count++
		if h.Now().After(c.NotAfter) {
			ended = fmt.Sprintf("%s ended at %s", c.Subject.CommonName, c.NotAfter.UTC().Format("2006-01-02"))
		}
	}
	switch {
	case count == 0:
		return bad(Failed, name, "at least one root", []string{"put Amazon's roots into " + h.CA + ": https://www.amazontrust.com/repository/"}, "%s holds no certificate", h.CA)
	case ended != "":
		return bad(Warning, name, "roots that are valid", []string{"replace it in " + h.CA}, "%s", ended)
	}
	return ok(name, "%d roots in %s", count, h.CA)
}
