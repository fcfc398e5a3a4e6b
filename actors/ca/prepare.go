package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// SerialBytes is how many random bytes a serial number is made of. Their first bit is
// dropped: 159 bits, so that the number is positive and no longer than 20 octets
// (RFC 5280 4.1.2.2).
const SerialBytes = 20

// A Request says whose certificate is wanted.
type Request struct {
	Issuer     *Authority       // nil for a new authority, which signs itself
	Subscriber string           // common name: the service's or component's name; unused for an authority
	Hosts      []Host           // what a server is dialled by; localhost is added
	PublicKey  crypto.PublicKey // the holder's
	Serial     [SerialBytes]byte
	Now        time.Time
}

// Prepared is a certificate that was built and checked, and is not signed yet. Only
// Prepare makes one; the zero value is refused by Issue.
type Prepared struct {
	tbs       []byte            // the bytes to be signed: TBSCertificate, RFC 5280 4.1.1.1
	parsed    *x509.Certificate // what they say
	issuer    crypto.PublicKey
	algorithm asn1.RawValue
	hash      crypto.Hash
}

// SerialText is a certificate's serial number in lower-case hex, as the log holds it.
func SerialText(c *x509.Certificate) string { return fmt.Sprintf("%040x", c.SerialNumber) }

// Serial is the certificate's serial number, as the log holds it.
func (p Prepared) Serial() string { return SerialText(p.parsed) }

// NotBefore is when the certificate begins to be valid.
func (p Prepared) NotBefore() time.Time { return p.parsed.NotBefore }

// NotAfter is when it ends.
func (p Prepared) NotAfter() time.Time { return p.parsed.NotAfter }

// Prepare builds the certificate that r asks for under profile p, checks it rule by
// rule, and returns it ready to be signed.
func Prepare(p Profile, r Request) (Prepared, error) {
	if err := checkRequest(p, r); err != nil {
		return Prepared{}, err
	}
	template, err := p.template(r)
	if err != nil {
		return Prepared{}, fmt.Errorf("prepare certificate: %w", err)
	}
	parent, issuer := template, r.PublicKey
	if r.Issuer != nil {
		parent, issuer = r.Issuer.Certificate(), r.Issuer.Certificate().PublicKey
	}
	algorithm, hash, err := algorithmOf(issuer)
	if err != nil {
		return Prepared{}, err
	}
	template.SignatureAlgorithm = algorithm
	capture := &tbsCapture{public: issuer}
	if _, err := x509.CreateCertificate(nil, template, parent, r.PublicKey, capture); !errors.Is(err, errCaptured) {
		return Prepared{}, fmt.Errorf("prepare certificate: build: %w", err)
	}
	prepared := Prepared{tbs: capture.tbs, issuer: issuer, hash: hash}
	var head struct { // the beginning of TBSCertificate; what follows is not read here
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    *big.Int
		Algorithm asn1.RawValue
	}
	if _, err := asn1.Unmarshal(prepared.tbs, &head); err != nil {
		return Prepared{}, fmt.Errorf("prepare certificate: read back: %w", err)
	}
	prepared.algorithm = head.Algorithm
	unsigned, err := prepared.seal(nil)
	if err != nil {
		return Prepared{}, err
	}
	if prepared.parsed, err = x509.ParseCertificate(unsigned); err != nil {
		return Prepared{}, fmt.Errorf("prepare certificate: read back: %w", err)
	}
	if err := lint(p, r, prepared.parsed); err != nil {
		return Prepared{}, fmt.Errorf("prepare certificate: %w", err)
	}
	return prepared, nil
}

func checkRequest(p Profile, r Request) error {
	switch {
	case p.usage == 0:
		return errors.New("prepare certificate: no profile")
	case (p.usage == Issuing) != (r.Issuer == nil):
		return fmt.Errorf("prepare certificate: a %s certificate with issuer %t: an authority signs itself, everything else has an issuer", p.usage, r.Issuer != nil)
	case r.Now.IsZero():
		return errors.New("prepare certificate: the time is not known")
	}
	if p.usage != Issuing {
		if err := checkSubscriber(r.Subscriber); err != nil {
			return fmt.Errorf("prepare certificate: %w", err)
		}
	} else if TypeOf(r.PublicKey) == "" {
		return fmt.Errorf("prepare certificate: %w: a managed authority has an RSA 2048 or P-256 key", ErrAuthority)
	}
	if err := checkKey(r.PublicKey); err != nil {
		return fmt.Errorf("prepare certificate: public key: %w", err)
	}
	if !p.usage.Serves() && len(r.Hosts) > 0 {
		return fmt.Errorf("prepare certificate: a %s certificate has no hosts", p.usage)
	}
	if n := len(withLocalhost(r.Hosts)); n > NamesMax {
		return fmt.Errorf("prepare certificate: %d names with localhost, want at most %d; shorten the list of host addresses", n, NamesMax)
	}
	return nil
}

