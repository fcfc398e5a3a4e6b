package cloudsync

import (
	"encoding/pem"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = cloudsynctest.Noon

var atNoon = cloudsynctest.AtNoon

type authority = cloudsynctest.Authority

var newAuthority = cloudsynctest.NewAuthority

// device is some certificate to ask about.
func device(t testing.TB) (certificatePEM string, q messages.CloudQuestion) {
	t.Helper()
	der := newAuthority(t).Issue(t, "pump-7", noon).Certificate[0]
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return string(text), messages.CloudQuestion{Certificate: messages.CertificateIDOf(der), DER: der}
}
