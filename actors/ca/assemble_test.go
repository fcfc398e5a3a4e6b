package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// above makes an authority named name with a key of kind, signed by parent (nil: itself).
func above(t testing.TB, name, kind string, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key := keyOf(t, kind)
	if parent == nil {
		parentKey = key
	}
	return custom(t, x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}, parent, key, parentKey), key
}

// The chain of an operator's authority is found in what the files hold (client-device-auth
// spec 6.5), with intermediates, and keys of every kind in it.
func TestAssemble(t *testing.T) {
	root, rootKey := above(t, "root", TypeRSA2048, nil, nil)
	middle, middleKey := above(t, "middle", "P-384", root, rootKey)
	issuing, _ := above(t, "issuing", "Ed25519", middle, middleKey)
	stranger, _ := above(t, "stranger", TypeECDSAP256, nil, nil)
	leaf := issue(t, profile(t, ProfileConfig{Usage: Server, Validity: time.Hour}),
		Request{Issuer: managed(t, fixedKey(t, 7), false), Subscriber: "b", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(1), Now: noon}, fixedKey(t, 7))
	for _, c := range []struct {
		name     string
		issuing  *x509.Certificate
		others   []*x509.Certificate
		want     string // the chain, or the error
		complete bool
	}{
		{"itself, self-signed", root, nil, "root", true},
		{"itself, with nothing above", issuing, nil, "issuing", false},
		{"in order", issuing, []*x509.Certificate{middle, root}, "issuing middle root", true},
		{"in any order, with itself and repetitions", issuing, []*x509.Certificate{root, issuing, middle, root}, "issuing middle root", true},
		{"without the root", issuing, []*x509.Certificate{middle}, "issuing middle", false},
		{"without the one between", issuing, []*x509.Certificate{root}, "is none of the chain", false},
		{"with a stranger", issuing, []*x509.Certificate{middle, stranger, root}, "is none of the chain", false},
		{"with a broker's certificate", issuing, []*x509.Certificate{middle, leaf}, "is no authority", false},
		{"a broker's certificate", leaf, nil, "is no authority", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var others [][]byte
			for _, other := range c.others {
				others = append(others, other.Raw)
			}
			a, err := Assemble(c.issuing.Raw, others)
			if err != nil {
				if !errors.Is(err, ErrAuthority) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			var names []string
			for _, certificate := range a.chain {
				names = append(names, certificate.Subject.CommonName)
			}
			if got := strings.Join(names, " "); got != c.want || a.Complete() != c.complete {
				t.Errorf("chain %s, complete %t", got, a.Complete())
			}
		})
	}
	if _, err := Assemble([]byte("x"), nil); !errors.Is(err, ErrAuthority) {
		t.Errorf("bytes: %v", err)
	}
	if _, err := Assemble(root.Raw, make([][]byte, 2*chainMax+1)); !errors.Is(err, ErrAuthority) {
		t.Errorf("too many: %v", err)
	}
}

// A key of each kind can be tried, and another's is found out.
func TestTry(t *testing.T) {
	for _, kind := range []string{TypeRSA2048, TypeECDSAP256, "P-384", "P-521", "Ed25519"} {
		c, key := above(t, kind, kind, nil, nil)
		a, err := ParseAuthority(c.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Try(key); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := a.Try(fixedKey(t, 99)); err == nil {
			t.Errorf("%s: another key passes", kind)
		}
	}
}

func FuzzAssemble(f *testing.F) {
	root, rootKey := above(f, "root", TypeECDSAP256, nil, nil)
	issuing, _ := above(f, "issuing", "Ed25519", root, rootKey)
	f.Add(issuing.Raw, root.Raw)
	f.Add(root.Raw, root.Raw)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		a, err := Assemble(first, [][]byte{second})
		if err != nil {
			if !errors.Is(err, ErrAuthority) {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, err := ParseAuthority(a.Chain()...); err != nil || string(a.Chain()[0]) != string(first) {
			t.Errorf("an authority that is none: %v", err)
		}
	})
}
