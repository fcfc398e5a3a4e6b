package tokenexchange

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ServerConfig shapes a Server. All but Log and Denied is required.
type ServerConfig struct {
	// Listen is 127.0.0.1 with a port; with port 0 a free one is taken.
	Listen   string
	Exchange *Exchange
	// Consumers are who may have the credentials.
	Consumers []Consumer
	// Own is a folder of the daemon's own, for the tokens; Shared holds the consumers' folders,
	// with the token and the variables for each.
	Own, Shared string
	// Region is what programs are told as theirs.
	Region string
	Clock  Clock
	// Denied hears of who was refused; consumer is "" where the token is nobody's.
	Denied func(consumer, reason string)
	Log    *slog.Logger
	// peerUser says whose program is at the other end. Default: what the kernel says.
	peerUser func(client, server netip.AddrPort) (uid int, err error)
}

// Bounds of the server (reliability spec 4.7).
const (
	headerBytesMax = 4 << 10
	readTimeout    = 2 * time.Second
	writeTimeout   = waitMax + 5*time.Second
	idleTimeout    = 15 * time.Second
	connsMax       = 256
	connsPerUser   = 32
	ratePerSecond  = 10 // a consumer; all who show no consumer's token together
	closeTimeout   = time.Second
)

// Server hands out credentials at a loopback address, as AWS's SDKs ask for them.
type Server struct {
	cfg       ServerConfig
	listener  *counted
	http      *http.Server
	port      string
	consumers []*served
	strangers bucket
	serving   sync.WaitGroup

	mu       sync.Mutex
	refusals map[string]uint64 // guarded by mu: by reason
}

// served is one consumer as the server knows it.
type served struct {
	Consumer
	digest digest
	rate   bucket
}

// Serve makes the consumers' tokens and files, and serves them. Close it.
func Serve(cfg ServerConfig) (*Server, error) {
	if cfg.Exchange == nil || cfg.Clock == nil || cfg.Own == "" || cfg.Shared == "" {
		return nil, errors.New("token exchange: no exchange, clock or folders given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.peerUser == nil {
		cfg.peerUser = peerUser
	}
	if err := CheckListen(cfg.Listen); err != nil {
		return nil, err
	}
	vault, err := openVault(cfg.Own, cfg.Shared, cfg.Consumers)
	if err != nil {
		return nil, fmt.Errorf("token exchange: %w", err)
	}
	if err := vault.retain(cfg.Consumers); err != nil {
		return nil, fmt.Errorf("token exchange: %w", err)
	}
	listener, err := net.Listen("tcp4", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("token exchange: %w", err)
	}
	s := &Server{cfg: cfg, refusals: map[string]uint64{}}
	s.listener = &counted{Listener: listener, server: s, of: map[int]int{}}
	_, s.port, _ = net.SplitHostPort(listener.Addr().String())
	for _, c := range cfg.Consumers {
		if err := s.admit(vault, c); err != nil {
			_ = listener.Close()
			return nil, fmt.Errorf("token exchange: consumer %s: %w", c.Name, err)
		}
	}
	if err := peersKnown(); err != nil && slices.ContainsFunc(cfg.Consumers, func(c Consumer) bool { return !c.AnyUser }) {
		cfg.Log.Error("programs of consumers are refused: nobody can tell users apart", "error", err, "hint", "let the daemon see /proc/net (systemd: ProcSubset=all), or set anyUser for the consumers")
	}
	s.serve()
	return s, nil
}

// CheckListen refuses an address that is not 127.0.0.1 itself: a name may be looked up to
// another, and old SDKs know no other of this machine (cloud spec 3.2).
func CheckListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host != "127.0.0.1" {
		return fmt.Errorf("listen %.80q: want 127.0.0.1 with a port, such as 127.0.0.1:0 for a free one: credentials are for this machine alone", listen)
	}
	return nil
}

func (s *Server) admit(v *vault, c Consumer) error {
	if err := CheckConsumerName(c.Name); err != nil {
		return err
	}
	token, err := v.token(c.Name)
	if err != nil {
		return err
	}
	file := filepath.Join(v.shared, c.Name, tokenFile)
	environment := []string{VariableURI + "=" + s.URL(), VariableToken + "=" + token, VariableTokenFile + "=" + file}
	if s.cfg.Region != "" {
		environment = append(environment, VariableRegion+"="+s.cfg.Region, VariableRegionOld+"="+s.cfg.Region)
	}
	s.consumers = append(s.consumers, &served{Consumer: c, digest: sha256.Sum256([]byte(token))})
	err = v.give(c, token, environment)
	if err == nil || errors.Is(err, errNeedsRoot) {
		return err
	}
	// Its user may put anything in the way there, and must not keep the daemon from starting.
	s.cfg.Log.Error("a consumer's token is not in its folder", "consumer", c.Name, "error", err, "hint", "see what is in the folder, and start Gatehouse anew")
	return nil
}

func (s *Server) serve() {
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.answer), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerBytesMax,
		ErrorLog:       slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, conn)
		},
	}
	s.serving.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("token exchange ended", "error", err)
		}
	})
}

// URL is what AWS_CONTAINER_CREDENTIALS_FULL_URI is to be. It names no localhost, as the
// reference does: where that is looked up as ::1 first, another user could listen there, and
// answer with credentials of its own.
func (s *Server) URL() string { return "http://127.0.0.1:" + s.port + Path }

// Close refuses new callers, waits a moment for the others, and returns when all are gone.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	s.serving.Wait()
	s.listener.wait()
}

// answerBody is what SDKs read (cloud spec 3.1).
type answerBody struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
}

// errorBody is what SDKs show, if its content type is application/json and nothing else.
type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	consumer, refused := s.judge(r)
	if refused != nil {
		s.refuse(w, consumer, refused)
		return
	}
	// All was read; from here on the deadline of reading would break off who waits.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	credentials, err := s.cfg.Exchange.HandOut(r.Context(), consumer.Name)
	if err != nil {
		failure, ok := errors.AsType[*Failure](err)
		if !ok {
			failure = &Failure{Status: http.StatusServiceUnavailable, Code: CodeUnavailable, Message: err.Error()}
		}
		respondJSON(w, failure.LocalStatus(), errorBody{failure.Code, failure.Message})
		return
	}
	respondJSON(w, http.StatusOK, answerBody{
		credentials.AccessKeyID, credentials.SecretAccessKey.Reveal(), credentials.SessionToken.Reveal(), credentials.Expiration.UTC().Format(time.RFC3339),
	})
}

func (s *Server) refuse(w http.ResponseWriter, consumer *served, why *refusal) {
	s.mu.Lock()
	s.refusals[why.reason]++
	s.mu.Unlock()
	if s.cfg.Denied != nil {
		name := ""
		if consumer != nil {
			name = consumer.Name
		}
		s.cfg.Denied(name, why.message)
	}
	if why.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	if why.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Connection", "close")
	respondJSON(w, why.status, errorBody{why.code, why.message})
}

func respondJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic("token exchange: an answer cannot be printed") // strings alone; and err might hold one
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the caller went away
}

// Refusals counts who was refused since the start, by reason: of RefusalReasons.
func (s *Server) Refusals() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]uint64{}
	for _, reason := range RefusalReasons() {
		counts[reason] = s.refusals[reason]
	}
	return counts
}
