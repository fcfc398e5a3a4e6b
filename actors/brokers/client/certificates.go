package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

const (
	// certificateTimeout bounds one question: the desk says Busy after five seconds.
	certificateTimeout = 8 * time.Second
	// Between two questions of which the first failed.
	certificatePauseMin = time.Second
	certificatePauseMax = time.Minute
	// certificateAskMax bounds how long an answer may have us wait with the next question.
	certificateAskMax = time.Hour
)

// CertificatesConfig says which certificates a broker wants. Its zero value wants those it
// serves with, for a key made here.
type CertificatesConfig struct {
	// Type is what they are for; authapi.CertificateServer by default.
	Type authapi.CertificateType
	// Key is the private key, which never leaves this process; by default a new one for
	// P-256. A broker that keeps it over a restart gets the same certificate again.
	Key crypto.Signer
	// Install, if set, puts a certificate to work before it becomes Current and is
	// acknowledged: for brokers that read files. It is called for one after the other, with
	// the former authorities or not. When it fails it is called again.
	Install func(context.Context, *Certificate) error
}

// Certificate is one certificate with what belongs to it. It is not changed.
type Certificate struct {
	tls.Certificate        // for use as it is: the chain, leaf first, the key, and Leaf
	Serial          string // 40 hex digits
	CertificatePEM  []byte // leaf, then the authorities above it
	TrustPEM        []byte // all authorities that clients may have to trust
	update          authapi.CertificateUpdate
}

// Certificates keeps a broker's certificate current: it asks, hears pushes, puts each new
// certificate in place of the former without a gap, and says that it did. Its methods are
// safe for concurrent use.
type Certificates struct {
	c       *Client
	cfg     CertificatesConfig
	request string // the certificate signing request, PEM
	ctx     context.Context
	end     context.CancelFunc
	done    chan struct{}                             // closed when it has ended
	pushed  atomic.Pointer[authapi.CertificateUpdate] // the last that was not looked at

	current atomic.Pointer[Certificate]
	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each new current; guarded by mu, as all below
	failure error         // why the last question or installation failed
	failed  int           // questions in a row
	asking  bool          // a round is under way
	again   bool          // another is to follow it
	over    bool          // none begins any more
	stop    func() bool   // the next round's timer; nil: none runs
}

// Certificates begins to keep a certificate current, until Close of either. There can be one
// for each type.
func (c *Client) Certificates(cfg CertificatesConfig) (*Certificates, error) {
	if cfg.Type == "" {
		cfg.Type = authapi.CertificateServer
	}
	if cfg.Key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		cfg.Key = key
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("certificates: sign a request: %w", err)
	}
	s := &Certificates{
		c: c, cfg: cfg, request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	s.ctx, s.end = context.WithCancel(c.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		err = errors.New("certificates: the client is closed")
	case c.certificates[cfg.Type] != nil:
		err = fmt.Errorf("certificates: of type %s they are kept already", cfg.Type)
	}
	if err != nil {
		s.end()
		return nil, err
	}
	c.certificates[cfg.Type] = s
	s.look()
	return s, nil
}

// Close ends it; what is current stays.
func (s *Certificates) Close() {
	s.c.mu.Lock()
	if s.c.certificates[s.cfg.Type] == s {
		delete(s.c.certificates, s.cfg.Type)
	}
	s.c.mu.Unlock()
	s.shut()
	<-s.done
}

// Ready waits for the first certificate. When ctx ends first, its error says why there is
// none.
func (s *Certificates) Ready(ctx context.Context) error {
	for {
		changed := s.Changed()
		if s.current.Load() != nil {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return fmt.Errorf("certificates: %w: closed", ErrUnavailable)
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			return fmt.Errorf("wait for a %s certificate: %w", s.cfg.Type, errors.Join(ctx.Err(), s.failure))
		}
	}
}

// Current returns the certificate in use; nil before the first.
func (s *Certificates) Current() *Certificate { return s.current.Load() }

// Changed returns a channel that is closed when another certificate is current, or other
// authorities are to be trusted.
func (s *Certificates) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// GetCertificate is for tls.Config.GetCertificate.
func (s *Certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.current.Load(); c != nil {
		return &c.Certificate, nil
	}
	return nil, fmt.Errorf("no %s certificate was issued yet", s.cfg.Type)
}

// GetClientCertificate is for tls.Config.GetClientCertificate.
func (s *Certificates) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.GetCertificate(nil)
}

// ServerTLS is the configuration of a server that is always current, as the embedded broker
// has it: a client must present a certificate, and whose it is, is for Gatehouse to say, so no
// list of authorities is sent. A new certificate is shown to new connections; open ones stay.
func (s *Certificates) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: s.GetCertificate, ClientAuth: tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // a resumed session would rest on a proof of possession made earlier
	}
}

// heed takes a push, or, with nil, word that one may have been missed. It does not block.
func (s *Certificates) heed(update *authapi.CertificateUpdate) {
	if update != nil {
		s.pushed.Store(update)
	}
	s.look()
}

// look begins a round, after the one under way if there is one.
func (s *Certificates) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case s.asking:
		s.again = true
	default:
		if s.stop != nil {
			s.stop()
		}
		s.asking = s.c.crew.do(s.rounds)
	}
}

