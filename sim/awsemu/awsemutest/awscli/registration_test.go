package awscli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// The steps by which AWS's guide has a CA and a device registered (cloud spec 4.3).
func TestRegisterByHand(t *testing.T) {
	need(t)
	c, now, dir := awsemutest.Start(t, 0, time.Now), time.Now(), t.TempDir()
	call := func(into any, args ...string) {
		t.Helper()
		out, err := run(t, c, c.AdminCredentials(), awsemu.Region, append([]string{"iot"}, args...)...)
		if err == nil && into != nil {
			err = json.Unmarshal([]byte(out), into)
		}
		if err != nil {
			t.Fatalf("aws iot %v: %v\n%s", args, err, out)
		}
	}
	file := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return "file://" + path
	}
	ca := awsemutest.NewAuthority(t, "factory", now, nil)
	device := ca.Issue(t, "pump-9", now)
	var code struct{ RegistrationCode string }
	call(&code, "get-registration-code")
	verification := ca.Issue(t, code.RegistrationCode, now)

	var made, registered struct{ CertificateID, CertificateArn string }
	call(&made, "register-ca-certificate", "--ca-certificate", file("ca.pem", ca.PEM), "--verification-certificate", file("v.pem", verification.CertificatePEM), "--set-as-active", "--allow-auto-registration")
	var described struct {
		CertificateDescription struct {
			Status, AutoRegistrationStatus, CertificateMode string
			CreationDate                                    time.Time
		}
	}
	call(&described, "describe-ca-certificate", "--certificate-id", made.CertificateID)
	if d := described.CertificateDescription; made.CertificateID != string(ca.ID()) || d.Status != "ACTIVE" || d.AutoRegistrationStatus != "ENABLE" || d.CertificateMode != "DEFAULT" || now.Sub(d.CreationDate) > time.Hour {
		t.Errorf("CA %s: %+v", made.CertificateID, d)
	}
	call(&registered, "register-certificate", "--certificate-pem", file("device.pem", device.CertificatePEM), "--ca-certificate-pem", file("ca.pem", ca.PEM))
	call(nil, "attach-thing-principal", "--thing-name", awsemutest.Thing(0), "--principal", registered.CertificateArn)
	call(nil, "update-certificate", "--certificate-id", registered.CertificateID, "--new-status", "ACTIVE")
	var listed struct {
		Certificates []struct{ CertificateID, Status string }
		Things       []string
	}
	call(&listed, "list-certificates-by-ca", "--ca-certificate-id", made.CertificateID)
	call(&listed, "list-principal-things", "--principal", registered.CertificateArn)
	if len(listed.Certificates) != 1 || listed.Certificates[0].CertificateID != string(device.ID) || listed.Certificates[0].Status != "ACTIVE" || len(listed.Things) != 1 || listed.Things[0] != awsemutest.Thing(0) {
		t.Errorf("listed: %+v", listed)
	}
}
