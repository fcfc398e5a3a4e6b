package wire

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const certificateBytesMax = 16 << 10 // design.md, section 8

// CheckQuestion returns why q cannot be put: it names what nobody can have, or a
// certificate that is not the one its id belongs to.
func CheckQuestion(q messages.CloudQuestion) error {
	if _, err := messages.ParseCertificateID(string(q.Certificate)); err != nil {
		return err
	}
	if q.Thing != "" {
		_, err := messages.ParseThingName(string(q.Thing))
		return err
	}
	if len(q.DER) == 0 || len(q.DER) > certificateBytesMax {
		return fmt.Errorf("certificate of %d bytes, want 1 to %d", len(q.DER), certificateBytesMax)
	}
	if id := messages.CertificateIDOf(q.DER); id != q.Certificate {
		return fmt.Errorf("certificate id %.12s… does not belong to the certificate, whose id is %.12s…", q.Certificate, id)
	}
	return nil
}
