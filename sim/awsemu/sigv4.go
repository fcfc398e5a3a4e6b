package awsemu

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AWS Signature Version 4 as a server checks it (cloud spec 7.1 to 7.11). Nothing is
// taken for granted that was not signed: what decides must be in the signature.
const (
	sigAlgorithm       = "AWS4-HMAC-SHA256"
	sigTerminator      = "aws4_request"
	sigDateFormat      = "20060102T150405Z"
	sigSkewMax         = 5 * time.Minute
	sigHeaderBytesMax  = 8 << 10
	sigSignedHeaderMax = 100
)

// authorization is a parsed Authorization header.
type authorization struct {
	accessKey     string
	date          string   // of the scope: YYYYMMDD
	region        string   // of the scope
	service       string   // of the scope
	terminator    string   // of the scope
	signedHeaders []string // lower case, ascending, each once
	signature     string   // lower-case hex
}

// scope is what the signing key is derived for.
func (a *authorization) scope() string {
	return a.date + "/" + a.region + "/" + a.service + "/" + a.terminator
}

func incomplete(message string) *apiError {
	return &apiError{status: http.StatusForbidden, name: "IncompleteSignatureException", message: message}
}

func invalidSignature(message string) *apiError {
	return &apiError{status: http.StatusForbidden, name: "InvalidSignatureException", message: message}
}

// parseAuthorization reads the one Authorization header of a request, strictly: each of
// the three parameters once, nothing else.
func parseAuthorization(given []string) (*authorization, *apiError) {
	if len(given) == 0 || strings.TrimSpace(given[0]) == "" {
		return nil, &apiError{status: http.StatusForbidden, name: "MissingAuthenticationTokenException", message: "Missing Authentication Token"}
	}
	header := strings.TrimSpace(given[0])
	algorithm, parameters, _ := strings.Cut(header, " ")
	switch {
	case len(given) > 1 || len(header) > sigHeaderBytesMax:
		return nil, incomplete(fmt.Sprintf("One Authorization header of at most %d bytes is accepted.", sigHeaderBytesMax))
	case algorithm != sigAlgorithm:
		return nil, incomplete("Unsupported AWS 'algorithm': only " + sigAlgorithm + " is.")
	}
	values := map[string]string{}
	for parameter := range strings.SplitSeq(parameters, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(parameter), "=")
		if _, twice := values[name]; !ok || twice || !slices.Contains([]string{"Credential", "SignedHeaders", "Signature"}, name) {
			return nil, incomplete("Authorization header holds something else than Credential, SignedHeaders and Signature, each once, as name=value.")
		}
		values[name] = value
	}
	missing := ""
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if values[name] == "" {
			missing += "Authorization header requires '" + name + "' parameter. "
		}
	}
	if missing != "" {
		return nil, incomplete(strings.TrimSpace(missing))
	}
	return readParameters(values)
}

