package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"unicode/utf8"
)

// ErrCustom is wrapped by errors about the certificates of an operator's authority.
var ErrCustom = errors.New("certificate file is not usable")

// CustomOptions say how an operator's own authority is opened.
type CustomOptions struct {
	Passphrase []byte // opens an encrypted key file
	PKCS11     PKCS11
}

// PKCS11 says how PKCS#11 tokens are reached. What a URI says itself goes first.
type PKCS11 struct {
	Helper  string // path of gatehouse-pkcs11; empty: there is none
	Module  string // path of the token's library
	Token   string // name of the token
	PINFile string // its first line is the user's PIN
}

// Opened is an operator's authority as its URIs give it: whether the certificates fit each
// other and the key is not judged here.
type Opened struct {
	Issuing []byte   // DER of the certificate that issues
	Others  [][]byte // DER of those beside it, in the order of the files
	Signer  crypto.Signer
	Digest  [sha256.Size]byte // of all that was read: the same as long as nothing changed
}

// Custom opens the operator's own authority. Safe for concurrent use.
type Custom struct {
	options CustomOptions

	mu     sync.Mutex
	last   *Opened // what was opened last; guarded by mu
	helper *helper // guarded by mu
}

// NewCustom makes a Custom. Close it.
func NewCustom(o CustomOptions) *Custom {
	return &Custom{options: o, helper: &helper{path: o.PKCS11.Helper}}
}

// Close ends the helper. Signers in a token fail from then on.
func (c *Custom) Close() { c.helper.close() }

// Open reads what u names. As long as nothing has changed it returns the same Opened.
func (c *Custom) Open(ctx context.Context, u URIs) (*Opened, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, err := c.read(ctx, u)
	if err != nil {
		return nil, err
	}
	if c.last != nil && c.last.Digest == o.Digest {
		return c.last, nil
	}
	c.last = o
	return o, nil
}

func (c *Custom) read(ctx context.Context, u URIs) (*Opened, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q", u)
	certificates, err := c.certificates(ctx, u.Certificate, sum)
	if err != nil {
		return nil, fmt.Errorf("certificateUri: %w", err)
	}
	if u.Chain != "" {
		above, err := readCertificates(u.Chain)
		if err != nil {
			return nil, fmt.Errorf("certificateChainUri: %w", err)
		}
		certificates = append(certificates, above...)
	}
	for _, der := range certificates {
		fmt.Fprintf(sum, "%d:", len(der))
		sum.Write(der)
	}
	o := &Opened{Issuing: certificates[0], Others: certificates[1:]}
	if isPKCS11(u.PrivateKey) {
		o.Signer, err = c.tokenKey(ctx, u.PrivateKey, sum)
	} else {
		o.Signer, err = c.keyFile(u.PrivateKey, sum)
	}
	if err != nil {
		return nil, fmt.Errorf("privateKeyUri: %w", err)
	}
	sum.Sum(o.Digest[:0])
	return o, nil
}

// certificates reads one or more.
func (c *Custom) certificates(ctx context.Context, uri string, sum io.Writer) ([][]byte, error) {
	if !isPKCS11(uri) {
		return readCertificates(uri)
	}
	o, err := c.tokenObject(uri, sum)
	if err != nil {
		return nil, err
	}
	var answer struct{ Certificate []byte }
	if err := c.helper.call(ctx, request{Op: "certificate", Object: o}, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", redact(uri), err)
	}
	if len(answer.Certificate) == 0 {
		return nil, fmt.Errorf("%w: %s: the token gave none", ErrCustom, redact(uri))
	}
	return [][]byte{answer.Certificate}, nil
}

const (
	certificateFileMax = 256 << 10
	certificatesMax    = 16
)

// readCertificates reads the PEM file of a file: URI. Other blocks are refused: a private
// key does not travel with certificates.
func readCertificates(uri string) ([][]byte, error) {
	path, err := filePath(uri)
	if err != nil {
		return nil, err
	}
	text, _, err := readPlain(path, certificateFileMax)
	if err != nil {
		return nil, err
	}
	list, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func parseCertificates(text []byte) ([][]byte, error) {
	var list [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(list) == certificatesMax {
			return nil, fmt.Errorf("%w: PEM block %d is %.40q, want at most %d blocks CERTIFICATE", ErrCustom, len(list)+1, block.Type, certificatesMax)
		}
		list = append(list, block.Bytes)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no PEM block CERTIFICATE in it", ErrCustom)
	}
	return list, nil
}

func (c *Custom) keyFile(uri string, sum io.Writer) (crypto.Signer, error) {
	path, err := filePath(uri)
	if err != nil {
		return nil, err
	}
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	_, _ = sum.Write(text) // a digest takes everything
	if c.last != nil {     // deriving a passphrase's key takes a while, and this is asked every minute
		if signer := c.sameKey(text); signer != nil {
			return signer, nil
		}
	}
	signer, err := parseCustomKey(text, c.options.Passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &fileKey{Signer: signer, digest: sha256.Sum256(text)}, nil
}

// fileKey remembers what it was read from.
type fileKey struct {
	crypto.Signer
	digest [sha256.Size]byte
}

func (c *Custom) sameKey(text []byte) crypto.Signer {
	if key, ok := c.last.Signer.(*fileKey); ok && key.digest == sha256.Sum256(text) {
		return key
	}
	return nil
}

// readSecret reads a file that others must not.
func readSecret(path string) ([]byte, error) {
	text, info, err := readPlain(path, fileBytesMax)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		clear(text)
		return nil, fmt.Errorf("%w: %s has mode %04o: others may read it, or change it; run: chmod g-w,o= %s", ErrUnsafe, path, mode, path)
	}
	return text, nil
}

// readPlain reads a regular file of at most bytesMax. Links are followed: it is the
// operator's.
func readPlain(path string, bytesMax int64) ([]byte, fs.FileInfo, error) {
	f, err := openFollow(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s is not there", ErrMissing, path)
	} else if err != nil {
		return nil, nil, fmt.Errorf("%w; the user this process runs as must be able to read it", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s is no regular file", ErrUnsafe, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, bytesMax+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(text)) > bytesMax {
		return nil, nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, path, bytesMax)
	}
	return text, info, nil
}

// parseCustomKey reads the one private key of a PEM text, as common tools write it.
func parseCustomKey(text, passphrase []byte) (crypto.Signer, error) {
	var found crypto.Signer
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "EC PARAMETERS" { // openssl ecparam writes them before the key
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: more than one PEM block in it, want one private key", ErrDamaged)
		}
		signer, err := parseKeyBlock(block, passphrase)
		if err != nil {
			return nil, err
		}
		found = signer
	}
	if found == nil {
		return nil, fmt.Errorf("%w: no private key in PEM in it", ErrDamaged)
	}
	return found, nil
}

