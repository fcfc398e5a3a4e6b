package scenario

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/world"
)

type cloudCert struct {
	cloudOnly
	Cert   alias      `key:"cert" need:"yes" doc:"which certificate"`
	Status certStatus `key:"status" need:"yes" doc:"as AWS IoT spells it"`
}

type certStatus string

func (certStatus) choices() []string {
	return []string{
		string(awsemu.StatusActive), string(awsemu.StatusInactive), string(awsemu.StatusRevoked),
		string(awsemu.StatusPendingTransfer), string(awsemu.StatusPendingActivation),
	}
}

func (e *cloudCert) run(p *play) ([]string, error) {
	der, err := p.cert(e.Cert)
	if err != nil {
		return nil, err
	}
	_, err = p.world.Registry().AddCertificate(der, awsemu.Status(e.Status))
	if errors.Is(err, awsemu.ErrExists) {
		err = p.world.Registry().SetStatus(messages.CertificateIDOf(der), awsemu.Status(e.Status))
	}
	return nil, err
}

type cloudAttach struct {
	cloudOnly
	Thing thing `key:"thing" need:"yes" doc:"which thing; it is registered if it is not there, and a name that AWS does not take stays unknown"`
	Cert  alias `key:"cert" need:"yes" doc:"which certificate; one that is not there is registered, inactive"`
}

func (e *cloudAttach) run(p *play) ([]string, error) {
	name, err := messages.ParseThingName(string(e.Thing))
	if err != nil {
		return nil, nil
	}
	der, err := p.cert(e.Cert)
	if err != nil {
		return nil, err
	}
	if _, err := p.world.Registry().AddCertificate(der, awsemu.StatusInactive); err != nil && !errors.Is(err, awsemu.ErrExists) {
		return nil, err
	}
	if err := p.world.Registry().AddThing(name); err != nil {
		return nil, err
	}
	return nil, p.world.Registry().Attach(name, messages.CertificateIDOf(der))
}

type cloudDetach struct {
	cloudOnly
	Thing thing `key:"thing" need:"yes" doc:"which thing"`
	Cert  alias `key:"cert" need:"yes" doc:"which certificate"`
}

func (e *cloudDetach) run(p *play) ([]string, error) {
	der, err := p.cert(e.Cert)
	if err != nil {
		return nil, err
	}
	return nil, p.world.Registry().Detach(messages.ThingName(e.Thing), messages.CertificateIDOf(der))
}

type account struct {
	cloudOnly
	Policy  corePolicy `key:"corePolicy" need:"yes" doc:"the IoT policies of the core's certificate: what AWS's installer attaches, the least that AWS documents, or none"`
	NoRoles bool       `key:"noServiceRole" doc:"Greengrass has no role in the account, by which it looks certificates up (default false)"`
}

type corePolicy string

func (corePolicy) choices() []string { return []string{"installer", "minimal", "none"} }

func (e *account) run(p *play) ([]string, error) {
	r := p.world.Registry()
	role := ""
	if !e.NoRoles {
		role = serviceRole
	}
	err := r.SetServiceRole(role, p.world.Machine.Now())
	for _, c := range r.Certificates() {
		if !c.Core {
			continue
		}
		policy := map[corePolicy]awsemu.Policy{"installer": awsemu.PolicyOpen, "minimal": awsemu.PolicyMinimal, "none": awsemu.PolicyOpen}[e.Policy]
		err = errors.Join(err, r.SetPolicy(c.ID, policy))
		if e.Policy == "none" {
			err = errors.Join(err, r.DetachPolicy(awsemu.DefaultPolicyName, awsemu.CertificateARN(c.ID)))
		}
	}
	return nil, err
}

const serviceRole = "arn:aws:iam::" + awsemu.AccountID + ":role/Greengrass_ServiceRole"

type cloudReachable struct {
	cloudOnly
	Value bool `key:"value" need:"yes" doc:"whether it answers"`
}

func (e *cloudReachable) run(p *play) ([]string, error) { return nil, p.world.SetReachable(e.Value) }

type network struct {
	Up bool `key:"up" need:"yes" doc:"whether it is up"`
}

func (e *network) run(p *play) ([]string, error) {
	p.comesUp = false
	return nil, p.world.SetLink(e.Up)
}

type certValidity struct {
	cloudOnly
	Cert      alias   `key:"cert" need:"yes" doc:"which certificate"`
	NotBefore seconds `key:"notBefore" need:"yes" doc:"seconds from the beginning"`
	NotAfter  seconds `key:"notAfter" need:"yes" doc:"seconds from the beginning"`
}

