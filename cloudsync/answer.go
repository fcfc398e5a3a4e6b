package cloudsync

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// The error names that are the cloud's "no" about the device (cloud spec 1.5). Every
// other name says something about the core, the cloud or the moment.
const (
	errValidation = "ValidationException"
	errNotFound   = "ResourceNotFoundException"
)

// parseAnswer judges one complete HTTP answer to q. It confirms only what is a
// well-formed 2xx answer of the service that agrees with the question, and denies only
// on the two error names that say so, with a status that goes with them; all else is
// silence. Only what the service itself said has a date.
func parseAnswer(q messages.CloudQuestion, status int, header http.Header, body []byte) messages.CloudAnswer {
	answer := judgeAnswer(q, status, header, body)
	if answer.Failure != messages.FailureNotService && wire.FromService(status, header) {
		answer.Date = wire.Date(header)
	}
	return answer
}

func judgeAnswer(q messages.CloudQuestion, status int, header http.Header, body []byte) messages.CloudAnswer {
	if status >= 300 && status <= 399 {
		return notService("HTTP %d redirects to %.80q: not followed; set the endpoint to the right host, or pass the captive portal", status, header.Get("Location"))
	}
	if wire.Packed(header) {
		return notService("HTTP %d in encoding %.20q, which was not asked for: something stands between the core and the cloud", status, header.Get("Content-Encoding"))
	}
	fields, err := wire.Fields(header, body)
	if err != nil {
		return notService("HTTP %d is no answer of the service (%v): check the endpoint, and for a proxy or captive portal", status, err)
	}
	errorType, err := errorTypeOf(header, fields)
	if err != nil {
		return notService("HTTP %d is no answer of the service: %v", status, err)
	}
	switch {
	case status >= 200 && status <= 299 && errorType != "":
		return notService("HTTP %d with error %.60q: contradicts itself", status, errorType)
	case status >= 200 && status <= 299:
		return judgeSuccess(q, status, fields)
	default:
		return judgeError(status, errorType, fields, header)
	}
}

func notService(format string, args ...any) messages.CloudAnswer {
	return wire.Silent(messages.FailureNotService, format, args...)
}

// judgeSuccess checks that what the answer says about certificate and thing, if it says
// it, is what was asked.
func judgeSuccess(q messages.CloudQuestion, status int, fields []wire.Field) messages.CloudAnswer {
	if fields == nil {
		return notService("HTTP %d without a JSON body: not an answer", status)
	}
	for _, f := range fields {
		want := ""
		switch {
		case strings.EqualFold(f.Name, "clientDeviceCertificateId"):
			want = string(q.Certificate)
		case strings.EqualFold(f.Name, "clientDeviceThingName"):
			want = string(q.Thing)
		default:
			continue // unknown members are ignored, as AWS's own clients do
		}
		var got *string
		if err := json.Unmarshal(f.Value, &got); err != nil {
			return notService("HTTP %d: %s is not a text: not an answer", status, f.Name)
		}
		if got != nil && *got != want {
			return notService("HTTP %d answers for %s %.70q, not for %.70q", status, f.Name, *got, want)
		}
	}
	return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: fmt.Sprintf("confirmed (HTTP %d)", status)}
}

// judgeError tells the service's no about the device from everything else. The two names
// are a no with the statuses they are modelled with (400 and 404, cloud spec 1.4), either
// with either: with another one the answer contradicts itself, and a 403 is about us.
func judgeError(status int, errorType string, fields []wire.Field, header http.Header) messages.CloudAnswer {
	message := messageOf(fields)
	if (errorType == errValidation || errorType == errNotFound) && (status == http.StatusBadRequest || status == http.StatusNotFound) {
		return messages.CloudAnswer{
			Verdict: messages.CloudDenied,
			Detail:  wire.Detail("HTTP %d %s: %.120q", status, errorType, message),
		}
	}
	class := wire.ClassOf(status, errorType)
	what := fmt.Sprintf("HTTP %d %.60q", status, errorType)
	var answer messages.CloudAnswer
	switch class {
	case messages.FailureRefused:
		answer = wire.Silent(class, "%s: the core itself is refused: its certificate needs a policy that allows greengrass:*, and the account a service role", what)
	case messages.FailureThrottled:
		answer = wire.Silent(class, "%s: throttled, Retry-After %.12q: lower maxConcurrentCloudRequests or raise the quota", what, header.Get("Retry-After"))
	case messages.FailureServer:
		answer = wire.Silent(class, "%s: the cloud failed; nothing to do but wait: %.80q", what, message)
	default:
		answer = wire.Silent(class, "%s: unexpected: check the endpoint and the operation's path: %.80q", what, message)
	}
	answer.RetryAfter = wire.RetryAfter(header)
	return answer
}

// errorTypeOf finds the error's name where AWS's clients look for it: in the header
// first, else in the body (cloud spec 1.4).
func errorTypeOf(header http.Header, fields []wire.Field) (string, error) {
	if name, err := wire.ErrorName(header); err != nil || name != "" {
		return name, err
	}
	for _, name := range []string{"code", "__type"} {
		if text := textOf(fields, name); text != "" {
			return wire.BareErrorName(text), nil
		}
	}
	return "", nil
}

func messageOf(fields []wire.Field) string {
	for _, name := range []string{"message", "Message", "errorMessage"} {
		if text := textOf(fields, name); text != "" {
			return text
		}
	}
	return ""
}

func textOf(fields []wire.Field, name string) string {
	for _, f := range fields {
		var text string
		if f.Name == name && json.Unmarshal(f.Value, &text) == nil && text != "" {
			return text
		}
	}
	return ""
}
