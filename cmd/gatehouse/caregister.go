package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotregistry"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// registerOptions are the flags of `ca register`.
type registerOptions struct {
	siteFlags
	key, passphraseFile     string
	pkcs11                  keys.PKCS11
	sniOnly, noAuto, status bool
}

func (a *app) caRegisterCommand() *cobra.Command {
	var o registerOptions
	c := &cobra.Command{
		Use:   "register FILE.pem",
		Short: "Register a CA of devices with AWS IoT, so that they register themselves",
		Long: `Register a certificate authority with AWS IoT: get the account's registration code, prove
that its key is yours by a certificate of that name, register it, make it active, and have its
devices registered on their first connection. What is there already is brought to what the
flags say, and what has changed is told; run again it changes nothing.

With --sni-only nothing is proved, several accounts may register the same authority, and
devices must name the endpoint in TLS. The mode cannot be changed later.

FILE.pem is the direct signer of the devices' certificates. --key names its key: a file, PEM,
which may be encrypted, or a pkcs11: URI. The key is used for one signature and goes nowhere.

AWS is asked with your own credentials, as the aws tool finds them, or those of the emulated
cloud of "gatehouse dev" with --dir. They need iot:GetRegistrationCode,
iot:RegisterCACertificate, iot:DescribeCACertificate and iot:UpdateCACertificate.`,
		Example: example("gatehouse ca register ./gh/fleet-ca/ca.pem --key ./gh/fleet-ca/key.pem --dir ./gh", "gatehouse ca register fleet-ca.pem --sni-only --dir ./gh", "gatehouse ca register ./gh/fleet-ca/ca.pem --status --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.caRegister(c.Context(), args[0], o) },
	}
	f := c.Flags()
	f.StringVar(&o.key, "key", "", "the authority's key: a PEM file or a pkcs11: URI")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "the first line of this file opens the key")
	f.StringVar(&o.pkcs11.Module, "pkcs11-module", "", "the token's library, unless the URI says so")
	f.StringVar(&o.pkcs11.PINFile, "pin-file", "", "the first line of this file is the token's PIN")
	f.BoolVar(&o.sniOnly, "sni-only", false, "register without a proof, as one of several accounts")
	f.BoolVar(&o.noAuto, "no-auto-registration", false, "devices are not registered on their first connection")
	f.BoolVar(&o.status, "status", false, "only say how it is registered, and change nothing")
	f.StringVar(&o.config, "config", "", "ask AWS as this gatehouse.yaml says, but for the credentials")
	f.StringVar(&o.region, "region", "", "AWS's name of the region")
	f.StringVar(&o.profile, "profile", "", "profile of the shared AWS files")
	f.StringVar(&o.endpoint, "endpoint-url", "", "https URL of an emulator or VPC endpoint")
	f.StringVar(&o.ca, "ca-bundle", "", "PEM file of the roots that the endpoint is checked against")
	return c
}

// registeredAuthority is what `ca register` tells.
type registeredAuthority struct {
	Certificate messages.CertificateID `json:"certificateId"`
	Registered  bool                   `json:"registered"`
	iotregistry.Authority
	Changed []string `json:"changed"` // in words; none: it was so already
}

func (a *app) caRegister(ctx context.Context, file string, o registerOptions) error {
	certificate, err := readSigner(file)
	if err != nil {
		return err
	}
	if err := registration.CheckAuthority(certificate); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	site, err := a.siteOf(ctx, o.siteFlags)
	if err != nil {
		return err
	}
	if site.away != nil {
		return site.away
	}
	client, err := iotregistry.New(iotregistry.Config{Control: site.control})
	if err != nil {
		return err
	}
	defer client.Close()
	r := registering{client: client, file: file, certificate: certificate, o: o, id: messages.CertificateIDOf(certificate.Raw)}
	told, err := r.run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return a.show(told, func(w io.Writer) error { return printRegistered(w, told) })
}

// registering is one run of `ca register`.
type registering struct {
	client      *iotregistry.Client
	file        string
	certificate *x509.Certificate
	id          messages.CertificateID
	o           registerOptions
}

func (r *registering) run(ctx context.Context) (told registeredAuthority, err error) {
	told = registeredAuthority{Certificate: r.id, Changed: []string{}}
	var signer crypto.Signer
	if r.o.key != "" && !r.o.status { // also of one that is registered: another's key would be a mistake
		var done func()
		if signer, done, err = r.signer(ctx); err != nil {
			return told, err
		}
		defer done()
	}
	known, err := r.client.DescribeAuthority(ctx, r.id)
	switch {
	case err == nil && r.o.status, errors.Is(err, registrar.ErrNotThere) && r.o.status:
		told.Registered, told.Authority = err == nil, known
		return told, nil
	case errors.Is(err, registrar.ErrNotThere):
		err = r.register(ctx, signer)
		if err != nil {
			return told, err
		}
		told.Changed = append(told.Changed, "registered, active")
		if !r.o.noAuto {
			told.Changed = append(told.Changed, "devices register themselves")
		}
	case err != nil:
		return told, err
	default:
		if told.Changed, err = r.update(ctx, known); err != nil {
			return told, err
		}
	}
	told.Authority, err = r.client.DescribeAuthority(ctx, r.id)
	told.Registered = err == nil
	return told, err
}

