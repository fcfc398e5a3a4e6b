package dst

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Certificates cost almost nothing: they are put together from their parts, with a key and a
// signature that are nobody's. The product's parser reads them like any other; whether a
// certificate is good the cloud says.

// The validity of certificates. They are older than any clock of the simulated cloud is wrong: a core that has
// followed one back to before all of them asks the cloud about none, and never hears better.
const (
	validBefore = 2 * 366 * 24 * time.Hour
	validFor    = 20 * 366 * 24 * time.Hour
)

// Parts of DER that are the same in all certificates.
var (
	derEd25519 = tlv(0x30, []byte{0x06, 0x03, 0x2b, 0x65, 0x70})
	derVersion = tlv(0xa0, tlv(0x02, []byte{2}))
	derIssuer  = derName("Fleet CA")
	derSigned  = tlv(0x03, make([]byte, 65))
	derUsage   = tlv(0xa3, tlv(0x30,
		tlv(0x30, []byte{0x06, 0x03, 0x55, 0x1d, 0x0f}, []byte{0x01, 0x01, 0xff}, tlv(0x04, []byte{0x03, 0x02, 0x07, 0x80})),
		tlv(0x30, []byte{0x06, 0x03, 0x55, 0x1d, 0x25}, tlv(0x04, tlv(0x30, []byte{0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02})))))
)

// tlv is one element of DER.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n+4)
	b = append(b, tag)
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func derName(cn string) []byte {
	return tlv(0x30, tlv(0x31, tlv(0x30, []byte{0x06, 0x03, 0x55, 0x04, 0x03}, tlv(0x0c, []byte(cn)))))
}

func derTime(t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 1950 || y >= 2050 { // RFC 5280, 4.1.2.5
		return tlv(0x18, t.AppendFormat(nil, "20060102150405Z"))
	}
	return tlv(0x17, t.AppendFormat(nil, "060102150405Z"))
}

// derKey begins a certificate's public key; the device and what number of its certificates it
// is follow.
var derKey = []byte("a key that is none ")

// certificate makes one for a common name, valid as said. Device and number tell it from
// others, and can be read from its key.
func certificate(device int, number uint32, cn string, from, to time.Time) []byte {
	serial := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte{1}, uint64(device)), number)
	key := append(append([]byte{0}, derKey...), serial[1:]...)
	key = append(key, make([]byte, 1+32-len(key))...)
	tbs := tlv(0x30, derVersion, tlv(0x02, serial), derEd25519, derIssuer, tlv(0x30, derTime(from), derTime(to)), derName(cn),
		tlv(0x30, derEd25519, tlv(0x03, key)), derUsage)
	return tlv(0x30, tbs, derEd25519, derSigned)
}

// deviceIn reads which device a certificate was made for.
func deviceIn(der []byte) (int, bool) {
	_, rest, ok := bytes.Cut(der, derKey)
	if !ok || len(rest) < 8 {
		return 0, false
	}
	of := int(int64(binary.BigEndian.Uint64(rest)))
	return of, of >= 0
}

// DER makes the certificate that c names. The same name always gives the same bytes.
func DER(c Cert) []byte {
	if c.Spoilt == "garbage" {
		return []byte("no certificate of " + strconv.Itoa(c.Of))
	}
	from, to := validityOf(c)
	number := uint32(c.Gen) << 2
	switch c.Spoilt {
	case "expired":
		number |= 1
	case "future":
		number |= 2
	}
	cn := "stranger" + strconv.Itoa(-c.Of)
	if c.Of >= 0 {
		cn = string(ThingOf(c.Of))
	}
	return certificate(c.Of, number, cn, from, to)
}

// validityOf is when the certificate that c names is valid.
func validityOf(c Cert) (from, to time.Time) {
	from, to = Beginning.Add(-validBefore), Beginning.Add(validFor)
	switch c.Spoilt {
	case "expired":
		to = Beginning.Add(-time.Hour)
	case "future":
		from = to.Add(-time.Hour)
	}
	return from, to
}

// IDOf is the id of the certificate that c names.
func IDOf(c Cert) messages.CertificateID { return messages.CertificateIDOf(DER(c)) }
