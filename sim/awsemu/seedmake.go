package awsemu

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// SeedOptions are what a seed leaves to who reads it.
type SeedOptions struct {
	// Now is when what it gives no time for was made.
	Now time.Time
	// Make makes the certificate of a name, signed by the CA that MakeAuthority made under
	// the name signer, or by the cloud's own authority if that is empty, and keeps its key
	// where the caller finds it; or it returns the one made before. Nil: a seed that asks for
	// one is refused.
	Make func(name, signer string) (der []byte, err error)
	// MakeAuthority makes a CA in the same way.
	MakeAuthority func(name string) (der []byte, err error)
}

// complete fills in what a seed leaves out.
func (s *seedFile) complete(o SeedOptions) error {
	stampAll(reflect.ValueOf(s).Elem(), o.Now)
	made := map[string]messages.CertificateID{} // CAs, by name
	for i := range s.Authorities {
		a := &s.Authorities[i]
		a.Status, a.Auto = cmp.Or(a.Status, string(StatusActive)), cmp.Or(a.Auto, enabled(true))
		if err := a.make(o, made); err != nil {
			return fmt.Errorf("caCertificates[%d].%w", i, err)
		}
	}
	for i := range s.Certificates {
		c := &s.Certificates[i]
		c.Status = cmp.Or(c.Status, string(StatusActive))
		if err := c.make(o, made); err != nil {
			return fmt.Errorf("certificates[%d].%w", i, err)
		}
	}
	s.Certificates = slices.DeleteFunc(s.Certificates, func(c seedCertificate) bool { return c.Unknown })
	for i := range s.Shadows {
		if err := s.Shadows[i].make(o.Now); err != nil {
			return fmt.Errorf("shadows[%d].%w", i, err)
		}
	}
	return nil
}

var timeType = reflect.TypeFor[time.Time]()

// stampAll puts now into every time that was left out and may not be. What has a generation
// was exported: if it has no time, it was always there.
func stampAll(v reflect.Value, now time.Time) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			stampAll(v.Index(i), now)
		}
	case reflect.Struct:
		if generation := v.FieldByName("Generation"); generation.IsValid() && !generation.IsZero() {
			return
		}
		for i := range v.NumField() {
			switch field := v.Field(i); {
			case field.Type() != timeType:
				stampAll(field, now)
			case field.CanSet() && field.IsZero() && !seedTag(v.Type().Field(i), "never"):
				field.Set(reflect.ValueOf(now))
			}
		}
	}
}

var madeName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// mayMake says whether something can be made by that name, and is not there already.
func mayMake(name, given string, able bool) error {
	switch {
	case given != "":
		return errors.New("make: certificatePem is given, too: keep one")
	case !able:
		return errors.New("make: nobody makes certificates here: give certificatePem")
	case !madeName.MatchString(name):
		return fmt.Errorf("make: %.128q: want 1 to 128 of [a-zA-Z0-9:_-]", name)
	}
	return nil
}

// make has the CA made that is only named.
func (a *seedAuthority) make(o SeedOptions, made map[string]messages.CertificateID) error {
	if a.Make == "" {
		return nil
	}
	if err := mayMake(a.Make, a.PEM, o.MakeAuthority != nil); err != nil {
		return err
	}
	der, err := o.MakeAuthority(a.Make)
	if err != nil {
		return fmt.Errorf("make: %w", err)
	}
	made[a.Make] = messages.CertificateIDOf(der)
	a.PEM, a.Make = string(certificatePEM(der)), ""
	return nil
}

// make has the certificate made that is only named.
func (c *seedCertificate) make(o SeedOptions, authorities map[string]messages.CertificateID) error {
	signer, known := authorities[c.Signer]
	switch {
	case c.Make == "" && c.Signer != "":
		return errors.New("signedBy: it goes with make")
	case c.Unknown && c.Signer == "":
		return errors.New("unregistered: it goes with make and signedBy")
	case c.Signer != "" && !known:
		return fmt.Errorf("signedBy: %.128q is the make of none of caCertificates", c.Signer)
	case c.Unknown && len(c.Things)+len(c.Policies) > 0:
		return errors.New("unregistered: what the cloud does not know has no things or policies")
	case c.Make == "":
		return nil
	}
	if err := mayMake(c.Make, c.PEM, o.Make != nil); err != nil {
		return err
	}
	der, err := o.Make(c.Make, c.Signer)
	if err != nil {
		return fmt.Errorf("make: %w", err)
	}
	c.PEM, c.Make, c.Signer = string(certificatePEM(der)), "", ""
	c.Authority = cmp.Or(c.Authority, string(signer))
	return nil
}

// make turns a state into the shadow that an update makes of it.
func (s *seedShadow) make(now time.Time) error {
	switch {
	case s.State == nil:
		return nil
	case s.Shadow != nil:
		return errors.New("state: shadow is given, too: keep one")
	}
	var none *shadow.Shadow
	change, refused := none.Update(encodeJSON(map[string]any{"state": s.State}), now)
	if refused != nil {
		return fmt.Errorf("state: %s", refused.Message)
	}
	s.Shadow, s.State = change.Next, nil
	return nil
}
