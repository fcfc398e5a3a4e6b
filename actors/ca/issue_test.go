package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificateVectors is testdata/server-cert.json, the reference's facts.
type certificateVectors struct {
	SAN []struct {
		HostAddresses []string
		SAN           []struct{ Type, Value string }
	}
	IsIP []struct {
		Host string
		IP   bool
	}
	Rotation []struct {
		ValiditySeconds, AgeSeconds int64
		Rotate, RotationDisabled    bool
	}
	Shape struct {
		Subject           string
		CASubjectCN       string `json:"caSubjectCN"`
		CAValiditySeconds int64  `json:"caValiditySeconds"`
	}
}

func readVectors(t testing.TB) certificateVectors {
	t.Helper()
	doc, err := os.ReadFile("testdata/server-cert.json")
	if err != nil {
		t.Fatal(err)
	}
	var v certificateVectors
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func critical(c *x509.Certificate) map[string]bool {
	found := map[string]bool{}
	for _, extension := range c.Extensions {
		found[extension.Id.String()] = extension.Critical
	}
	return found
}

// Client-device-auth spec 6.1 and vector shape: the managed authority.
func TestManagedAuthority(t *testing.T) {
	shape := readVectors(t).Shape
	for _, c := range []struct {
		kind      string
		algorithm x509.SignatureAlgorithm
	}{{TypeRSA2048, x509.SHA256WithRSA}, {TypeECDSAP256, x509.ECDSAWithSHA256}} {
		t.Run(c.kind, func(t *testing.T) {
			authority := managed(t, keyOf(t, c.kind), false)
			got := authority.Certificate()
			if err := got.CheckSignatureFrom(got); err != nil {
				t.Errorf("not self-signed: %v", err)
			}
			if want := strings.Replace(shape.Subject, "<service name>", shape.CASubjectCN, 1); relativeNames(got.Subject) != want || !bytes.Equal(got.RawIssuer, got.RawSubject) {
				t.Errorf("subject %s, want %s", relativeNames(got.Subject), want)
			}
			if life := got.NotAfter.Sub(got.NotBefore); life != time.Duration(shape.CAValiditySeconds)*time.Second {
				t.Errorf("life %s", life)
			}
			if skew := noon.Sub(got.NotBefore); skew < 5*time.Minute || skew > 5*time.Minute+time.Second {
				t.Errorf("begins %s before now, want 5 minutes", skew)
			}
			if got.SignatureAlgorithm != c.algorithm || authority.Type() != c.kind {
				t.Errorf("algorithm %s, type %s", got.SignatureAlgorithm, authority.Type())
			}
			// Exactly these extensions: no keyUsage, no authorityKeyIdentifier.
			want := map[string]bool{"2.5.29.19": true, "2.5.29.14": false}
			if found := critical(got); len(found) != 2 || found["2.5.29.19"] != true || found["2.5.29.14"] != false {
				t.Errorf("extensions %v, want %v", found, want)
			}
			if !got.IsCA || got.MaxPathLen != -1 {
				t.Errorf("CA %t, path length %d, want no limit", got.IsCA, got.MaxPathLen)
			}
		})
	}
}

// relativeNames prints a name attribute by attribute as encoded.
func relativeNames(name pkix.Name) string {
	short := map[string]string{"2.5.4.6": "C", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.8": "ST", "2.5.4.7": "L", "2.5.4.3": "CN"}
	var parts []string
	for _, attribute := range name.Names {
		parts = append(parts, short[attribute.Type.String()]+"="+attribute.Value.(string))
	}
	return strings.Join(parts, ", ")
}

// Client-device-auth spec 6.2 and vector shape: certificates of brokers and components.
func TestIssuedCertificates(t *testing.T) {
	key := fixedKey(t, 7)
	authority := managed(t, key, false)
	base := map[string]bool{"2.5.29.35": false, "2.5.29.14": false, "2.5.29.19": true, "2.5.29.37": true}
	for _, c := range []struct {
		usage Usage
		want  []x509.ExtKeyUsage
		san   bool
	}{
		{Server, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, true},
		{Client, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, false},
		{ClientAndServer, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, true},
	} {
		t.Run(c.usage.String(), func(t *testing.T) {
			r := Request{Issuer: authority, Subscriber: "mosquitto", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(0xff), Now: noon}
			got := issue(t, profile(t, ProfileConfig{Usage: c.usage, Validity: time.Hour}), r, key)
			if err := got.CheckSignatureFrom(authority.Certificate()); err != nil {
				t.Error(err)
			}
			if relativeNames(got.Subject) != "C=US, O=Amazon.com Inc., OU=Amazon Web Services, ST=Washington, L=Seattle, CN=mosquitto" {
				t.Errorf("subject %s", relativeNames(got.Subject))
			}
			if !bytes.Equal(got.RawIssuer, authority.Certificate().RawSubject) || !bytes.Equal(got.AuthorityKeyId, authority.Certificate().SubjectKeyId) {
				t.Errorf("issuer %s, key id %x", got.Issuer, got.AuthorityKeyId)
			}
			if got.IsCA || !got.BasicConstraintsValid || got.KeyUsage != 0 {
				t.Errorf("CA %t, key usage %b", got.IsCA, got.KeyUsage)
			}
			if !slices.Equal(got.ExtKeyUsage, c.want) {
				t.Errorf("extended key usage %v, want %v", got.ExtKeyUsage, c.want)
			}
			found, wanted := critical(got), len(base)
			for oid, isCritical := range base {
				if value, ok := found[oid]; !ok || value != isCritical {
					t.Errorf("extension %s: present %t, critical %t", oid, ok, value)
				}
			}
			if c.san {
				wanted++
				if value, ok := found["2.5.29.17"]; !ok || value || !slices.Equal(got.DNSNames, []string{"localhost"}) {
					t.Errorf("alternative names %v, critical %t", got.DNSNames, value)
				}
			}
			if len(found) != wanted {
				t.Errorf("extensions %v, want %d", found, wanted)
			}
			// 159 bits: the serial of 20 bytes 0xff loses its first bit and stays positive.
			if want := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 159), big.NewInt(1)); got.SerialNumber.Cmp(want) != 0 {
				t.Errorf("serial %x", got.SerialNumber)
			}
			if life := got.NotAfter.Sub(got.NotBefore); life != time.Hour {
				t.Errorf("life %s, want 1h", life)
			}
		})
	}
}