func readParameters(values map[string]string) (*authorization, *apiError) {
	credential := strings.Split(values["Credential"], "/")
	if len(credential) != 5 || slices.Contains(credential, "") {
		return nil, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	a := &authorization{
		accessKey: credential[0], date: credential[1], region: credential[2], service: credential[3], terminator: credential[4],
		signedHeaders: strings.Split(values["SignedHeaders"], ";"), signature: values["Signature"],
	}
	if len(a.signedHeaders) > sigSignedHeaderMax {
		return nil, incomplete(fmt.Sprintf("At most %d headers can be signed.", sigSignedHeaderMax))
	}
	for i, name := range a.signedHeaders {
		if !isHeaderName(name) || i > 0 && a.signedHeaders[i-1] >= name {
			return nil, incomplete("SignedHeaders must be lower-case header names in ascending order, each once.")
		}
	}
	if digest, err := hex.DecodeString(a.signature); err != nil || len(digest) != sha256.Size || strings.ToLower(a.signature) != a.signature {
		return nil, incomplete("Signature must be 64 lower-case hex digits.")
	}
	return a, nil
}

// isHeaderName: a lower-case token of RFC 9110, 5.6.2.
func isHeaderName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// checkSigned makes sure that what decides is signed: the host, and every header of
// Amazon's, above all the date and the session token.
func (a *authorization) checkSigned(r *http.Request) *apiError {
	if !slices.Contains(a.signedHeaders, "host") {
		return invalidSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !slices.Contains(a.signedHeaders, name) {
			return invalidSignature(fmt.Sprintf("'%.80s' must be a 'SignedHeader' in the AWS Authorization.", name))
		}
	}
	return nil
}

// checkTime checks X-Amz-Date against the scope and the clock.
func (a *authorization) checkTime(stamp string, now time.Time) *apiError {
	if stamp == "" {
		return incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	at, err := time.Parse(sigDateFormat, stamp)
	if err != nil || len(stamp) != len(sigDateFormat) { // Parse would take fractions
		return incomplete(fmt.Sprintf("Date must be in ISO-8601 'basic format'. Got '%.40s'. See http://en.wikipedia.org/wiki/ISO_8601", stamp))
	}
	if stamp[:len(a.date)] != a.date {
		return invalidSignature(fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", a.date, stamp[:8], stamp))
	}
	now = now.UTC().Truncate(time.Second)
	if oldest := now.Add(-sigSkewMax); at.Before(oldest) {
		return invalidSignature(fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)", stamp, oldest.Format(sigDateFormat), now.Format(sigDateFormat)))
	}
	if newest := now.Add(sigSkewMax); at.After(newest) {
		return invalidSignature(fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)", stamp, newest.Format(sigDateFormat), now.Format(sigDateFormat)))
	}
	return nil
}

// checkScope checks that the credential is for a region of the service's and one of the
// names it is signed for; the first of them is the one that AWS asks for.
func (a *authorization) checkScope(called *service) *apiError {
	switch {
	case len(a.date) != len("20060102"):
		return invalidSignature("Date in Credential scope is not YYYYMMDD.")
	case a.region != Region && (!called.global || a.region != globalRegion):
		return invalidSignature(fmt.Sprintf("Credential should be scoped to a valid region, not '%.40s'. ", a.region))
	case !slices.Contains(called.scopes, a.service):
		return invalidSignature(fmt.Sprintf("Credential should be scoped to correct service: '%s'. ", called.scopes[0]))
	case a.terminator != sigTerminator:
		return invalidSignature(fmt.Sprintf("Credential should be scoped with a valid terminator: '%s', not '%.40s'.", sigTerminator, a.terminator))
	}
	return nil
}

// checkSignature computes the signature and compares it with the given one, in a time
// that does not depend on where they differ.
func (a *authorization) checkSignature(r *http.Request, query url.Values, body []byte, secret string) *apiError {
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if given := r.Header.Get("X-Amz-Content-Sha256"); given != "" && !hmac.Equal([]byte(given), []byte(payload)) {
		return invalidSignature("The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	canonical := canonicalRequest(r, query, a.signedHeaders, payload)
	digest := sha256.Sum256([]byte(canonical))
	text := sigAlgorithm + "\n" + r.Header.Get("X-Amz-Date") + "\n" + a.scope() + "\n" + hex.EncodeToString(digest[:])
	if want := hex.EncodeToString(mac(a.signingKey(secret), text)); !hmac.Equal([]byte(want), []byte(a.signature)) {
		return invalidSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (a *authorization) signingKey(secret string) []byte {
	key := []byte("AWS4" + secret)
	for _, step := range []string{a.date, a.region, a.service, a.terminator} {
		key = mac(key, step)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalRequest is the text that is signed. The path is encoded once more than it was
// sent, as for all services but S3.
func canonicalRequest(r *http.Request, query url.Values, signed []string, payload string) string {
	var b strings.Builder
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.WriteString(r.Method + "\n" + escape(path, "/") + "\n" + canonicalQuery(query) + "\n")
	for _, name := range signed {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + payload)
	return b.String()
}

// headerValue is the canonical value of a header. net/http keeps two of them apart from
// the others.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return strings.TrimSpace(r.Host)
	case "content-length":
		if r.ContentLength < 0 {
			return ""
		}
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header[http.CanonicalHeaderKey(name)])
	for i, v := range values {
		values[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' }), " ")
	}
	return strings.Join(values, ",")
}

// canonicalQuery sorts by encoded name, then by encoded value.
func canonicalQuery(query url.Values) string {
	var pairs [][2]string
	for name, values := range query {
		for _, v := range values {
			pairs = append(pairs, [2]string{escape(name, ""), escape(v, "")})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = p[0] + "=" + p[1]
	}
	return strings.Join(parts, "&")
}

// escape percent-encodes all but RFC 3986's unreserved characters and those in keep.
func escape(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~"+keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

var errQuery = errors.New("the query string is malformed")

// parseQuery reads a query string once, for the signature and for the operation alike:
// unlike url.URL.Query it leaves nothing out.
func parseQuery(raw string) (url.Values, error) {
	query := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, errQuery
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, errQuery
		}
		query.Add(name, value)
	}
	return query, nil
}
