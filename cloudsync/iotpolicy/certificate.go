package iotpolicy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strconv"
)

const (
	certificatePrefix = "iot:certificate." // canonical
	listMax           = 5                  // values of an attribute; others are ignored
)

// nameAttributes are the attributes of a name that policies can speak of, by their object
// identifiers (X.520).
var nameAttributes = map[string]string{
	"2.5.4.46": "DistinguishedNameQualifier", "2.5.4.6": "Country", "2.5.4.10": "Organization", "2.5.4.11": "OrganizationalUnit",
	"2.5.4.8": "State", "2.5.4.3": "CommonName", "2.5.4.5": "SerialNumber", "2.5.4.12": "Title", "2.5.4.4": "Surname",
	"2.5.4.42": "GivenName", "2.5.4.43": "Initials", "2.5.4.65": "Pseudonym", "2.5.4.44": "GenerationQualifier",
}

// SetCertificate sets what policies can know of a client certificate, nil being none:
// its subject's and issuer's attributes, alternative names, its serial number as a
// decimal, and AvailableKeys. An attribute with several values has the first of them
// under its own name, the second under name.1 and so on, and all under name.List.
func (c *Context) SetCertificate(leaf *x509.Certificate) {
	if leaf == nil {
		return
	}
	var keys []string
	set := func(name string, values []string) {
		if len(values) == 0 {
			return
		}
		key := "iot:Certificate." + name
		values = values[:min(len(values), listMax)]
		c.Set(key, values[0])
		c.Set(key+".List", values...)
		for i, value := range values[1:] {
			c.Set(key+"."+strconv.Itoa(i+1), value)
		}
		keys = append(keys, key)
	}
	for name, values := range attributesOf(leaf.Subject) {
		set("Subject."+name, values)
	}
	for name, values := range attributesOf(leaf.Issuer) {
		set("Issuer."+name, values)
	}
	alternatives := map[string][]string{"DNSName": leaf.DNSNames, "RFC822Name": leaf.EmailAddresses}
	for _, ip := range leaf.IPAddresses {
		alternatives["IPAddress"] = append(alternatives["IPAddress"], ip.String())
	}
	for _, uri := range leaf.URIs {
		alternatives["UniformResourceIdentifier"] = append(alternatives["UniformResourceIdentifier"], uri.String())
	}
	for name, values := range alternatives {
		set("Subject.AlternativeName."+name, values)
	}
	if leaf.SerialNumber != nil {
		set("SerialNumber", []string{leaf.SerialNumber.String()})
	}
	c.Set("iot:Certificate.AvailableKeys", keys...)
}

func attributesOf(name pkix.Name) map[string][]string {
	found := map[string][]string{}
	for _, attribute := range name.Names {
		known, ok := nameAttributes[asn1.ObjectIdentifier(attribute.Type).String()]
		if text := fmt.Sprint(attribute.Value); ok && text != "" {
			found[known] = append(found[known], text)
		}
	}
	return found
}