// Vectors "san": addresses and names, "localhost" added, repetitions removed.
func TestAlternativeNames(t *testing.T) {
	key := fixedKey(t, 7)
	authority := managed(t, key, false)
	for _, v := range readVectors(t).SAN {
		got := issue(t, profile(t, ProfileConfig{Usage: Server, Validity: time.Hour}), Request{Issuer: authority, Subscriber: "b",
			Hosts: hosts(t, v.HostAddresses...), PublicKey: key.Public(), Serial: serialOf(1), Now: noon}, key)
		var names []string
		for _, name := range got.DNSNames {
			names = append(names, "dns "+name)
		}
		for _, address := range got.IPAddresses {
			names = append(names, "ip "+address.String())
		}
		var want []string
		for _, san := range v.SAN {
			host, err := ParseHost(san.Value)
			if err != nil || host.IsAddress() != (san.Type == "ip") {
				t.Errorf("%s: %v", san.Value, err)
			}
			want = append(want, san.Type+" "+host.String())
		}
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%v: names %v, want %v", v.HostAddresses, names, want)
		}
	}
}

// Vectors "isIp". The reference counts an address with a port as an address and then
// fails to encode it; here the port is dropped.
func TestAddressOrName(t *testing.T) {
	for _, v := range readVectors(t).IsIP {
		host, err := ParseHost(v.Host)
		if (err == nil && host.IsAddress()) != v.IP {
			t.Errorf("%s: address %t (%v), want %t", v.Host, host.IsAddress(), err, v.IP)
		}
	}
	for text, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1", "[32e::12f]:80": "32e::12f", "[::1]": "::1", "fe80::1%eth0": "fe80::1", "::ffff:10.0.0.1": "10.0.0.1", "FE80::1": "fe80::1",
	} {
		if host, err := ParseHost(text); err != nil || host.String() != want || !host.IsAddress() {
			t.Errorf("%s = %s (%v), want %s", text, host, err, want)
		}
	}
	for _, bad := range []string{"", "a b", "*.local", "a..b", "-a", "a-", "core.local.", "core:8883", "fe80:2030:31:24", "é", "a/b", "x\x00", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if host, err := ParseHost(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, host)
		}
	}
	if got, rejected := ParseHosts([]string{"a", "b c", "::1"}); len(got) != 2 || len(rejected) != 1 {
		t.Errorf("hosts %v, rejected %v: one bad entry must not take the others along", got, rejected)
	}
}

