package control

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Failure is why a call of an SDK client failed.
type Failure struct {
	Class      messages.CloudFailure
	Status     int           // of the answer; 0 if there was none
	Name       string        // of the service's error; "" if it named none
	RetryAfter time.Duration // how long the service wants to be left alone; 0: it did not say
	Date       time.Time     // of the service's answer; zero if it was not the service's
	Detail     string        // for people: what, and what to do
}

// Answer is the silence that comes of the failure.
func (f *Failure) Answer() messages.CloudAnswer {
	answer := wire.Silent(f.Class, "%s", f.Detail)
	answer.RetryAfter, answer.Date = f.RetryAfter, f.Date
	return answer
}

// Explain says why a call failed that asked host for action, an IAM action such as
// iot:DescribeCertificate. Credentials that were refused as such are got anew for the next
// call: a role's can be revoked before their time.
func (c *Client) Explain(err error, host, action string) *Failure {
	var (
		api         smithy.APIError
		response    *awshttp.ResponseError
		stranger    *notServiceError
		undecoded   *smithy.DeserializationError
		credentials *credentialsError
	)
	switch {
	case errors.As(err, &credentials):
		// No word of the service: whether it can be reached is not known.
		return &Failure{Class: messages.FailureUnreachable, Detail: fmt.Sprintf("no credentials for %s: check the token exchange, or where cloud.control.credentials come from: %v", action, credentials.error)}
	case errors.As(err, &stranger):
		return &Failure{Class: messages.FailureNotService, Detail: stranger.text}
	case errors.As(err, &undecoded):
		return &Failure{Class: messages.FailureNotService, Detail: fmt.Sprintf("%s gave no answer to %s that can be read: %v", host, action, undecoded.Err)}
	case errors.As(err, &api) && errors.As(err, &response) && response.Response != nil:
		role, signs := c.Credentials.(provider)
		f := ofService(api, response.HTTPStatusCode(), response.Response.Header, action, signs)
		if f.Class == messages.FailureRefused && f.Name != accessDenied && signs {
			role.Invalidate()
		}
		return f
	default:
		class, advice := wire.Explain(err, host, c.Timeout)
		return &Failure{Class: class, Detail: advice}
	}
}

const (
	unnamed      = "UnknownError" // what the SDK calls an error without a name
	accessDenied = "AccessDeniedException"
)

func ofService(api smithy.APIError, status int, header http.Header, action string, signs bool) *Failure {
	name := api.ErrorCode()
	if name == unnamed {
		name = ""
	}
	f := &Failure{Class: wire.ClassOf(status, name), Status: status, Name: name, RetryAfter: wire.RetryAfter(header)}
	if f.Class != messages.FailureNotService && wire.FromService(status, header) {
		f.Date = wire.Date(header)
	}
	what := fmt.Sprintf("HTTP %d %.60q", status, name)
	switch f.Class {
	case messages.FailureRefused:
		advice := "the core itself is refused: allow " + action + " in the policy of its certificate"
		if signs {
			advice = adviceForRefusal(name, action)
		}
		f.Detail = fmt.Sprintf("%s: %s: %.80q", what, advice, api.ErrorMessage())
	case messages.FailureThrottled:
		f.Detail = fmt.Sprintf("%s: %s is throttled, Retry-After %.12q: ask less often, or raise the quota", what, action, header.Get("Retry-After"))
	case messages.FailureServer:
		f.Detail = fmt.Sprintf("%s: the cloud failed at %s; nothing to do but wait: %.80q", what, action, api.ErrorMessage())
	default:
		f.Detail = fmt.Sprintf("%s: unexpected: check the endpoint: %.80q", what, api.ErrorMessage())
	}
	return f
}

// adviceForRefusal tells the refusals of our own credentials apart (cloud spec 7, 10).
// None says anything about a device.
func adviceForRefusal(name, action string) string {
	switch name {
	case "ExpiredToken", "ExpiredTokenException":
		return "the credentials are expired: check the token exchange and this machine's clock"
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed":
		return "the signature is refused: check this machine's clock, cloud.region and the credentials"
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException", "IncompleteSignatureException":
		return "the credentials are not known: check the token exchange and cloud.control"
	default:
		return "the core's role is refused: allow " + action + " in the policy of the token exchange role"
	}
}