// rounds makes one round, and others as long as there is news, and sets the time of the next.
func (s *Certificates) rounds() {
	for more := true; more; {
		wait, err := s.round()
		s.mu.Lock()
		s.failure = err
		if err == nil {
			s.failed = 0
		} else if !s.over {
			wait = max(RetryAfter(err), s.pause())
			s.failed++
			s.c.cfg.Logger.Warn("certificates: trying again", "broker", s.c.cfg.Broker, "type", s.cfg.Type, "wait", wait, "err", err)
		}
		switch more, s.again = s.again && !s.over, false; {
		case more:
		case s.over:
			close(s.done)
		default:
			s.asking, s.stop = false, s.c.cfg.AfterFunc(wait, s.look)
		}
		s.mu.Unlock()
	}
}

// shut lets no further round begin, and breaks off the one under way.
func (s *Certificates) shut() {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if s.over = true; !s.asking {
		close(s.done)
	}
	if s.stop != nil {
		s.stop()
	}
}

// pause grows with the failures, spread so that brokers do not ask in step. s.mu is held.
func (s *Certificates) pause() time.Duration {
	most := min(certificatePauseMin<<min(s.failed, 16), certificatePauseMax)
	return most/2 + time.Duration(s.c.cfg.Jitter()*float64(most/2))
}

// round takes what was pushed, asks, and takes what is answered, until what is in use is
// what Gatehouse says, and Gatehouse has heard so. It returns when to ask again.
func (s *Certificates) round() (time.Duration, error) {
	const turnsMax = 8 // more is due only if a new one comes with each question
	for range turnsMax {
		if update := s.pushed.Swap(nil); update != nil {
			if err := s.take(*update); err != nil {
				return 0, err
			}
		}
		held := s.held()
		answer, err := s.ask(held)
		if err != nil {
			return 0, err
		}
		if s.pushed.Load() != nil {
			continue // it may be later than the answer
		}
		if err := s.take(answer.CertificateUpdate); err != nil {
			return 0, err
		}
		if s.held() == held {
			return min(time.Duration(min(answer.AskAgainSeconds, 1<<20))*time.Second, certificateAskMax), nil
		}
	}
	return certificatePauseMin, nil
}

func (s *Certificates) held() string {
	if c := s.current.Load(); c != nil {
		return c.Serial
	}
	return ""
}

func (s *Certificates) ask(held string) (authapi.CertificatesReply, error) {
	q := authapi.CertificatesRequest{
		CertificateOptions:        authapi.CertificateOptions{CertificateType: s.cfg.Type},
		CertificateSigningRequest: s.request, Held: held,
	}
	return askWithin(s.ctx, s.c, authapi.OpCertificates, q, authapi.ParseCertificatesReply, certificateTimeout)
}

// take puts update to work, unless that is what is in use.
func (s *Certificates) take(update authapi.CertificateUpdate) error {
	if c := s.current.Load(); c != nil && same(c.update, update) {
		return nil
	}
	next, err := s.read(update)
	if err != nil {
		return fmt.Errorf("certificates: %w: what Gatehouse sent cannot be used: %w", ErrUnavailable, err)
	}
	if s.cfg.Install != nil {
		if err := s.cfg.Install(s.ctx, next); err != nil {
			return fmt.Errorf("certificates: install %s: %w", next.Serial, err)
		}
	}
	s.current.Store(next)
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.c.cfg.Logger.Info("certificate in use", "broker", s.c.cfg.Broker, "type", s.cfg.Type, "serial", next.Serial, "notAfter", next.Leaf.NotAfter)
	return nil
}

func same(a, b authapi.CertificateUpdate) bool {
	return a.Certificate == b.Certificate && slices.Equal(a.CACertificates, b.CACertificates) && slices.Equal(a.TrustBundle, b.TrustBundle)
}

// read makes a Certificate of update, if its parts belong together and to our key. Its
// dates are not judged: the daemon knows the time better than a device without a clock.
func (s *Certificates) read(update authapi.CertificateUpdate) (*Certificate, error) {
	if update.CertificateType != s.cfg.Type {
		return nil, fmt.Errorf("a %s certificate", update.CertificateType)
	}
	leaf, err := readOne(update.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	public, ok := s.cfg.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(leaf.PublicKey):
		return nil, errors.New("the certificate is for another key")
	case fmt.Sprintf("%040x", leaf.SerialNumber) != update.SerialNumber:
		return nil, errors.New("the certificate has another serial number")
	}
	c := &Certificate{
		Certificate: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: s.cfg.Key, Leaf: leaf}, Serial: update.SerialNumber, update: update,
	}
	below := leaf
	for i, text := range update.CACertificates {
		authority, err := readOne(text)
		if err != nil {
			return nil, fmt.Errorf("caCertificates, %d: %w", i, err)
		}
		if err := below.CheckSignatureFrom(authority); err != nil {
			return nil, fmt.Errorf("caCertificates, %d: not the issuer of the one before: %w", i, err)
		}
		c.Certificate.Certificate = append(c.Certificate.Certificate, authority.Raw)
		below = authority
	}
	for i, text := range update.TrustBundle {
		if _, err := readOne(text); err != nil {
			return nil, fmt.Errorf("trustBundle, %d: %w", i, err)
		}
	}
	c.CertificatePEM = []byte(update.Certificate + strings.Join(update.CACertificates, ""))
	c.TrustPEM = []byte(strings.Join(update.TrustBundle, ""))
	return c, nil
}

// readOne reads one certificate in PEM, and nothing else.
func readOne(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 || !strings.HasPrefix(text, "-----BEGIN ") {
		return nil, errors.New("want one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
