package tokenexchange

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// refusal is why a request gets no credentials.
type refusal struct {
	status        int
	reason        string // for metrics
	code, message string
}

// The reasons of refusals, as metrics count them.
const (
	refusedRequest = "request" // it is not what an SDK sends
	refusedOrigin  = "origin"  // it comes through a browser or a proxy, or by another name
	refusedToken   = "token"   // no token, or nobody's
	refusedUser    = "user"    // another user's program shows it
	refusedRate    = "rate"
)

// RefusalReasons lists the values that Refusals counts by.
func RefusalReasons() []string {
	return []string{refusedRequest, refusedOrigin, refusedToken, refusedUser, refusedRate}
}

func refuse(status int, reason, code, format string, args ...any) *refusal {
	return &refusal{status, reason, code, fmt.Sprintf(format, args...)}
}

// foreign are headers that no SDK sends, but browsers and proxies do (reliability spec 4.7).
var foreign = []string{"Origin", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip"}

// judge finds the consumer that asks. If a token was right, it is returned with a refusal, too.
func (s *Server) judge(r *http.Request) (*served, *refusal) {
	if why := s.judgeForm(r); why != nil {
		return nil, why
	}
	now := s.cfg.Clock.Boot()
	given := r.Header.Values("Authorization")
	if len(given) != 1 {
		return nil, refuse(http.StatusForbidden, refusedToken, "MissingToken", "one Authorization header with the consumer's token is needed: is %s set?", VariableToken)
	}
	consumer := s.find(given[0])
	if consumer == nil {
		if !s.strangers.take(now) {
			return nil, refuse(http.StatusTooManyRequests, refusedRate, "TooManyRequests", "too many requests without a consumer's token")
		}
		return nil, refuse(http.StatusForbidden, refusedToken, "InvalidToken", "the token is no consumer's: if Gatehouse was set up anew, start this program anew with `gatehouse run`")
	}
	if why := s.judgeUser(r, consumer); why != nil {
		return consumer, why
	}
	if !consumer.rate.take(now) {
		return consumer, refuse(http.StatusTooManyRequests, refusedRate, "TooManyRequests", "consumer %s asks more than %d times a second", consumer.Name, ratePerSecond)
	}
	return consumer, nil
}

// judgeForm lets through what an SDK sends, and nothing else.
func (s *Server) judgeForm(r *http.Request) *refusal {
	for _, name := range foreign {
		if _, there := r.Header[name]; there {
			return refuse(http.StatusForbidden, refusedOrigin, "Forbidden", "a request with %s: credentials are not for browsers, nor through proxies", name)
		}
	}
	switch {
	case r.Host != "localhost:"+s.port && r.Host != "127.0.0.1:"+s.port:
		return refuse(http.StatusForbidden, refusedOrigin, "Forbidden", "ask at localhost or 127.0.0.1, with the port")
	case headerBytes(r) > headerBytesMax:
		return refuse(http.StatusRequestHeaderFieldsTooLarge, refusedRequest, "HeadersTooLarge", "more than %d bytes of headers", headerBytesMax)
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, refusedRequest, "MethodNotAllowed", "credentials are got by GET")
	case r.RequestURI != Path:
		return refuse(http.StatusBadRequest, refusedRequest, "BadRequest", "there is nothing but %s", Path)
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refuse(http.StatusBadRequest, refusedRequest, "BadRequest", "a request for credentials has no body")
	}
	return nil
}

func headerBytes(r *http.Request) int {
	sum := len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			sum += len(name) + len(v) + len(": \r\n")
		}
	}
	return sum
}

// find compares with every consumer's token, in a time that tells nothing about them.
func (s *Server) find(token string) *served {
	shown := sha256.Sum256([]byte(token))
	var found *served
	for _, c := range s.consumers {
		if subtle.ConstantTimeCompare(shown[:], c.digest[:]) == 1 {
			found = c
		}
	}
	return found
}

// judgeUser refuses another user's program, whatever it shows.
func (s *Server) judgeUser(r *http.Request, c *served) *refusal {
	if c.AnyUser {
		return nil
	}
	conn, ok := r.Context().Value(peerKey{}).(*peerConn)
	if !ok || conn.err != nil {
		var err error
		if ok {
			err = conn.err
		}
		return refuse(http.StatusForbidden, refusedUser, "AccessDenied", "nobody can tell whose program this is: %v", err)
	}
	if conn.uid != c.UID {
		return refuse(http.StatusForbidden, refusedUser, "AccessDenied", "the token is for programs of user %d; this one is of user %d", c.UID, conn.uid)
	}
	return nil
}

// bucket holds a second's worth of requests. The zero value is full.
type bucket struct {
	mu    sync.Mutex
	spent float64       // guarded by mu, as the next
	at    time.Duration // of the last look
}

// take takes one request out, if there is one.
func (b *bucket) take(now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-ratePerSecond*(now-b.at).Seconds())
	b.at = now
	if b.spent > ratePerSecond-1 {
		return false
	}
	b.spent++
	return true
}
