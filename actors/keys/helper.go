package keys

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// ErrToken is wrapped by every error of a PKCS#11 token or of the helper that reaches it.
var ErrToken = errors.New("PKCS#11 token")

// ErrPIN is wrapped, beside ErrToken, by errors of a token that refuses the PIN.
var ErrPIN = errors.New("the PIN is refused")

// helperTimeout bounds one question to a token: a module may hang for good.
const helperTimeout = 20 * time.Second

const answerBytesMax = 64 << 10

// request is one question to the helper, gatehouse-pkcs11: a line of JSON on its standard
// input. The answer is a line on its output, with what was asked for or an error. The PIN
// goes this way and no other: arguments are for everybody to see.
type request struct {
	Number uint64 `json:"number"` // call counts; the answer has it, too
	Op     string `json:"op"`     // certificate, key or sign
	Object object `json:"object"`
	Hash   string `json:"hash,omitempty"`   // sign: SHA-256, SHA-384, SHA-512
	Digest []byte `json:"digest,omitempty"` // sign
}

// helper runs gatehouse-pkcs11, a process of its own: PKCS#11 modules are libraries in C,
// which would bring cgo into the daemon, and crash or hang it.
type helper struct {
	path string

	mu      sync.Mutex // held for one question
	process *process   // guarded by mu
	closed  bool       // guarded by mu
	asked   uint64     // questions; guarded by mu

	// refused holds the tokens whose PIN was refused, by their digest. A token locks after a
	// few wrong ones, so none is tried twice: not at the next look, not for a signature.
	refused map[[sha256.Size]byte]error // guarded by mu
}

// process is a helper that runs.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	cancel context.CancelFunc
}

// call asks, starting the helper if it does not run. One that does not answer is ended.
func (h *helper) call(ctx context.Context, r request, answer any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("%w: closed", ErrToken)
	}
	login := r.Object.Token.digest()
	if err := h.refused[login]; err != nil {
		return err
	}
	if h.process == nil {
		p, err := start(h.path)
		if err != nil {
			return fmt.Errorf("%w: start %s: %w", ErrToken, h.path, err)
		}
		h.process = p
	}
	h.asked++
	r.Number = h.asked
	var got head
	line, err := h.process.ask(ctx, r)
	if err == nil {
		err = read(line, r, &got, answer)
	}
	if err != nil { // also one out of step: the answer may be to come, where the next is awaited
		h.process.end()
		h.process = nil
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	switch {
	case got.PINRefused:
		err = fmt.Errorf("%w: %w: %.500s; it is not tried again, lest the token lock, until the PIN or the token's URI is another or gatehouse starts anew", ErrToken, ErrPIN, got.Error)
		if h.refused == nil {
			h.refused = map[[sha256.Size]byte]error{}
		}
		h.refused[login] = err
		return err
	case got.Error != "":
		return fmt.Errorf("%w: %.500s", ErrToken, got.Error)
	}
	return nil
}

// head is what every answer has, beside what was asked for.
type head struct {
	Number     uint64
	Error      string
	PINRefused bool
}

// read reads an answer to r.
func read(line []byte, r request, got *head, answer any) error {
	if err := errors.Join(json.Unmarshal(line, got), json.Unmarshal(line, answer)); err != nil {
		return fmt.Errorf("the helper's answer: %w", err)
	}
	if got.Number != r.Number {
		// no number: the same error each time is told once
		return errors.New("the helper's answer is to another question: is gatehouse-pkcs11 of the same version as gatehouse?")
	}
	return nil
}

func (h *helper) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.process != nil {
		h.process.end()
		h.process = nil
	}
}

func start(path string) (*process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewScanner(out), cancel: cancel}
	p.out.Buffer(nil, answerBytesMax)
	return p, nil
}

// ask writes the question and reads one line.
func (p *process) ask(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, p.cancel) // ends the process, and with it the read
	defer stop()
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	defer clear(line) // it holds the PIN
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return nil, p.why(ctx, "does not listen")
	}
	if !p.out.Scan() {
		return nil, p.why(ctx, "ended without an answer: see whether its module works")
	}
	return p.out.Bytes(), nil
}

func (p *process) why(ctx context.Context, otherwise string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the token does not answer within %s: %w", helperTimeout, err)
	}
	return fmt.Errorf("the helper %s", otherwise)
}

// end stops the process and waits for it.
func (p *process) end() {
	_ = p.in.Close()
	p.cancel()
	_ = p.cmd.Wait() // it was told to end
}

// tokenSigner is a key in a token.
type tokenSigner struct {
	helper *helper
	object object
	public crypto.PublicKey
}

func (s *tokenSigner) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer.
func (s *tokenSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	if hash == 0 {
		return nil, fmt.Errorf("%w: keys that sign whole messages (Ed25519) are not supported in a token; use an RSA or ECDSA key", ErrToken)
	}
	var answer struct{ Signature []byte }
	if err := s.helper.call(context.Background(), request{Op: "sign", Object: s.object, Hash: hash.String(), Digest: digest}, &answer); err != nil {
		return nil, err
	}
	return answer.Signature, nil
}