// update brings a registered authority to what is wanted.
func (r *registering) update(ctx context.Context, known iotregistry.Authority) ([]string, error) {
	changed := []string{}
	if known.SNIOnly != r.o.sniOnly {
		mode := map[bool]string{true: "SNI_ONLY", false: "DEFAULT"}
		return changed, fmt.Errorf("it is registered in mode %s, not %s, which cannot be changed: give the other flag, or deactivate and delete it first (aws iot delete-ca-certificate)", mode[known.SNIOnly], mode[r.o.sniOnly])
	}
	if !known.Active {
		changed = append(changed, "made active")
	}
	if known.AutoRegistration == r.o.noAuto {
		changed = append(changed, map[bool]string{false: "devices register themselves", true: "devices register themselves no more"}[r.o.noAuto])
	}
	if len(changed) == 0 {
		return changed, nil
	}
	return changed, r.client.UpdateAuthority(ctx, r.id, !r.o.noAuto)
}

// register proves possession of the key, unless that is not asked for, and registers.
func (r *registering) register(ctx context.Context, signer crypto.Signer) error {
	now := time.Now()
	if now.After(r.certificate.NotAfter) || now.Before(r.certificate.NotBefore) {
		return fmt.Errorf("the authority is valid from %s to %s by its certificate, and this machine's clock says %s",
			r.certificate.NotBefore.UTC().Format(time.RFC3339), r.certificate.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if r.o.sniOnly {
		return r.client.RegisterAuthority(ctx, r.certificate.Raw, nil, !r.o.noAuto)
	}
	if signer == nil {
		return &exitError{exitUsage, errors.New("--key is missing: AWS wants a proof that the authority's key is yours; or give --sni-only")}
	}
	code, err := r.client.RegistrationCode(ctx)
	if err != nil {
		return err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	proof, err := ca.Possession(rand.Reader, r.certificate, signer, own.Public(), code, now)
	if err != nil {
		return err
	}
	return r.client.RegisterAuthority(ctx, r.certificate.Raw, proof, !r.o.noAuto)
}

// signer opens the authority's key, which must be the certificate's.
func (r *registering) signer(ctx context.Context) (crypto.Signer, func(), error) {
	var passphrase []byte
	if r.o.passphraseFile != "" {
		var err error
		if passphrase, err = readPassphrase(r.o.passphraseFile); err != nil {
			return nil, nil, fmt.Errorf("--passphrase-file: %w", err)
		}
	}
	uris := keys.URIs{PrivateKey: r.o.key}
	var err error
	if uris.Certificate, err = fileURI(r.file); err != nil {
		return nil, nil, err
	}
	if !strings.HasPrefix(uris.PrivateKey, "pkcs11:") {
		if uris.PrivateKey, err = fileURI(r.o.key); err != nil {
			return nil, nil, err
		}
	}
	r.o.pkcs11.Helper = helperPath("")
	custom := keys.NewCustom(keys.CustomOptions{Passphrase: passphrase, PKCS11: r.o.pkcs11})
	opened, err := custom.Open(ctx, uris)
	if err != nil {
		custom.Close()
		return nil, nil, fmt.Errorf("--key: %w", err)
	}
	if public, ok := opened.Signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(r.certificate.PublicKey) {
		custom.Close()
		return nil, nil, errors.New("--key: it is not the key of this certificate")
	}
	return opened.Signer, custom.Close, nil
}

func fileURI(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	return "file://" + absolute, err
}

func printRegistered(w io.Writer, r registeredAuthority) error {
	if !r.Registered {
		_, err := fmt.Fprintf(w, "authority %s is not registered\n", r.Certificate)
		return err
	}
	word := func(yes bool, a, b string) string {
		if yes {
			return a
		}
		return b
	}
	fmt.Fprintf(w, "authority %s\n  %s, mode %s, %s\n", r.Certificate, word(r.Active, "active", "not active: its devices are refused"), word(r.SNIOnly, "SNI_ONLY", "DEFAULT"),
		word(r.AutoRegistration, "devices register themselves on their first connection", "devices do not register themselves"))
	if r.Provisioned {
		fmt.Fprintln(w, "  a template provisions its devices: no registrar is asked")
	}
	if len(r.Changed) == 0 {
		_, err := fmt.Fprintln(w, "  nothing was changed")
		return err
	}
	_, err := fmt.Fprintf(w, "  changed: %s\n", strings.Join(r.Changed, "; "))
	return err
}
