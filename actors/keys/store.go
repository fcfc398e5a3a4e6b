package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Options say how a store is opened.
type Options struct {
	// Passphrase encrypts new keys and opens encrypted ones. Empty: new keys lie in
	// plain files of mode 0400, and an encrypted one is refused. A key that lies
	// plain in the store is read also when there is a passphrase.
	Passphrase []byte
}

// A Store keeps keys in a directory that only this user reaches: mode 0700, files
// 0400. It holds
//
//	ca-<fingerprint of the public key>.key   an authority's key: PKCS#8 in PEM
//	log.key, log.pub                         the log's signing key and its public half
//
// Files are made once, durably, and never changed.
type Store struct {
	dir        string
	passphrase []byte
	rounds     int        // of key derivation for new keys; fewer in tests
	mu         sync.Mutex // held while keys are looked for and made
}

var _ Keys = (*Store)(nil)

const (
	authorityPrefix = "ca-"
	keySuffix       = ".key"
)

// Open opens the store in dir, making dir if it is absent (not its parents). It fails
// with ErrUnsafe if others may read dir or a key in it.
func Open(dir string, o Options) (*Store, error) {
	if err := os.Mkdir(dir, dirMode); err == nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := removeLeftovers(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, passphrase: slices.Clone(o.Passphrase), rounds: iterations}
	names, err := s.authorityFiles()
	if err != nil {
		return nil, err
	}
	for _, name := range append(names, logKeyFile, logPublicFile) { // every mode is checked before anything is done
		if _, err := readFile(filepath.Join(dir, name)); err != nil && !errors.Is(err, ErrMissing) {
			return nil, fmt.Errorf("open key store: %w", err)
		}
	}
	return s, nil
}

// authorityFiles lists the files of authorities' keys.
func (s *Store) authorityFiles() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), authorityPrefix) && strings.HasSuffix(entry.Name(), keySuffix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// AuthorityKey implements Keys.
func (s *Store) AuthorityKey(certificate *x509.Certificate) (crypto.Signer, error) {
	name, err := fileOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := s.load(name)
	if errors.Is(err, ErrMissing) {
		return nil, fmt.Errorf("authority %s, which the log knows: %w; restore the key store from its backup: a new authority would be trusted by no device", certificate.Subject, err)
	}
	return signer, err
}

// NewAuthorityKey implements Keys.
func (s *Store) NewAuthorityKey(caType string, known ...*x509.Certificate) (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	expected := map[string]bool{}
	for _, certificate := range known {
		name, err := fileOf(certificate.PublicKey)
		if err != nil {
			return nil, err
		}
		expected[name] = true
	}
	names, err := s.authorityFiles()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if expected[name] {
			continue
		}
		// Even one of another type must open: a store that is locked is not a store
		// to put a new authority into.
		signer, err := s.load(name)
		if err != nil {
			return nil, err
		}
		if typeOf(signer.Public()) == caType {
			return signer, nil
		}
	}
	signer, err := generate(caType)
	if err != nil {
		return nil, err
	}
	name, err := fileOf(signer.Public())
	if err != nil {
		return nil, err
	}
	if err := s.save(name, signer); err != nil {
		return nil, err
	}
	return signer, nil
}

// NewServerKey implements Keys.
func (s *Store) NewServerKey() (crypto.Signer, error) { return generate(TypeECDSAP256) }

func generate(caType string) (crypto.Signer, error) {
	switch caType {
	case TypeRSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case TypeECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return nil, fmt.Errorf("new authority key: type %q, want %s or %s", caType, TypeRSA2048, TypeECDSAP256)
	}
}

// fileOf names the file of the authority's key whose public half is public.
func fileOf(public crypto.PublicKey) (string, error) {
	name, err := fingerprint(public)
	return authorityPrefix + name + keySuffix, err
}

// PEM block types of RFC 7468.
const (
	blockPlain     = "PRIVATE KEY"
	blockEncrypted = "ENCRYPTED PRIVATE KEY"
)

// save writes signer's key to the new file name.
func (s *Store) save(name string, signer crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	defer clear(der)
	block := &pem.Block{Type: blockPlain, Bytes: der}
	if len(s.passphrase) > 0 {
		block.Type = blockEncrypted
		if block.Bytes, err = encryptKey(rand.Reader, der, s.passphrase, s.rounds); err != nil {
			return fmt.Errorf("save %s: %w", name, err)
		}
	}
	text := pem.EncodeToMemory(block)
	defer clear(text)
	return writeFile(filepath.Join(s.dir, name), text)
}

// load reads the key in the file name. For an authority's key the name says which
// public key it must have.
func (s *Store) load(name string) (crypto.Signer, error) {
	path := filepath.Join(s.dir, name)
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	signer, err := s.parse(text)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if !strings.HasPrefix(name, authorityPrefix) {
		return signer, nil
	}
	if want, err := fileOf(signer.Public()); err != nil || want != name {
		return nil, fmt.Errorf("open %s: %w: it holds the key of %s (%v)", path, ErrMismatch, want, err)
	}
	return signer, nil
}

func (s *Store) parse(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("%w: not one PEM block", ErrDamaged)
	}
	switch block.Type {
	case blockPlain:
		return parseKey(block.Bytes)
	case blockEncrypted:
		der, err := decryptKey(block.Bytes, s.passphrase)
		if err != nil {
			return nil, err
		}
		defer clear(der)
		signer, err := parseKey(der)
		if err != nil { // one wrong passphrase in 256 leaves padding that looks right
			return nil, fmt.Errorf("%w: the passphrase is wrong, or the file is damaged", ErrLocked)
		}
		return signer, nil
	default:
		return nil, fmt.Errorf("%w: PEM block %.40q, want %s or %s", ErrDamaged, block.Type, blockPlain, blockEncrypted)
	}
}
