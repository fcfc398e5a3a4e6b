package load

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The bounds of a fleet's files.
const (
	deviceFileMax = 64 << 10  // cert.pem, key.pem
	bundleMax     = 256 << 20 // a bundle: some 200,000 devices
)

// A Device is somebody who connects: the name it goes by and its certificate; its key is
// needed over MQTT alone.
type Device struct {
	Thing  messages.ThingName
	DER    []byte
	Key    []byte // PKCS #8 or SEC 1 in DER; nil: not known
	base64 string // of DER, as brokers send it
}

// NewDevice makes a Device of what its files hold.
func NewDevice(thing messages.ThingName, der, key []byte) *Device {
	return &Device{Thing: thing, DER: der, Key: key, base64: base64.StdEncoding.EncodeToString(der)}
}

// tls is the device's identity for a handshake.
func (d *Device) tls() (tls.Certificate, error) {
	if d.Key == nil {
		return tls.Certificate{}, fmt.Errorf("%s has no private key: MQTT needs one", d.Thing)
	}
	return tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.DER}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: d.Key}))
}

// ReadFleet reads at most n devices: of a folder with a folder for each device, named after
// it, with cert.pem and perhaps key.pem in it; or of a bundle, a PEM file in which each
// certificate, with the device's name as common name, may be followed by its key.
func ReadFleet(path string, n int) ([]*Device, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	var fleet []*Device
	if info.IsDir() {
		fleet, err = readFolder(path, n)
	} else {
		fleet, err = readBundle(path, n)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("fleet %s: %w", path, err)
	case len(fleet) == 0:
		return nil, fmt.Errorf("fleet %s: no devices in it: want a folder with THING/cert.pem and THING/key.pem for each, or a PEM bundle", path)
	}
	return fleet, nil
}

func readFolder(path string, n int) ([]*Device, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var fleet []*Device
	for _, e := range entries {
		if len(fleet) == n {
			break
		}
		at := filepath.Join(path, e.Name())
		if !e.IsDir() {
			continue // not a device's
		}
		doc, err := readBounded(filepath.Join(at, "cert.pem"), deviceFileMax)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		thing, err := messages.ParseThingName(e.Name())
		if err != nil {
			return nil, err
		}
		key, err := readBounded(filepath.Join(at, "key.pem"), deviceFileMax)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		read, err := parseBundle(append(append(doc, '\n'), key...), 1)
		if err != nil || len(read) == 0 {
			return nil, errors.Join(fmt.Errorf("%s: no certificate that can be read", at), err)
		}
		fleet = append(fleet, NewDevice(thing, read[0].DER, read[0].Key))
	}
	return fleet, nil
}

func readBundle(path string, n int) ([]*Device, error) {
	doc, err := readBounded(path, bundleMax)
	if err != nil {
		return nil, err
	}
	fleet, err := parseBundle(doc, n)
	for i, d := range fleet {
		if d.Thing == "" {
			return nil, fmt.Errorf("certificate %d: its common name is no thing name: put such devices into a folder each, named after them", i+1)
		}
	}
	return fleet, err
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: want a file of at most %d bytes", path, most)
	}
	return os.ReadFile(path)
}

// parseBundle reads certificates and their keys.
func parseBundle(doc []byte, n int) ([]*Device, error) {
	var fleet []*Device
	for {
		block, rest := pem.Decode(doc)
		if block == nil {
			break
		}
		doc = rest
		switch {
		case block.Type == "CERTIFICATE":
			if len(fleet) == n {
				return fleet, nil
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", len(fleet)+1, err)
			}
			thing, err := messages.ParseThingName(c.Subject.CommonName)
			if err != nil {
				thing = "" // the folder names it
			}
			fleet = append(fleet, NewDevice(thing, slices.Clone(block.Bytes), nil))
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && len(fleet) > 0 && fleet[len(fleet)-1].Key == nil:
			key, err := privateKey(block)
			if err != nil {
				return nil, fmt.Errorf("key of certificate %d: %w", len(fleet), err)
			}
			fleet[len(fleet)-1].Key = key
		default:
			return nil, fmt.Errorf("a %.40q behind certificate %d, want a certificate or its private key", block.Type, len(fleet))
		}
	}
	if rest := bytes.TrimSpace(doc); len(rest) > 0 {
		return nil, fmt.Errorf("behind certificate %d stands what is no PEM: %.20q", len(fleet), rest)
	}
	return fleet, nil
}

// privateKey returns a key as PKCS #8.
func privateKey(block *pem.Block) ([]byte, error) {
	switch block.Type {
	case "PRIVATE KEY":
		_, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		return slices.Clone(block.Bytes), err
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(key)
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(key)
	}
	return nil, fmt.Errorf("%q is not read: want an unencrypted PRIVATE KEY", block.Type)
}

// AppendBundle appends a device to a bundle.
func AppendBundle(dst []byte, certificatePEM, keyPEM []byte) []byte {
	return append(append(dst, certificatePEM...), keyPEM...)
}

// makeStrangers makes n devices that nobody knows, with certificates they signed themselves.
func makeStrangers(n int) ([]*Device, error) {
	fleet := make([]*Device, n)
	for i := range fleet {
		name := fmt.Sprintf("load-stranger-%d", i+1)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return nil, err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		fleet[i] = NewDevice(messages.ThingName(name), der, private)
	}
	return fleet, nil
}
