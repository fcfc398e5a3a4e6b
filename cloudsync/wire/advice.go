package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Explain says of what kind a failed exchange is, and in a sentence what to do. host is
// the endpoint's, timeout the bound of one exchange.
func Explain(err error, host string, timeout time.Duration) (messages.CloudFailure, string) {
	class := messages.FailureUnreachable
	switch {
	case errors.Is(err, context.Canceled):
		class = messages.FailureNotAsked
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrHalf) && !isTimeout(err):
		class = messages.FailureNotService
	}
	return class, adviceFor(err, host, timeout)
}

func isTimeout(err error) bool {
	timedOut, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && timedOut.Timeout()
}

func adviceFor(err error, host string, timeout time.Duration) string {
	var (
		wrapped    *url.Error
		unverified *tls.CertificateVerificationError
		op         *net.OpError
		record     tls.RecordHeaderError
		dns        *net.DNSError
	)
	if errors.As(err, &wrapped) {
		err = wrapped.Err // drops method and URL, which the reader knows
	}
	switch {
	case errors.As(err, &unverified):
		return adviceForCertificate(unverified, host)
	case errors.Is(err, context.Canceled):
		return "the question was given up before the cloud answered"
	case isTimeout(err):
		return fmt.Sprintf("no answer of %s within %v: check the network, or raise the timeout", host, timeout)
	case errors.Is(err, ErrTooLarge):
		return fmt.Sprintf("%v from %s: not the service; check the endpoint, and for a proxy or captive portal", ErrTooLarge, host)
	case errors.As(err, &dns):
		return fmt.Sprintf("the name of %s is not found: check the endpoint and DNS", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection to %s refused: check the endpoint's port and firewall", host)
	case errors.As(err, &op) && op.Op == "remote error": // an alert; crypto/tls keeps its type to itself
		return fmt.Sprintf("%s refused the TLS handshake (%v): check the core's certificate, its key and the endpoint", host, op.Err)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS: check the endpoint's port", host)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s closed the connection without a full answer; AWS does so when the core's certificate is not registered and active: check it in AWS IoT", host)
	default:
		return fmt.Sprintf("%s cannot be asked: %v", host, err)
	}
}

func adviceForCertificate(err *tls.CertificateVerificationError, host string) string {
	var (
		unknown  x509.UnknownAuthorityError
		wrong    x509.HostnameError
		invalid  x509.CertificateInvalidError
		distrust = "the certificate of " + host + " is not trusted: "
	)
	switch {
	case errors.As(err, &unknown):
		return distrust + "no given root signed it; check the roots, and whether something intercepts the connection"
	case errors.As(err, &wrong):
		return distrust + "it is for another name; check the endpoint"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return distrust + "it is expired or not yet valid; check this machine's clock, then the endpoint"
	default:
		return distrust + err.Err.Error()
	}
}
