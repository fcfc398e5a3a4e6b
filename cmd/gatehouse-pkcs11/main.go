// Command gatehouse-pkcs11 gives gatehouse an authority whose key lives in a PKCS#11 token:
// a smart card, a TPM, an HSM. It is a program and a module of its own, so that cgo, the
// module's library and what go.step.sm/crypto needs stay out of the daemon; a library that
// crashes or hangs ends this process and no other.
//
//	cd cmd/gatehouse-pkcs11 && go build .
//
// It reads questions from standard input and answers on standard output, a line of JSON
// each (actors/keys, helper.go, is the other side):
//
//	{"number":1,"op":"certificate","object":{"token":{…},"object":"ca"}}      {"number":1,"certificate":"<DER>"}
//	{"number":2,"op":"key","object":{…}}                                      {"number":2,"public":"<SubjectPublicKeyInfo>"}
//	{"number":3,"op":"sign","object":{…},"hash":"SHA-256","digest":"…"}       {"number":3,"signature":"…"}
//
// or {"number":4,"error":"…"}, with "pinRefused":true if the token refuses the PIN: tried again, it locks.
// Bytes are base64. It ends with its input.
package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	_ "crypto/sha256" // the hashes a certificate is signed with
	_ "crypto/sha512"

	p11 "github.com/miekg/pkcs11"
	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
	"go.step.sm/crypto/kms/uri"
)

// token and object are as in actors/keys, uri.go.
type token struct {
	Module string `json:"module"`
	Label  string `json:"token"`
	Serial string `json:"serial"`
	Slot   string `json:"slot"`
	PIN    string `json:"pin"`
}

type object struct {
	Token token  `json:"token"`
	Label string `json:"object"`
	ID    []byte `json:"id"`
}

type request struct {
	Number uint64 `json:"number"`
	Op     string `json:"op"`
	Object object `json:"object"`
	Hash   string `json:"hash"`
	Digest []byte `json:"digest"`
}

type answer struct {
	Number      uint64 `json:"number"` // the request's
	Certificate []byte `json:"certificate,omitempty"`
	Public      []byte `json:"public,omitempty"`
	Signature   []byte `json:"signature,omitempty"`
	Error       string `json:"error,omitempty"`
	PINRefused  bool   `json:"pinRefused,omitempty"`
}

const requestBytesMax = 64 << 10

func main() {
	out, err := ownOutput()
	if err == nil {
		err = serve(os.Stdin, out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse-pkcs11:", err)
		os.Exit(1)
	}
}

// serve answers until the input ends.
func serve(in io.Reader, out io.Writer) error {
	h := &helper{sessions: map[token]session{}}
	defer h.close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, requestBytesMax)
	for lines.Scan() {
		var r request
		var a answer
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			a, err = h.answer(r)
		}
		if err != nil {
			a = answer{Error: without(err.Error(), r.Object.Token.PIN), PINRefused: pinRefused(err)}
		}
		a.Number = r.Number
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

// pinRefused says whether err is a token's no to the PIN: to ask again is of no use, and
// counts against it.
func pinRefused(err error) bool {
	var code p11.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED, p11.CKR_PIN_LOCKED:
		return true
	}
	return false
}

// without takes the PIN out of a library's words.
func without(text, pin string) string {
	if pin == "" {
		return text
	}
	return strings.NewReplacer(pin, "…", url.QueryEscape(pin), "…").Replace(text)
}

// helper keeps the sessions with tokens, by the token without its PIN.
type helper struct{ sessions map[token]session }

type session struct {
	kms *pkcs11.PKCS11
	pin string // that it logged in with
}

func (h *helper) close() {
	for t := range h.sessions {
		h.end(t)
	}
}

// end logs out of a token.
func (h *helper) end(t token) {
	t.PIN = ""
	if s, ok := h.sessions[t]; ok {
		_ = s.kms.Close() // it always returns nil
		delete(h.sessions, t)
	}
}

func (h *helper) answer(r request) (answer, error) {
	kms, err := h.open(r.Object.Token)
	if err != nil {
		return answer{}, err
	}
	a, err := ask(kms, r)
	if err != nil { // the token may have been taken out: log in anew next time
		h.end(r.Object.Token)
	}
	return a, err
}

// open logs in to a token. Who is logged in is taken to be so with any PIN: another one counts
// when the former session has ended.
func (h *helper) open(t token) (*pkcs11.PKCS11, error) {
	name := t
	name.PIN = ""
	if s, ok := h.sessions[name]; ok && s.pin == t.PIN {
		return s.kms, nil
	}
	h.end(t)
	values := url.Values{}
	for name, value := range map[string]string{"module-path": t.Module, "token": t.Label, "serial": t.Serial, "slot-id": t.Slot} {
		if value != "" {
			values.Set(name, value)
		}
	}
	u := uri.New(pkcs11.Scheme, values).String()
	if t.PIN != "" {
		u += "?pin-value=" + url.QueryEscape(t.PIN)
	}
	kms, err := pkcs11.New(context.Background(), apiv1.Options{URI: u})
	if err != nil {
		return nil, err
	}
	h.sessions[name] = session{kms, t.PIN}
	return kms, nil
}

func ask(kms *pkcs11.PKCS11, r request) (answer, error) {
	values := url.Values{}
	if r.Object.Label != "" {
		values.Set("object", r.Object.Label)
	}
	if len(r.Object.ID) > 0 {
		values.Set("id", "0x"+hex.EncodeToString(r.Object.ID)) // else what looks like hex is taken for it
	}
	name := uri.New(pkcs11.Scheme, values).String()
	switch r.Op {
	case "certificate":
		c, err := kms.LoadCertificate(&apiv1.LoadCertificateRequest{Name: name})
		if err != nil {
			return answer{}, err
		}
		return answer{Certificate: c.Raw}, nil
	case "key":
		public, err := kms.GetPublicKey(&apiv1.GetPublicKeyRequest{Name: name})
		if err != nil {
			return answer{}, err
		}
		spki, err := x509.MarshalPKIXPublicKey(public)
		return answer{Public: spki}, err
	case "sign":
		return sign(kms, name, r)
	}
	return answer{}, fmt.Errorf("no operation %.40q", r.Op)
}

func sign(kms *pkcs11.PKCS11, name string, r request) (answer, error) {
	hash, ok := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[r.Hash]
	if !ok || len(r.Digest) != hash.Size() {
		return answer{}, fmt.Errorf("a digest of %d bytes by %.40q cannot be signed", len(r.Digest), r.Hash)
	}
	signer, err := kms.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: name})
	if err != nil {
		return answer{}, err
	}
	signature, err := signer.Sign(rand.Reader, r.Digest, hash)
	return answer{Signature: signature}, err
}