func (e *certValidity) check() error {
	if e.NotAfter < e.NotBefore {
		return fmt.Errorf("notAfter (%v) is before notBefore (%v)", e.NotAfter, e.NotBefore)
	}
	return nil
}

// run does nothing: a certificate's validity is part of it from the start (newPlay).
func (e *certValidity) run(*play) ([]string, error) { return nil, nil }

type componentCert struct {
	Cert   alias         `key:"cert" need:"yes" doc:"what the scenario calls it"`
	Name   componentName `key:"name" doc:"the component (default aws.greengrass.clientdevices.mqtt.Bridge)"`
	Server bool          `key:"server" doc:"it is the broker's server certificate, which is no component's"`
}

type componentName string

func (n componentName) check() error {
	_, err := messages.ParseComponentName(string(n))
	return err
}

func (e *componentCert) run(p *play) ([]string, error) {
	if p.certs[e.Cert] != nil {
		return nil, fmt.Errorf("certificate %q exists already: use another name", e.Cert)
	}
	der, err := p.world.IssueComponent(messages.ComponentName(cmp.Or(e.Name, "aws.greengrass.clientdevices.mqtt.Bridge")), e.Server)
	p.certs[e.Cert] = der
	return nil, err
}

type configure struct {
	ClientDeviceAuth document `key:"clientDeviceAuth" need:"yes" doc:"the section, as in gatehouse.yaml; what it does not name has its default"`
}

func (e *configure) run(p *play) ([]string, error) { return nil, p.configure(e.ClientDeviceAuth) }

type quarantine struct {
	Thing thing `key:"thing" need:"yes" doc:"which thing"`
}

func (e *quarantine) run(p *play) ([]string, error) {
	return p.do(messages.QuarantineDevice{Thing: messages.ThingName(e.Thing), Source: messages.Source_SOURCE_OPERATOR, Reason: "scenario"})
}

type release struct {
	Thing thing `key:"thing" need:"yes" doc:"which thing"`
}

func (e *release) run(p *play) ([]string, error) {
	return p.do(messages.ReleaseDevice{Thing: messages.ThingName(e.Thing), Source: messages.Source_SOURCE_OPERATOR, Reason: "scenario"})
}

type restart struct{}

func (*restart) run(p *play) ([]string, error) { return nil, p.world.Restart(true) }

type kill struct{}

func (*kill) run(p *play) ([]string, error) { return nil, p.world.Restart(false) }

type reboot struct {
	Off    *lapse   `key:"off" doc:"seconds without power (default 10)"`
	Cut    bool     `key:"cut" doc:"the power is cut; otherwise the core is stopped in order"`
	Wall   *seconds `key:"wall" doc:"what the wall clock shows after it, in seconds from the beginning; without it, it has gone on"`
	Synced bool     `key:"synced" doc:"the wall clock is synchronised, and right, when the core starts"`
}

func (e *reboot) run(p *play) ([]string, error) {
	return nil, p.world.Reboot(!e.Cut, e.takes().duration(), (&clock{Wall: e.Wall, Synced: &e.Synced}).set)
}

func (e *reboot) takes() lapse {
	if e.Off == nil {
		return 10
	}
	return *e.Off
}

type suspend struct {
	For lapse `key:"for" need:"yes" doc:"seconds of sleep"`
}

func (e *suspend) run(p *play) ([]string, error) { return nil, p.world.Suspend(e.For.duration()) }

func (e *suspend) takes() lapse { return e.For }

type clock struct {
	Wall   *seconds `key:"wall" doc:"what the wall clock shows, in seconds from the beginning; without synced it is no longer synchronised"`
	Synced *bool    `key:"synced" doc:"whether it is synchronised; true sets it right, unless wall says otherwise"`
}

func (e *clock) run(p *play) ([]string, error) {
	e.set(p.world.Machine)
	return nil, p.world.Step()
}

func (e *clock) set(m *world.Machine) {
	switch {
	case e.Wall != nil:
		m.SetWall(e.Wall.duration())
		m.SetSynced(e.Synced != nil && *e.Synced)
	case e.Synced != nil:
		if *e.Synced {
			m.SetWall(m.Since())
		}
		m.SetSynced(*e.Synced)
	}
}

type cloudDate struct {
	cloudOnly
	Skew seconds `key:"skew" need:"yes" doc:"seconds that the cloud's clock is ahead; 0 ends it"`
}

func (e *cloudDate) run(p *play) ([]string, error) {
	p.world.SetCloudSkew(e.Skew.duration())
	return nil, nil
}

type wait struct{}

func (*wait) run(*play) ([]string, error) { return nil, nil }
