package dst

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Certificates cost almost nothing: they are put together from their parts, with a key and, but
// for those of newcomers, a signature that are nobody's. The product's parser reads them like any other; whether a
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
// others, and can be read from its key. A nil signer: the signature is nobody's.
func certificate(device int, number uint32, cn string, from, to time.Time, signer ed25519.PrivateKey) []byte {
	serial := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte{1}, uint64(device)), number)
	key := append(append([]byte{0}, derKey...), serial[1:]...)
	key = append(key, make([]byte, 1+32-len(key))...)
	tbs := tlv(0x30, derVersion, tlv(0x02, serial), derEd25519, derIssuer, tlv(0x30, derTime(from), derTime(to)), derName(cn),
		tlv(0x30, derEd25519, tlv(0x03, key)), derUsage)
	signed := derSigned
	if signer != nil {
		signed = tlv(0x03, []byte{0}, ed25519.Sign(signer, tbs))
	}
	return tlv(0x30, tbs, derEd25519, signed)
}

// What a certificate's number says beside its generation.
const (
	numberExpired uint32 = 1
	numberFuture  uint32 = 2
	numberFleet   uint32 = 1 << 30
	numberRogue   uint32 = 1 << 31
)

// certIn reads what DER has made; false: it is a stranger's, or nothing of DER's.
func certIn(der []byte) (c Cert, ok bool) {
	of, ok := deviceIn(der)
	_, rest, _ := bytes.Cut(der, derKey)
	if !ok || len(rest) < 12 {
		return c, false
	}
	number := binary.BigEndian.Uint32(rest[8:])
	c = Cert{Of: of, Gen: int(number &^ (numberFleet | numberRogue) >> 2)}
	switch {
	case number&numberExpired != 0:
		c.Spoilt = "expired"
	case number&numberFuture != 0:
		c.Spoilt = "future"
	}
	switch {
	case number&numberFleet != 0:
		c.By = byFleet
	case number&numberRogue != 0:
		c.By = byRogue
	}
	return c, true
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
		number |= numberExpired
	case "future":
		number |= numberFuture
	}
	switch c.By {
	case byFleet:
		number |= numberFleet
	case byRogue:
		number |= numberRogue
	}
	cn := "stranger" + strconv.Itoa(-c.Of)
	if c.Of >= 0 {
		cn = string(ThingOf(c.Of))
	}
	return certificate(c.Of, number, cn, from, to, keyBy(c.By))
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