// template puts r into the terms of crypto/x509.
func (p Profile) template(r Request) (*x509.Certificate, error) {
	notBefore, notAfter, err := p.window(r.Now, r.Issuer)
	if err != nil {
		return nil, err
	}
	serial := r.Serial
	serial[0] &= 0x7f
	number := new(big.Int).SetBytes(serial[:])
	keyID, err := subjectKeyID(r.PublicKey)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number, NotBefore: notBefore, NotAfter: notAfter,
		RawSubject: subject(AuthorityName), SubjectKeyId: keyID,
		BasicConstraintsValid: true, IsCA: p.usage == Issuing, MaxPathLen: -1, // no path length
		KeyUsage: p.keyUsage,
	}
	if p.usage == Issuing {
		return template, nil
	}
	template.RawSubject = subject(r.Subscriber)
	extension, err := p.extKeyUsageExtension()
	if err != nil {
		return nil, fmt.Errorf("encode extended key usage: %w", err)
	}
	template.ExtraExtensions = []pkix.Extension{extension}
	if p.usage.Serves() {
		for _, host := range withLocalhost(r.Hosts) {
			if host.IsAddress() {
				template.IPAddresses = append(template.IPAddresses, host.address.AsSlice())
			} else {
				template.DNSNames = append(template.DNSNames, host.name)
			}
		}
	}
	return template, nil
}

// subjectKeyID derives the key identifier of RFC 7093 section 2, method 1: 160 bits of
// the SHA-256 of the public key.
func subjectKeyID(public crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// errCaptured ends crypto/x509's work once the bytes to be signed are known.
var errCaptured = errors.New("captured")

// tbsCapture is the signer that signs nothing: it keeps the bytes it was given.
// crypto.SignMessage hands them over whole because it is a crypto.MessageSigner.
type tbsCapture struct {
	public crypto.PublicKey
	tbs    []byte
}

func (c *tbsCapture) Public() crypto.PublicKey { return c.public }

func (c *tbsCapture) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("crypto/x509 asked for the signature of a digest, not of the certificate")
}

func (c *tbsCapture) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	c.tbs = bytes.Clone(message)
	return nil, errCaptured
}

// seal puts a signature behind the bytes to be signed.
func (p Prepared) seal(signature []byte) ([]byte, error) {
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: p.tbs}, p.algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return der, nil
}

// ErrNotSigned is wrapped when the issuer's key gave no signature, or a wrong one: it is
// of no use to any other certificate either.
var ErrNotSigned = errors.New("the authority's key does not sign")

// Issue signs what was prepared and returns the certificate's DER. signer must hold
// the issuer's key. The signature takes no randomness (RFC 6979 for ECDSA), so that
// repeating an Issue after a crash gives the same certificate where the signer allows.
func Issue(p Prepared, signer crypto.Signer) ([]byte, error) {
	if p.parsed == nil {
		return nil, errors.New("issue certificate: it was not prepared")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.issuer) {
		return nil, fmt.Errorf("issue certificate %s: %w: it does not belong to the issuer's certificate", p.Serial(), ErrNotSigned)
	}
	signature, err := crypto.SignMessage(signer, nil, p.tbs, p.hash)
	if err != nil {
		return nil, fmt.Errorf("issue certificate %s: %w: %w", p.Serial(), ErrNotSigned, err)
	}
	der, err := p.seal(signature)
	if err != nil {
		return nil, fmt.Errorf("issue certificate %s: %w", p.Serial(), err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate %s: read back: %w", p.Serial(), err)
	}
	// A hardware token that mis-signs must not hand its work to a broker.
	if err := holderOf(p.issuer).CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return nil, fmt.Errorf("issue certificate %s: %w: the signature does not verify: %w", p.Serial(), ErrNotSigned, err)
	}
	return der, nil
}

func holderOf(public crypto.PublicKey) *x509.Certificate {
	return &x509.Certificate{PublicKey: public, PublicKeyAlgorithm: keyAlgorithm(public)}
}

// Try says whether signer holds the key of the issuing certificate, and has it sign
// something that is no certificate: a key in a token may be there and not be usable.
func (a *Authority) Try(signer crypto.Signer) error {
	public := a.chain[0].PublicKey
	if held, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !held.Equal(public) {
		return fmt.Errorf("%w: the private key is not that of the issuing certificate, %s", ErrAuthority, a.chain[0].Subject)
	}
	algorithm, hash, err := algorithmOf(public)
	if err != nil {
		return err
	}
	message := []byte("gatehouse: may this key sign?")
	signature, err := crypto.SignMessage(signer, nil, message, hash)
	if err == nil {
		err = holderOf(public).CheckSignature(algorithm, message, signature)
	}
	if err != nil {
		return fmt.Errorf("%w: its key does not sign: %w", ErrAuthority, err)
	}
	return nil
}
