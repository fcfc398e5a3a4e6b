package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// registration checks the authorities whose devices may register themselves: that the files
// hold CAs which can sign, and that AWS IoT registers their devices.
func (h *Host) registration(ctx context.Context) []Result {
	const name = "registration"
	if len(h.Config.Registration.Authorities) == 0 {
		return []Result{unknown(name, "no authority's devices may register themselves (registration.authorities)")}
	}
	var list []Result
	for _, path := range h.Config.Registration.Authorities {
		authorities, err := readAuthorities(path)
		if err != nil {
			list = append(list, bad(Failed, name, "certificates of authorities", []string{"put them there, or correct registration.authorities"}, "%v", err))
			continue
		}
		for _, a := range authorities {
			list = append(list, h.registers(ctx, path, a)...)
		}
	}
	return list
}

func readAuthorities(path string) (list []*x509.Certificate, err error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %.40q that is no certificate", path, block.Type)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return list, nil
}

// registers judges one authority.
func (h *Host) registers(ctx context.Context, path string, a *x509.Certificate) []Result {
	id := string(messages.CertificateIDOf(a.Raw))
	name := "registration." + id[:12]
	if err := registration.CheckAuthority(a); err != nil {
		return []Result{bad(Failed, name, "an authority that can sign devices' certificates", []string{"name the certificate that signs devices' in registration.authorities"}, "%s: %v", path, err)}
	}
	list := []Result{h.dates(name, path, a)}
	if h.Authority == nil {
		return append(list, unknown(name+".cloud", "AWS is not asked about it"))
	}
	register := []string{"gatehouse ca register " + path + " --key KEY"}
	known, err := h.Authority(ctx, id)
	failure, typed := errors.AsType[*trace.ReadError](err)
	switch {
	case typed && failure.Kind == trace.NotFound:
		return append(list, bad(Failed, name+".cloud", "a CA that AWS IoT knows", register, "%s is not registered in AWS IoT: the cloud registers none of its devices", a.Subject.CommonName))
	case err != nil:
		return append(list, unknown(name+".cloud", "%v", err))
	case known.Status != "ACTIVE" || known.AutoRegistration != "ENABLE":
		return append(list, bad(Failed, name+".cloud", "ACTIVE, automatic registration ENABLE", register, "%s is %s, automatic registration %s", a.Subject.CommonName, known.Status, known.AutoRegistration))
	}
	return append(list, ok(name+".cloud", "%s is registered, its devices register themselves", a.Subject.CommonName))
}
