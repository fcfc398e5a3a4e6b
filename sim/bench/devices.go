package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A device is a client device with its certificate.
type device struct {
	thing  messages.ThingName
	der    []byte
	base64 string // of the DER, as our client sends it
}

// makeDevices makes n devices whose certificates an authority has signed. They share a
// key, to be made quickly: nobody here looks at it.
func makeDevices(n int) ([]device, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	devices := make([]device, n)
	for i := range devices {
		thing := fmt.Sprintf("pump-%05d", i)
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: thing, Organization: []string{"Gatehouse"}},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 6, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), key)
		if err != nil {
			return nil, err
		}
		devices[i] = device{messages.ThingName(thing), der, base64.StdEncoding.EncodeToString(der)}
	}
	return devices, nil
}
