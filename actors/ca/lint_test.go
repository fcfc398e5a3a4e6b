package ca

import (
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// lint is the second pair of eyes: it must see every way in which a built certificate
// can differ from what was asked for, whatever Prepare does.
func TestLintSeesEveryDifference(t *testing.T) {
	key := fixedKey(t, 7)
	authority := managed(t, key, false)
	config := ProfileConfig{Usage: Server, Validity: time.Hour}
	request := Request{Issuer: authority, Subscriber: "b", Hosts: hosts(t, "core.local", "10.0.0.1"), PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(1), Now: noon}
	good := issue(t, profile(t, config), request, key)
	if err := lint(profile(t, config), request, good); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	longKey := managed(t, fixedKey(t, 8), false)
	for _, c := range []struct {
		name    string
		config  ProfileConfig
		request func(*Request)
		change  func(*x509.Certificate)
		want    string
	}{
		{"a longer life", ProfileConfig{Usage: Server, Validity: time.Minute}, nil, nil, "valid for 1h0m0s, want at most 1m0s"},
		{"another usage", ProfileConfig{Usage: Client, Validity: time.Hour}, nil, nil, "extended key usage"},
		{"names for a client", ProfileConfig{Usage: Client, Validity: time.Hour}, nil, nil, "alternative names"},
		{"no key usage", ProfileConfig{Usage: Server, Validity: time.Hour, KeyUsage: true}, nil, nil, "key usage 0"},
		{"another subscriber", config, func(r *Request) { r.Subscriber = "c" }, nil, "subject"},
		{"a host missing", config, func(r *Request) { r.Hosts = hosts(t, "core.local", "10.0.0.1", "x") }, nil, "alternative names"},
		{"a host too many", config, func(r *Request) { r.Hosts = hosts(t, "core.local") }, nil, "alternative names"},
		{"another key", config, func(r *Request) { r.PublicKey = key.Public() }, nil, "the public key is not the one requested"},
		{"another issuer's key", config, func(r *Request) { r.Issuer = longKey }, nil, "authority key identifier"},
		{"another time", config, func(r *Request) { r.Now = noon.Add(2 * time.Hour) }, nil, "which is not now"},
		{"a far beginning", config, func(r *Request) { r.Now = noon.Add(30 * time.Minute) }, nil, "ago, want at most 5m0s"},
		{"an authority", config, nil, func(c *x509.Certificate) { c.IsCA = true }, "basicConstraints CA:true"},
		{"a path length", config, nil, func(c *x509.Certificate) { c.MaxPathLen = 0 }, "a path length of 0"},
		{"a long serial", config, nil, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) }, "too long"},
		{"a negative serial", config, nil, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Neg(c.SerialNumber) }, "not positive"},
		{"a short serial", config, nil, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) }, "fewer than 64 bits"},
		{"an older version", config, nil, func(c *x509.Certificate) { c.Version = 1 }, "version 1"},
		{"a mail address", config, nil, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} }, "no host"},
		{"an extension more", config, nil, func(c *x509.Certificate) {
			c.Extensions = append(c.Extensions[:len(c.Extensions):len(c.Extensions)], c.Extensions[0])
		}, "does not belong"},
		{"an extension less", config, nil, func(c *x509.Certificate) { c.Extensions = c.Extensions[1:] }, "extensions are missing"},
		{"another criticality", config, nil, func(c *x509.Certificate) {
			c.Extensions = append(c.Extensions[:0:0], c.Extensions...)
			c.Extensions[0].Critical = !c.Extensions[0].Critical
		}, "does not belong"},
		{"no subject key identifier", config, nil, func(c *x509.Certificate) { c.SubjectKeyId = nil }, "subject key identifier"},
		{"a life beyond the issuer's", config, nil, func(c *x509.Certificate) { c.NotAfter = authority.Certificate().NotAfter.Add(time.Second) }, "lives beyond its issuer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, certificate := request, *good
			if c.request != nil {
				c.request(&r)
			}
			if c.change != nil {
				c.change(&certificate)
			}
			if err := lint(profile(t, c.config), r, &certificate); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
