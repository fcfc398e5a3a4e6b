package wire

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// DetailBytesMax is the bound of messages.CloudAnswer.Detail and its like.
const DetailBytesMax = 256

// retryAfterMax is the longest wait a service is believed to ask for.
const retryAfterMax = 24 * time.Hour

// Names of errors that say more than their status (cloud spec 1.4 and 7, 10): IoT throttles
// with status 400, and signatures and tokens are refused with 400, 401 or 403.
var classOfName = func() map[string]messages.CloudFailure {
	classes := map[string]messages.CloudFailure{}
	for class, names := range map[messages.CloudFailure]string{
		messages.FailureThrottled: "ThrottlingException Throttling ThrottledException RequestThrottled RequestThrottledException TooManyRequestsException " +
			"RequestLimitExceeded LimitExceededException ServiceQuotaExceededException SlowDown",
		messages.FailureRefused: "AccessDeniedException AccessDenied UnauthorizedException NotAuthorizedException ForbiddenException OptInRequired " +
			"MissingAuthenticationTokenException IncompleteSignatureException InvalidSignatureException SignatureDoesNotMatch " +
			"UnrecognizedClientException InvalidClientTokenId ExpiredToken ExpiredTokenException RequestExpired RequestTimeTooSkewed",
		messages.FailureServer: "InternalServerException InternalServerError InternalFailure InternalFailureException ServiceUnavailable " +
			"ServiceUnavailableException RequestTimeout RequestTimeoutException RequestAlreadyInProgressException",
	} {
		for name := range strings.FieldsSeq(names) {
			classes[name] = class
		}
	}
	return classes
}()

// ClassOf says what kind of failure an error answer of status is that names its error
// name, "" if it names none (cloud spec 1.5). A name counts more than a status.
func ClassOf(status int, name string) messages.CloudFailure {
	if class, known := classOfName[name]; known {
		return class
	}
	switch {
	case status == http.StatusTooManyRequests:
		return messages.FailureThrottled
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return messages.FailureRefused
	case status >= 500, name != "":
		return messages.FailureServer // or a word of the service that is of no use here
	default:
		return messages.FailureNotService // the service names its errors
	}
}

// RetryAfter is how long the service wants to be left alone: seconds, or a moment, which
// is taken beside the service's own time. 0: it does not say.
func RetryAfter(header http.Header) time.Duration {
	given := strings.TrimSpace(header.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseUint(given, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if until, err := http.ParseTime(given); err == nil && !Date(header).IsZero() {
		wait = until.Sub(Date(header))
	}
	return min(max(wait, 0), retryAfterMax)
}

// Date is the server's own time; zero if it does not say.
func Date(header http.Header) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date.UTC()
}

// FromService says whether an answer can be AWS's at all: any JSON, or an empty answer
// that carries AWS's request id or error name. A captive portal's page is neither.
func FromService(status int, header http.Header) bool {
	if status >= 300 && status <= 399 {
		return false
	}
	return IsJSON(header.Get("Content-Type")) || header.Get("X-Amzn-RequestId") != "" || header.Get("X-Amzn-ErrorType") != ""
}

// ErrorName is the name of the error in an answer's header, without a namespace before '#'
// and anything after ':' (cloud spec 1.4); "" if there is none. An error means that the
// header names two.
func ErrorName(header http.Header) (string, error) {
	name := ""
	for i, given := range header.Values("X-Amzn-ErrorType") {
		if bare := BareErrorName(given); i == 0 {
			name = bare
		} else if bare != name {
			return "", errors.New("two different X-Amzn-ErrorType headers")
		}
	}
	return name, nil
}

// BareErrorName is what ErrorName returns of one text.
func BareErrorName(s string) string {
	s, _, _ = strings.Cut(s, ":")
	if i := strings.LastIndexByte(s, '#'); i >= 0 {
		s = s[i+1:]
	}
	return strings.TrimSpace(s)
}

// Packed says whether an answer has an encoding. None was asked for, and unpacking one
// anyway would let a small answer grow without bound.
func Packed(header http.Header) bool {
	encoding := header.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// IsJSON says whether a content type is JSON, in one of AWS's spellings.
func IsJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasPrefix(media, "application/x-amz-json-"))
}

// Silent is the answer for want of one.
func Silent(why messages.CloudFailure, format string, args ...any) messages.CloudAnswer {
	return messages.CloudAnswer{Verdict: messages.CloudSilent, Failure: why, Detail: Detail(format, args...)}
}

// Detail formats a text for the audit trail: one printable line within its bound.
func Detail(format string, args ...any) string {
	s := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, fmt.Sprintf(format, args...))
	if len(s) <= DetailBytesMax {
		return s
	}
	s = s[:DetailBytesMax-len("…")]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
