package control

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// FuzzPrincipal: a principal is a certificate only if it ends with that id.
func FuzzPrincipal(f *testing.F) {
	f.Add("arn:aws:iot:eu-central-1:123456789012:cert/" + strings.Repeat("ab", 32))
	f.Add("eu-central-1:0d2b6d8e-6b0e-4f0c-9b5e-000000000000")
	f.Add("arn:aws:iot:::cert/")
	f.Add("arn:aws:iot:r:1:cert/x:y")
	f.Fuzz(func(t *testing.T, principal string) {
		id, err := CertificateOf(principal)
		if id == "" {
			return
		}
		if _, bad := messages.ParseCertificateID(string(id)); bad != nil || err != nil || !strings.HasPrefix(principal, "arn:") || !strings.HasSuffix(principal, ":cert/"+string(id)) {
			t.Errorf("%q is taken for %q, %v", principal, id, err)
		}
	})
}
