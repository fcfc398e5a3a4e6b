package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
)

// Seeded makes keys that follow from a seed, in memory, for the simulator. It is no
// source of secrets. Its signatures follow from the key and the message alone when
// they are asked for with a nil reader, as ca.Issue does, so certificates repeat too.
// (ecdsa.GenerateKey has ignored its reader since Go 1.26; style.md section 5.)
type Seeded struct {
	mu     sync.Mutex
	source *rand.ChaCha8            // guarded by mu
	keys   map[string]crypto.Signer // of authorities, by fingerprint; guarded by mu
	order  []string                 // in which they were made; guarded by mu
	log    ed25519.PrivateKey
}

var _ Keys = (*Seeded)(nil)

// NewSeeded returns the keys of seed. Their order depends on the order of the calls.
func NewSeeded(seed [32]byte) *Seeded {
	logSeed := sha256.Sum256(append([]byte("log"), seed[:]...))
	return &Seeded{source: rand.NewChaCha8(seed), keys: map[string]crypto.Signer{}, log: ed25519.NewKeyFromSeed(logSeed[:])}
}

// AuthorityKey implements Keys.
func (s *Seeded) AuthorityKey(certificate *x509.Certificate) (crypto.Signer, error) {
	name, err := fingerprint(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if signer := s.keys[name]; signer != nil {
		return signer, nil
	}
	return nil, fmt.Errorf("authority %s: %w", certificate.Subject, ErrMissing)
}

// NewAuthorityKey implements Keys.
func (s *Seeded) NewAuthorityKey(caType string, known ...*x509.Certificate) (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	expected := map[string]bool{}
	for _, certificate := range known {
		name, err := fingerprint(certificate.PublicKey)
		if err != nil {
			return nil, err
		}
		expected[name] = true
	}
	for _, name := range s.order {
		if signer := s.keys[name]; !expected[name] && typeOf(signer.Public()) == caType {
			return signer, nil
		}
	}
	signer, err := s.generate(caType)
	if err != nil {
		return nil, err
	}
	name, err := fingerprint(signer.Public())
	if err != nil {
		return nil, err
	}
	s.keys[name], s.order = signer, append(s.order, name)
	return signer, nil
}

// NewServerKey implements Keys.
func (s *Seeded) NewServerKey() (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generate(TypeECDSAP256)
}

// LogSigner implements Keys.
func (s *Seeded) LogSigner() (*LogSigner, *LogVerifier, error) {
	signer, verifier := newLogSigner(s.log)
	return signer, verifier, nil
}

func (s *Seeded) generate(caType string) (crypto.Signer, error) {
	switch caType {
	case TypeECDSAP256:
		for {
			raw := make([]byte, 32)
			_, _ = s.source.Read(raw) // never fails
			if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
				return key, nil // else: not below the order, once in 2^32 times
			}
		}
	case TypeRSA2048:
		return s.generateRSA()
	default:
		return nil, fmt.Errorf("new authority key: type %q, want %s or %s", caType, TypeRSA2048, TypeECDSAP256)
	}
}

func (s *Seeded) generateRSA() (crypto.Signer, error) {
	const exponent = 65537
	for {
		p, q := s.prime(), s.prime()
		one := big.NewInt(1)
		order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(exponent), order)
		if d == nil || p.Cmp(q) == 0 {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		return key, key.Validate()
	}
}

// prime returns the next prime of 1024 bits after a seeded start; its two top bits are
// set, so that the product of two has 2048.
func (s *Seeded) prime() *big.Int {
	raw := make([]byte, 128)
	_, _ = s.source.Read(raw) // never fails
	raw[0] |= 0xc0
	raw[127] |= 1
	for candidate, two := new(big.Int).SetBytes(raw), big.NewInt(2); ; candidate.Add(candidate, two) {
		if candidate.ProbablyPrime(20) {
			return candidate
		}
	}
}