// Client-device-auth spec 6.2, Do: the signature is chosen by the issuer's key, not by
// the name on its own certificate: an EC intermediate under an RSA root issues.
func TestSignatureFollowsTheIssuersKey(t *testing.T) {
	rootKey := keyOf(t, TypeRSA2048)
	root := custom(t, x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}, nil, rootKey, rootKey)
	for kind, algorithm := range map[string]x509.SignatureAlgorithm{
		TypeRSA2048: x509.SHA256WithRSA, TypeECDSAP256: x509.ECDSAWithSHA256, "P-384": x509.ECDSAWithSHA384, "P-521": x509.ECDSAWithSHA512, "Ed25519": x509.PureEd25519,
	} {
		key := keyOf(t, kind)
		intermediate := custom(t, x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "issuing"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign}, root, key, rootKey)
		authority, err := ParseAuthority(intermediate.Raw, root.Raw)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		got := issue(t, profile(t, ProfileConfig{Usage: Server, Validity: time.Hour}),
			Request{Issuer: authority, Subscriber: "b", PublicKey: keyOf(t, TypeECDSAP256).Public(), Serial: serialOf(1), Now: noon}, key)
		if got.SignatureAlgorithm != algorithm {
			t.Errorf("%s signs with %s, want %s", kind, got.SignatureAlgorithm, algorithm)
		}
		if !authority.Complete() || authority.Top().Subject.CommonName != "root" {
			t.Errorf("%s: complete %t, top %s", kind, authority.Complete(), authority.Top().Subject)
		}
		pool := x509.NewCertPool()
		pool.AddCert(root)
		between := x509.NewCertPool()
		between.AddCert(intermediate)
		if _, err := got.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: noon, DNSName: "localhost"}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Client-device-auth spec 1.1 and 6.2, Do: lives are clamped, and end with the issuer's.
func TestValidity(t *testing.T) {
	key := fixedKey(t, 7)
	authority := managed(t, key, false)
	end := authority.Certificate().NotAfter
	for _, c := range []struct {
		name     string
		validity time.Duration
		now      time.Time
		want     time.Duration // of the whole life
		ends     time.Time
	}{
		{"a week", 604800 * time.Second, noon, 604800 * time.Second, time.Time{}},
		{"too short", time.Second, noon, time.Minute, time.Time{}},
		{"too long", 365 * 24 * time.Hour, noon, 864000 * time.Second, time.Time{}},
		{"nothing", 0, noon, time.Minute, time.Time{}},
		{"beyond the authority's end", 604800 * time.Second, end.Add(-time.Hour), time.Hour + 5*time.Minute, end},
	} {
		got := issue(t, profile(t, ProfileConfig{Usage: Server, Validity: c.validity}),
			Request{Issuer: authority, Subscriber: "b", PublicKey: key.Public(), Serial: serialOf(1), Now: c.now}, key)
		if life := got.NotAfter.Sub(got.NotBefore); life != c.want {
			t.Errorf("%s: life %s, want %s", c.name, life, c.want)
		}
		if !c.ends.IsZero() && !got.NotAfter.Equal(c.ends) {
			t.Errorf("%s: ends %s, want %s", c.name, got.NotAfter, c.ends)
		}
		if !got.NotAfter.After(c.now) || got.NotBefore.After(c.now) || got.NotBefore.Before(authority.Certificate().NotBefore) {
			t.Errorf("%s: valid from %s to %s at %s", c.name, got.NotBefore, got.NotAfter, c.now)
		}
	}
}

