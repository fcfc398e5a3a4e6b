package control

import (
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// CertificateOf is the certificate that a principal stands for, "" if it is none, such as
// an Amazon Cognito identity. What may be one and cannot be read is an error.
func CertificateOf(principal string) (messages.CertificateID, error) {
	arn := strings.SplitN(principal, ":", 6) // arn:aws:iot:region:account:cert/id
	if arn[0] != "arn" {
		return "", nil
	}
	if len(arn) != 6 || arn[2] != "iot" || arn[3] == "" || arn[4] == "" || !strings.HasPrefix(arn[5], "cert/") {
		return "", fmt.Errorf("principal %.100q cannot be read", principal)
	}
	id, err := messages.ParseCertificateID(strings.TrimPrefix(arn[5], "cert/"))
	if err != nil {
		return "", fmt.Errorf("principal %.100q cannot be read: %w", principal, err)
	}
	return id, nil
}
