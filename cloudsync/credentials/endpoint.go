package credentials

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// answerBytesMax bounds an endpoint's answer. An honest one has under 2 KiB.
const answerBytesMax = 64 << 10

// endpoint lets through which answers the SDK can read: it crashes on a null, and reads
// without bound.
type endpoint struct{ client aws.HTTPClient }

func (e endpoint) Do(request *http.Request) (*http.Response, error) {
	answer, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax+1))
	if err != nil {
		return nil, err
	}
	if err := check(answer.StatusCode, answer.Header, body); err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// check finds what is no answer of a credentials' endpoint. Its text has nothing of the
// body: that may hold a secret.
func check(status int, header http.Header, body []byte) error {
	if len(body) > answerBytesMax {
		return answerError(fmt.Sprintf("HTTP %d is larger than %d KiB", status, answerBytesMax>>10))
	}
	var keys *struct{ AccessKeyID, SecretAccessKey string } // found in any case, as the SDK does
	err := json.Unmarshal(body, &keys)
	switch {
	case status >= 300 && status <= 399:
		return answerError(fmt.Sprintf("HTTP %d redirects, which is not followed", status))
	case status >= 200 && status <= 299 && (err != nil || keys == nil || keys.AccessKeyID == "" || keys.SecretAccessKey == ""):
		return answerError(fmt.Sprintf("HTTP %d holds no credentials", status))
	case header.Get("Content-Type") == "application/json" && (err != nil || keys == nil):
		return answerError(fmt.Sprintf("HTTP %d with an error that cannot be read", status))
	}
	return nil
}

// answerError says that an endpoint's answer is none.
type answerError string

func (e answerError) Error() string {
	return "the credentials' endpoint: " + string(e) + ": check AWS_CONTAINER_CREDENTIALS_FULL_URI"
}

// RetryableError implements the SDK's question: the same would answer again.
func (answerError) RetryableError() bool { return false }