func TestWhatIsNotPrepared(t *testing.T) {
	key := fixedKey(t, 7)
	authority := managed(t, key, false)
	good := Request{Issuer: authority, Subscriber: "b", PublicKey: key.Public(), Serial: serialOf(1), Now: noon}
	weak := weakKey(t)
	many := make([]Host, NamesMax)
	for i := range many {
		many[i] = hosts(t, "h"+string(rune('a'+i%26))+string(rune('a'+i/26)))[0]
	}
	change := func(f func(*Request)) Request { r := good; f(&r); return r }
	for _, c := range []struct {
		name  string
		usage Usage
		r     Request
		want  string
	}{
		{"no profile", 0, good, "no profile"},
		{"a leaf without issuer", Server, change(func(r *Request) { r.Issuer = nil }), "an authority signs itself, everything else has an issuer"},
		{"an authority with issuer", Issuing, good, "an authority signs itself"},
		{"an authority with a key no configuration names", Issuing, change(func(r *Request) { r.Issuer, r.PublicKey = nil, keyOf(t, "P-384").Public() }), "RSA 2048 or P-256"},
		{"no time", Server, change(func(r *Request) { r.Now = time.Time{} }), "the time is not known"},
		{"no subscriber", Server, change(func(r *Request) { r.Subscriber = "" }), "want 1 to 64 bytes"},
		{"a long subscriber", Server, change(func(r *Request) { r.Subscriber = strings.Repeat("x", 65) }), "want 1 to 64 bytes"},
		{"a subscriber named like the authority", Client, change(func(r *Request) { r.Subscriber = AuthorityName }), "not the authority's own name"},
		{"a subscriber with a control character", Server, change(func(r *Request) { r.Subscriber = "a\nb" }), "printable ASCII"},
		{"a weak key", Server, change(func(r *Request) { r.PublicKey = weak.Public() }), "RSA key of 1024 bits"},
		{"no key", Server, change(func(r *Request) { r.PublicKey = nil }), "want an RSA, ECDSA or Ed25519 key"},
		{"hosts for a client", Client, change(func(r *Request) { r.Hosts = hosts(t, "a") }), "has no hosts"},
		{"too many hosts", Server, change(func(r *Request) { r.Hosts = many }), "33 names with localhost, want at most 32"},
		{"a serial of zeros", Server, change(func(r *Request) { r.Serial = [SerialBytes]byte{} }), "the random source is broken"},
		{"an expired authority", Server, change(func(r *Request) { r.Now = noon.AddDate(6, 0, 0) }), "renew it first"},
		{"an authority that is not valid yet", Server, change(func(r *Request) { r.Now = noon.AddDate(-1, 0, 0) }), "unusable authority"},
		{"an authority about to end", Server, change(func(r *Request) { r.Now = authority.Certificate().NotAfter.Add(-10 * time.Second) }), "too soon to issue anything"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Profile
			if c.usage != 0 {
				p = profile(t, ProfileConfig{Usage: c.usage, Validity: time.Hour})
			}
			_, err := Prepare(p, c.r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := NewProfile(ProfileConfig{Usage: 9}); err == nil {
		t.Error("a profile for an unknown usage")
	}
	if _, err := Prepare(profile(t, ProfileConfig{Usage: Server}), good); err != nil {
		t.Errorf("the request the others were made from: %v", err)
	}
}

// badSigner holds the right key and signs something else.
type badSigner struct{ crypto.Signer }

func (b badSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	wrong := bytes.Clone(digest)
	wrong[0] ^= 1
	return b.Signer.Sign(random, wrong, opts)
}

func TestWhatIsNotIssued(t *testing.T) {
	key := fixedKey(t, 7)
	prepared, err := Prepare(profile(t, ProfileConfig{Usage: Server}), Request{Issuer: managed(t, key, false), Subscriber: "b", PublicKey: key.Public(), Serial: serialOf(1), Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		prepared Prepared
		signer   crypto.Signer
		want     string
	}{
		{"nothing prepared", Prepared{}, key, "it was not prepared"},
		{"another key", prepared, fixedKey(t, 8), "does not belong to the issuer's certificate"},
		{"a signer that signs something else", prepared, badSigner{key}, "the signature does not verify"},
	} {
		if der, err := Issue(c.prepared, c.signer); err == nil || !strings.Contains(err.Error(), c.want) || der != nil {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestIssueIsRepeatable(t *testing.T) {
	key := fixedKey(t, 7)
	prepared, err := Prepare(profile(t, ProfileConfig{Usage: Server}), Request{Issuer: managed(t, key, false), Subscriber: "b", PublicKey: key.Public(), Serial: serialOf(0xab), Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	first, err := Issue(prepared, key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Issue(prepared, key)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two certificates from one Prepared (%v)", err)
	}
	if serial := prepared.Serial(); serial != "2b"+strings.Repeat("ab", 19) {
		t.Errorf("serial %s", serial)
	}
	if _, err := hex.DecodeString(prepared.Serial()); err != nil {
		t.Error(err)
	}
}
