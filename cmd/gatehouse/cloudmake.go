package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// makers make what a seed names: devices in DIR/devices and CAs in DIR/authorities.
func makers(dir string, cloud *awsemu.Authority) awsemu.SeedOptions {
	return awsemu.SeedOptions{
		Now: time.Now(),
		Make: func(name, signer string) ([]byte, error) {
			authority, err := cloud, error(nil)
			if signer != "" {
				authority, err = readAuthority(authorityFiles(dir, signer))
			}
			if err != nil {
				return nil, err
			}
			certificate, err := makeIdentity(authority, name, deviceDir(dir, name))
			if err != nil {
				return nil, err
			}
			return certificate.Raw, nil
		},
		MakeAuthority: func(name string) ([]byte, error) {
			authority, err := openAuthority(authorityFiles(dir, name))
			if err != nil {
				return nil, err
			}
			return authority.DER(), nil
		},
	}
}

// authorityAt is where a CA's certificate and key are.
type authorityAt struct{ name, certificate, key string }

// cloudAuthorityFiles are those of the emulated cloud in dir, authorityFiles those of a CA
// that a seed names.
func cloudAuthorityFiles(dir string) authorityAt {
	return authorityAt{"Gatehouse emulated AWS IoT", filepath.Join(cloudDir(dir), "authority.pem"), filepath.Join(cloudDir(dir), "authority.key")}
}

func authorityFiles(dir, name string) authorityAt {
	folder := filepath.Join(dir, "authorities", name)
	return authorityAt{name, filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")}
}

// openAuthority reads a CA, or makes it at the first start.
func openAuthority(at authorityAt) (*awsemu.Authority, error) {
	authority, err := readAuthority(at)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(at)
	}
	return authority, err
}

func readAuthority(at authorityAt) (*awsemu.Authority, error) {
	certificate, err := os.ReadFile(at.certificate)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(at.key)
	if err != nil {
		return nil, err
	}
	return awsemu.LoadAuthority(certificate, key)
}

func makeAuthority(at authorityAt) (*awsemu.Authority, error) {
	if err := os.MkdirAll(filepath.Dir(at.key), 0o700); err != nil {
		return nil, err
	}
	authority, err := awsemu.NewAuthority(at.name, time.Now())
	if err != nil {
		return nil, err
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, err
	}
	// The certificate last: until it is there, a key is what a crash left.
	if err := daemon.WriteFile(at.key, key, 0o400); err != nil {
		return nil, err
	}
	return authority, daemon.WriteFile(at.certificate, authority.PEM(), 0o444)
}

// makeIdentity makes a key and a certificate in folder, unless they are there, and returns
// the certificate. The certificate is written after its key: whatever a crash left, the
// next start goes on.
func makeIdentity(authority *awsemu.Authority, name, folder string) (*x509.Certificate, error) {
	if _, err := os.Stat(filepath.Join(folder, "cert.pem")); errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(filepath.Join(folder, "key.pem")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		identity, err := authority.IssueDevice(name, time.Now())
		if err != nil {
			return nil, err
		}
		if err := writeIdentity(folder, identity); err != nil {
			return nil, err
		}
	}
	certificate, err := readCertificate(filepath.Join(folder, "cert.pem"))
	if err != nil {
		return nil, fmt.Errorf("%w; remove %s, and a new identity is made", err, folder)
	}
	return certificate, nil
}
