package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// LogName is the name the log's checkpoints are signed under, their first line.
const LogName = "gatehouse.local/log"

// algorithmEd25519 is the C2SP note's number of the algorithm.
const algorithmEd25519 = 1

// A LogSigner signs checkpoints in C2SP note form. It is a note.Signer.
type LogSigner struct {
	LogVerifier
	key ed25519.PrivateKey
}

// Sign signs a checkpoint's text.
func (s *LogSigner) Sign(message []byte) ([]byte, error) { return ed25519.Sign(s.key, message), nil }

// A LogVerifier checks checkpoints. It is a note.Verifier.
type LogVerifier struct {
	name   string
	public ed25519.PublicKey
}

// Name is the key's name.
func (v *LogVerifier) Name() string { return v.name }

// KeyHash is the key's number in a note's signature line (C2SP signed-note).
func (v *LogVerifier) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(v.name+"\n"), v.encoded()...))
	return binary.BigEndian.Uint32(sum[:])
}

// Verify says whether signature is the key's over message.
func (v *LogVerifier) Verify(message, signature []byte) bool {
	return ed25519.Verify(v.public, message, signature)
}

// String is the verifier key in its C2SP form, "name+hash+key": what auditors are given.
func (v *LogVerifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.KeyHash(), base64.StdEncoding.EncodeToString(v.encoded()))
}

func (v *LogVerifier) encoded() []byte { return append([]byte{algorithmEd25519}, v.public...) }

// newLogSigner wraps a key.
func newLogSigner(key ed25519.PrivateKey) (*LogSigner, *LogVerifier) {
	v := LogVerifier{name: LogName, public: key.Public().(ed25519.PublicKey)}
	return &LogSigner{LogVerifier: v, key: key}, &v
}

const (
	logKeyFile    = "log" + keySuffix
	logPublicFile = "log.pub"
)

// LogSigner implements Keys. The key is made on the first call ever. Its public half,
// written after it, remembers that there is one: a store that has log.pub and no
// log.key has lost the key, and is refused.
func (s *Store) LogSigner() (*LogSigner, *LogVerifier, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	public, err := readFile(filepath.Join(s.dir, logPublicFile))
	switch {
	case errors.Is(err, ErrMissing):
		return s.newLogSigner()
	case err != nil:
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	loaded, err := s.load(logKeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	key, ok := loaded.(ed25519.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("log key: %w: a %T, want Ed25519", ErrMismatch, loaded)
	}
	signer, verifier := newLogSigner(key)
	if verifier.String() != strings.TrimSpace(string(public)) {
		return nil, nil, fmt.Errorf("log key: %w: %s does not belong to %s", ErrMismatch, logKeyFile, logPublicFile)
	}
	return signer, verifier, nil
}

// newLogSigner makes the key, or takes up one whose public half was not written before
// a crash.
func (s *Store) newLogSigner() (*LogSigner, *LogVerifier, error) {
	loaded, err := s.load(logKeyFile)
	if errors.Is(err, ErrMissing) {
		_, key, genErr := ed25519.GenerateKey(rand.Reader)
		if genErr != nil {
			return nil, nil, fmt.Errorf("log key: %w", genErr)
		}
		loaded, err = key, s.save(logKeyFile, key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	key, ok := loaded.(ed25519.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("log key: %w: a %T, want Ed25519", ErrMismatch, loaded)
	}
	signer, verifier := newLogSigner(key)
	if err := writeFile(filepath.Join(s.dir, logPublicFile), []byte(verifier.String()+"\n")); err != nil {
		return nil, nil, fmt.Errorf("log key: %w", err)
	}
	return signer, verifier, nil
}