func parseKeyBlock(block *pem.Block, passphrase []byte) (crypto.Signer, error) {
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fmt.Errorf("%w: encrypted in the manner of old; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256", ErrLocked)
	}
	var key any
	var err error
	switch block.Type {
	case blockPlain:
		return parseKey(block.Bytes)
	case blockEncrypted:
		der, err := decryptKey(block.Bytes, passphrase)
		if err != nil {
			return nil, fmt.Errorf("%w (keys.passphraseFile)", err)
		}
		defer clear(der)
		signer, err := parseKey(der)
		if err != nil {
			return nil, fmt.Errorf("%w: the passphrase (keys.passphraseFile) is wrong, or the file is damaged", ErrLocked)
		}
		return signer, nil
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: PEM block %.40q, want a private key", ErrDamaged, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return key.(crypto.Signer), nil
}

// firstLine is what a file of a secret holds.
func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(line), "\r")
}

// object reads a pkcs11: URI and fills in what the configuration says.
func (c *Custom) object(uri string) (object, error) {
	o, pinFile, err := parsePKCS11(uri)
	if err != nil {
		return o, err
	}
	p := c.options.PKCS11
	if o.Token.Module == "" {
		o.Token.Module = p.Module
	}
	if o.Token.Label == "" && o.Token.Serial == "" && o.Token.Slot == "" {
		o.Token.Label = p.Token
	}
	if pinFile == "" {
		pinFile = p.PINFile
	}
	if o.Token.PIN == "" && pinFile != "" {
		text, err := readSecret(pinFile)
		if err != nil {
			return o, fmt.Errorf("PIN: %w", err)
		}
		o.Token.PIN = firstLine(text)
		clear(text)
		if !utf8.ValidString(o.Token.PIN) { // as PKCS#11 has it; JSON would change it
			return object{}, fmt.Errorf("PIN: %w: the first line of %s is no UTF-8", ErrDamaged, pinFile)
		}
	}
	switch t := o.Token; {
	case p.Helper == "":
		return o, fmt.Errorf("%w: %s: PKCS#11 needs the program gatehouse-pkcs11, which is not there; build it in cmd/gatehouse-pkcs11 and put it beside gatehouse, or name it as keys.pkcs11.helper",
			ErrMissing, redact(uri))
	case t.Module == "":
		return o, fmt.Errorf("%w: %s: no module-path, nor keys.pkcs11.module: where is the token's library?", ErrURI, redact(uri))
	case t.Label == "" && t.Serial == "" && t.Slot == "":
		return o, fmt.Errorf("%w: %s: no token, serial or slot-id, nor keys.pkcs11.token: which token?", ErrURI, redact(uri))
	}
	return o, nil
}

// tokenObject adds all that reaches an object to sum, the PIN too: a signer signs with what it
// was opened with.
func (c *Custom) tokenObject(uri string, sum io.Writer) (object, error) {
	o, err := c.object(uri)
	if err == nil {
		digest := o.digest()
		_, _ = sum.Write(digest[:])
	}
	return o, err
}

// tokenKey finds a key in a token; it never leaves it.
func (c *Custom) tokenKey(ctx context.Context, uri string, sum io.Writer) (crypto.Signer, error) {
	o, err := c.tokenObject(uri, sum)
	if err != nil {
		return nil, err
	}
	var answer struct{ Public []byte }
	if err := c.helper.call(ctx, request{Op: "key", Object: o}, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", redact(uri), err)
	}
	public, err := x509.ParsePKIXPublicKey(answer.Public)
	if err != nil {
		return nil, fmt.Errorf("%s: the token's public key: %w", redact(uri), err)
	}
	_, _ = sum.Write(answer.Public)
	return &tokenSigner{helper: c.helper, object: o, public: public}, nil
}
