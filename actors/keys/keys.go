package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// Errors that callers tell apart. All of them refuse the start.
var (
	ErrMissing  = errors.New("key is missing")         // a certificate's key is not in the store
	ErrLocked   = errors.New("key cannot be opened")   // wrong passphrase, or none for an encrypted key
	ErrMismatch = errors.New("key does not belong")    // the file holds another key than its name says
	ErrUnsafe   = errors.New("key store is not safe")  // others may read it, or it is another user's
	ErrDamaged  = errors.New("key file is not usable") // not a key at all
)

// The types of an authority's key, as the configuration spells them.
const (
	TypeRSA2048   = "RSA_2048"
	TypeECDSAP256 = "ECDSA_P256"
)

// Keys is where private keys come from. Implementations are safe for use by several
// goroutines. The signers never hand out the key itself.
type Keys interface {
	// AuthorityKey returns the signer of the authority that certificate names. It
	// fails with ErrMissing if there is no such key: the caller must not go on with
	// another one.
	AuthorityKey(certificate *x509.Certificate) (crypto.Signer, error)

	// NewAuthorityKey makes a key for a new authority; it is durable on return. known
	// are the certificates of all authorities the log knows. A key of the same type
	// that belongs to none of them was made before a crash kept its authority from
	// being logged, and is used again.
	NewAuthorityKey(caType string, known ...*x509.Certificate) (crypto.Signer, error)

	// NewServerKey makes a P-256 key for a server certificate. It lives in memory
	// only: every certificate has a new one.
	NewServerKey() (crypto.Signer, error)

	// LogSigner returns what signs the log's checkpoints, and what checks them.
	LogSigner() (*LogSigner, *LogVerifier, error)
}

// fingerprint names a public key: the first half of the SHA-256 of its
// SubjectPublicKeyInfo, in hex.
func fingerprint(public crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:16]), nil
}

// typeOf names the type of a key as the configuration does, "" for any other.
func typeOf(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() == 2048 {
			return TypeRSA2048
		}
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize == 256 {
			return TypeECDSAP256
		}
	}
	return ""
}

// parseKey reads PKCS#8 and returns its signer.
func parseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	default:
		return nil, fmt.Errorf("%w: a %T cannot sign", ErrDamaged, key)
	}
}
