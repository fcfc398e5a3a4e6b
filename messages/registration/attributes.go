package registration

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// valueBytesMax bounds one attribute of a name: longer ones match nothing and fill no
// variable. RFC 5280 has 64 characters for most.
const valueBytesMax = 256

// attributes are those of a distinguished name that rules and variables know: the ones of
// just-in-time provisioning (cloud spec 4.5) and the locality.
var attributes = []struct {
	name string
	oid  asn1.ObjectIdentifier
}{
	{"commonName", asn1.ObjectIdentifier{2, 5, 4, 3}},
	{"country", asn1.ObjectIdentifier{2, 5, 4, 6}},
	{"dnQualifier", asn1.ObjectIdentifier{2, 5, 4, 46}},
	{"locality", asn1.ObjectIdentifier{2, 5, 4, 7}},
	{"organization", asn1.ObjectIdentifier{2, 5, 4, 10}},
	{"organizationalUnit", asn1.ObjectIdentifier{2, 5, 4, 11}},
	{"serialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}}, // an attribute of the name, not the certificate's number
	{"state", asn1.ObjectIdentifier{2, 5, 4, 8}},
}

// AttributeNames are the attributes of a distinguished name that rules and variables know,
// in order.
func AttributeNames() []string {
	var names []string
	for _, a := range attributes {
		names = append(names, a.name)
	}
	return names
}

// unreadable stands for a value that cannot be compared: no text, or too much of it. No
// pattern of an allow rule matches it, every one of a deny rule does.
const unreadable = "\x00"

// valuesOf returns all values that name gives for an attribute.
func valuesOf(name pkix.Name, attribute string) []string {
	i := slices.IndexFunc(attributes, func(a struct {
		name string
		oid  asn1.ObjectIdentifier
	}) bool {
		return a.name == attribute
	})
	if i < 0 {
		return nil
	}
	var values []string
	for _, found := range name.Names {
		if !found.Type.Equal(attributes[i].oid) {
			continue
		}
		text, isText := found.Value.(string)
		if !isText || len(text) > valueBytesMax || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			text = unreadable
		}
		values = append(values, text)
	}
	return values
}

// serialOf is the certificate's number in lower-case hex, without leading zeros.
func serialOf(leaf *x509.Certificate) string { return fmt.Sprintf("%x", leaf.SerialNumber) }

// bounded makes of alternative names what can be compared.
func bounded(names []string) []string {
	values := make([]string, len(names))
	for i, name := range names {
		if values[i] = name; len(name) > valueBytesMax || strings.ContainsRune(name, 0) {
			values[i] = unreadable
		}
	}
	return values
}

// facts are what rules look at.
type facts struct {
	leaf      *x509.Certificate
	id        messages.CertificateID
	authority messages.CertificateID
	thing     messages.ThingName // as the rule names it; "" until it has
}
