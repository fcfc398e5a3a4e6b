package cloudsync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// answerBytesMax bounds the body of an answer; an honest one has under 200 bytes.
const answerBytesMax = 1 << 20

// detailBytesMax is the bound of CloudAnswer.Detail.
const detailBytesMax = 256

// The error names that are the cloud's "no" about the device (cloud spec 1.5). Every
// other name says something about the core, the cloud or the moment.
const (
	errValidation = "ValidationException"
	errNotFound   = "ResourceNotFoundException"
)

// parseAnswer judges one complete HTTP answer to q. It confirms only what is a
// well-formed 2xx answer of the service that agrees with the question, and denies only
// on the two error names that say so; all else is silence.
func parseAnswer(q messages.CloudQuestion, status int, header http.Header, body []byte) messages.CloudAnswer {
	if status >= 300 && status <= 399 {
		return silent("HTTP %d redirects to %.80q: not followed; set the endpoint to the right host, or pass the captive portal", status, header.Get("Location"))
	}
	// No encoding was asked for. Unpacking one anyway would let a small answer grow
	// without bound.
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return silent("HTTP %d in encoding %.20q, which was not asked for: something stands between the core and the cloud", status, encoding)
	}
	fields, err := answerFields(header, body)
	if err != nil {
		return silent("HTTP %d is no answer of the service (%v): check the endpoint, and for a proxy or captive portal", status, err)
	}
	errorType, err := errorTypeOf(header, fields)
	if err != nil {
		return silent("HTTP %d is no answer of the service: %v", status, err)
	}
	var answer messages.CloudAnswer
	switch {
	case status >= 200 && status <= 299 && errorType != "":
		answer = silent("HTTP %d with error %.60q: contradicts itself", status, errorType)
	case status >= 200 && status <= 299:
		answer = judgeSuccess(q, status, fields)
	default:
		answer = judgeError(status, errorType, fields, header)
	}
	answer.Date = dateOf(header)
	return answer
}

// judgeSuccess checks that what the answer says about certificate and thing, if it says
// it, is what was asked.
func judgeSuccess(q messages.CloudQuestion, status int, fields []field) messages.CloudAnswer {
	if fields == nil {
		return silent("HTTP %d without a JSON body: not an answer", status)
	}
	for _, f := range fields {
		want := ""
		switch {
		case strings.EqualFold(f.name, "clientDeviceCertificateId"):
			want = string(q.Certificate)
		case strings.EqualFold(f.name, "clientDeviceThingName"):
			want = string(q.Thing)
		default:
			continue // unknown members are ignored, as AWS's own clients do
		}
		var got *string
		if err := json.Unmarshal(f.value, &got); err != nil {
			return silent("HTTP %d: %s is not a text: not an answer", status, f.name)
		}
		if got != nil && *got != want {
			return silent("HTTP %d answers for %s %.70q, not for %.70q", status, f.name, *got, want)
		}
	}
	return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: fmt.Sprintf("confirmed (HTTP %d)", status)}
}

func judgeError(status int, errorType string, fields []field, header http.Header) messages.CloudAnswer {
	message := messageOf(fields)
	if (errorType == errValidation || errorType == errNotFound) && status >= 400 && status <= 499 {
		return messages.CloudAnswer{
			Verdict: messages.CloudDenied,
			Detail:  detail("HTTP %d %s: %.120q", status, errorType, message),
		}
	}
	what := fmt.Sprintf("HTTP %d %.60q", status, errorType)
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized || errorType == "AccessDeniedException":
		return silent("%s: the core itself is refused: its certificate needs a policy that allows greengrass:*, and the account a service role", what)
	case status == http.StatusTooManyRequests || strings.HasPrefix(errorType, "Throttling"):
		return silent("%s: throttled, Retry-After %.12q: lower maxConcurrentCloudRequests or raise the quota", what, header.Get("Retry-After"))
	case status >= 500:
		return silent("%s: the cloud failed; nothing to do but wait: %.80q", what, message)
	default:
		return silent("%s: unexpected: check the endpoint and the operation's path: %.80q", what, message)
	}
}

// field is one member of the answer's top-level object. Members are kept in order and
// with repeats, so that no decoder's choice among them decides.
type field struct {
	name  string
	value json.RawMessage
}

// answerFields reads the answer's JSON object: nil and no error for an empty body.
func answerFields(header http.Header, body []byte) ([]field, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !isJSON(header.Get("Content-Type")) {
		return nil, fmt.Errorf("content type %.40q, want JSON", header.Get("Content-Type"))
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, errors.New("malformed JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("JSON, but no object")
	}
	fields := []field{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errors.New("malformed JSON")
		}
		var f field
		f.name, _ = name.(string)
		if err := decoder.Decode(&f.value); err != nil {
			return nil, errors.New("malformed JSON")
		}
		fields = append(fields, f)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("malformed JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return fields, nil
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasPrefix(media, "application/x-amz-json-"))
}

// errorTypeOf finds the error's name where AWS's clients look for it: in the header
// first, else in the body (cloud spec 1.4). A namespace before '#' and anything after
// ':' are dropped.
func errorTypeOf(header http.Header, fields []field) (string, error) {
	if given := header.Values("X-Amzn-ErrorType"); len(given) > 0 {
		for _, other := range given[1:] {
			if bareErrorType(other) != bareErrorType(given[0]) {
				return "", errors.New("two different X-Amzn-ErrorType headers")
			}
		}
		if bare := bareErrorType(given[0]); bare != "" {
			return bare, nil
		}
	}
	for _, name := range []string{"code", "__type"} {
		if text := textOf(fields, name); text != "" {
			return bareErrorType(text), nil
		}
	}
	return "", nil
}

func bareErrorType(s string) string {
	s, _, _ = strings.Cut(s, ":")
	if i := strings.LastIndexByte(s, '#'); i >= 0 {
		s = s[i+1:]
	}
	return strings.TrimSpace(s)
}

func messageOf(fields []field) string {
	for _, name := range []string{"message", "Message", "errorMessage"} {
		if text := textOf(fields, name); text != "" {
			return text
		}
	}
	return ""
}

func textOf(fields []field, name string) string {
	for _, f := range fields {
		var text string
		if f.name == name && json.Unmarshal(f.value, &text) == nil && text != "" {
			return text
		}
	}
	return ""
}

// dateOf reads the server's own time; zero if it does not say.
func dateOf(header http.Header) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date.UTC()
}

func silent(format string, args ...any) messages.CloudAnswer {
	return messages.CloudAnswer{Verdict: messages.CloudSilent, Detail: detail(format, args...)}
}

// detail formats a text for the audit trail: one printable line within its bound.
func detail(format string, args ...any) string {
	s := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '.'
		}
		return r
	}, fmt.Sprintf(format, args...))
	if len(s) <= detailBytesMax {
		return s
	}
	s = s[:detailBytesMax-len("…")]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
