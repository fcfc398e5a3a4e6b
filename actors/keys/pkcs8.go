package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"slices"
)

// Encrypted keys are PKCS#8 EncryptedPrivateKeyInfo with PBES2 (RFC 5958, RFC 8018):
// PBKDF2 with HMAC-SHA-256, then AES-256-CBC. OpenSSL and every other tool reads them,
// so a key survives this program; the standard library has all the parts, so no
// further module guards the most valuable secret (go.step.sm/crypto writes the same
// format and brings its whole graph along; age's format no other tool reads). CBC does
// not authenticate, and need not: a key that decrypts to anything but the private half
// of the public key it is named by is refused.
const (
	iterations    = 600_000 // OWASP's figure for PBKDF2-HMAC-SHA256; about 0.2 s
	iterationsMax = 10_000_000
	saltBytes     = 16
	keyBytes      = 32 // AES-256
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedKey struct {
	Algorithm struct {
		OID    asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				OID    asn1.ObjectIdentifier
				Params struct {
					Salt       []byte
					Iterations int
					KeyLength  int `asn1:"optional"`
					PRF        pkix.AlgorithmIdentifier
				}
			}
			Cipher struct {
				OID asn1.ObjectIdentifier
				IV  []byte
			}
		}
	}
	Data []byte
}

// encryptKey wraps the PKCS#8 bytes der under passphrase.
func encryptKey(random io.Reader, der, passphrase []byte, rounds int) ([]byte, error) {
	var e encryptedKey
	salt, iv := make([]byte, saltBytes), make([]byte, aes.BlockSize)
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	if _, err := io.ReadFull(random, iv); err != nil {
		return nil, fmt.Errorf("draw initialisation vector: %w", err)
	}
	e.Algorithm.OID = oidPBES2
	kdf := &e.Algorithm.Params.KDF
	kdf.OID, kdf.Params.Salt, kdf.Params.Iterations = oidPBKDF2, salt, rounds
	kdf.Params.PRF = pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue}
	e.Algorithm.Params.Cipher.OID, e.Algorithm.Params.Cipher.IV = oidAES256CBC, iv
	block, err := e.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	padding := aes.BlockSize - len(der)%aes.BlockSize // RFC 8018 6.1.1, step 4
	plain := append(slices.Clone(der), slices.Repeat([]byte{byte(padding)}, padding)...)
	e.Data = make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(e.Data, plain)
	clear(plain)
	return asn1.Marshal(e)
}

// decryptKey unwraps what encryptKey made, or another tool with the same algorithms.
// A wrong passphrase gives ErrLocked, or, rarely, bytes that are no key.
func decryptKey(der, passphrase []byte) ([]byte, error) {
	var e encryptedKey
	if rest, err := asn1.Unmarshal(der, &e); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: not an encrypted PKCS#8 key with PBES2, PBKDF2 and AES-256-CBC (%v)", ErrDamaged, err)
	}
	p := e.Algorithm.Params
	switch {
	case !e.Algorithm.OID.Equal(oidPBES2) || !p.KDF.OID.Equal(oidPBKDF2) || !p.Cipher.OID.Equal(oidAES256CBC) || !p.KDF.Params.PRF.Algorithm.Equal(oidHMACSHA256):
		return nil, fmt.Errorf("%w: encrypted by other algorithms than PBKDF2 with HMAC-SHA-256 and AES-256-CBC; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256", ErrDamaged)
	case p.KDF.Params.Iterations < 1 || p.KDF.Params.Iterations > iterationsMax || len(p.Cipher.IV) != aes.BlockSize || len(e.Data) == 0 || len(e.Data)%aes.BlockSize != 0:
		return nil, fmt.Errorf("%w: encrypted with %d rounds, %d bytes", ErrDamaged, p.KDF.Params.Iterations, len(e.Data))
	case len(passphrase) == 0:
		return nil, fmt.Errorf("%w: it is encrypted and no passphrase is configured", ErrLocked)
	}
	block, err := e.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(e.Data))
	cipher.NewCBCDecrypter(block, p.Cipher.IV).CryptBlocks(plain, e.Data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize || padding > len(plain) {
		return nil, fmt.Errorf("%w: the passphrase is wrong", ErrLocked)
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, fmt.Errorf("%w: the passphrase is wrong", ErrLocked)
		}
	}
	return plain[:len(plain)-padding], nil
}

// cipher derives the key from the passphrase.
func (e *encryptedKey) cipher(passphrase []byte) (cipher.Block, error) {
	p := e.Algorithm.Params.KDF.Params
	key, err := pbkdf2.Key(sha256.New, string(passphrase), p.Salt, p.Iterations, keyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return block, nil
}
