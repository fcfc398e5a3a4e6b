package messages

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

const someDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// hostile are texts that no identifier may be: what would be a wildcard, a path, a line
// of its own or somebody else's name where the identifier is used (NATS subjects, MQTT
// topics, file names, logs).
var hostile = map[string]string{
	"empty":                    "",
	"NATS one-token wildcard":  "*",
	"NATS tail wildcard":       ">",
	"MQTT one-level wildcard":  "+",
	"MQTT tail wildcard":       "#",
	"wildcard inside":          "a*b",
	"tail wildcard inside":     "a>",
	"subject separator":        "a.b",
	"parent folder":            "..",
	"path upwards":             "../../etc/passwd",
	"slash":                    "a/b",
	"backslash":                `a\b`,
	"NUL":                      "a\x00b",
	"NUL alone":                "\x00",
	"newline at the end":       "a\n",
	"newline inside":           "a\nb",
	"carriage return":          "a\rb",
	"tab":                      "a\tb",
	"space":                    "a b",
	"leading space":            " a",
	"escape":                   "a\x1b[31m",
	"delete":                   "a\x7f",
	"dollar":                   "$SYS",
	"variable":                 "${iot:Connection.Thing.ThingName}",
	"quote":                    `a"b`,
	"percent":                  "a%2e",
	"Cyrillic а":               "sensor-а",
	"Greek ο":                  "sensοr",
	"fullwidth letter":         "ａ",
	"fullwidth digit":          "１",
	"Arabic-Indic digit":       "٣",
	"non-breaking hyphen":      "sensor‑1",
	"zero-width space":         "sensor\u200b1",
	"zero-width joiner":        "sensor\u200d1",
	"right-to-left override":   "sensor\u202e1",
	"combining accent":         "e\u0301",
	"byte order mark":          "\ufeffa",
	"invalid UTF-8":            "a\xff",
	"overlong slash":           "a\xc0\xafb",
	"long s (folds to s)":      "ſ",
	"Kelvin sign (folds to k)": "\u212a",
}

func TestParseThingName(t *testing.T) {
	parser := func(s string) (string, error) { id, err := ParseThingName(s); return string(id), err }
	accepts(t, parser, "a", "Z", "0", "sensor-1", "urn:dev:ow:10e2073a01080063", "_", "-", ":", strings.Repeat("x", 128))
	refuses(t, parser, map[string]string{"129 bytes": strings.Repeat("x", 129), "a megabyte": strings.Repeat("x", 1<<20)})
}

func TestParseBrokerID(t *testing.T) {
	parser := func(s string) (string, error) { id, err := ParseBrokerID(s); return string(id), err }
	accepts(t, parser, "a", "demo", "Broker_2", "-", "_", strings.Repeat("x", 64))
	refuses(t, parser, map[string]string{"65 bytes": strings.Repeat("x", 65), "a megabyte": strings.Repeat("x", 1<<20), "colon": "a:b"})
}

func TestParseCertificateID(t *testing.T) {
	parser := func(s string) (string, error) { id, err := ParseCertificateID(s); return string(id), err }
	accepts(t, parser, someDigest, strings.Repeat("0", 64), strings.Repeat("f", 64))
	refuses(t, parser, map[string]string{
		"63 digits":              someDigest[1:],
		"65 digits":              someDigest + "0",
		"a megabyte":             strings.Repeat("a", 1<<20),
		"upper case":             strings.ToUpper(someDigest),
		"one upper-case digit":   "E" + someDigest[1:],
		"g":                      "g" + someDigest[1:],
		"colon":                  someDigest[:63] + ":",
		"newline at the end":     someDigest[:63] + "\n",
		"NUL at the end":         someDigest[:63] + "\x00",
		"wildcard":               someDigest[:63] + "*",
		"64 bytes of look-alike": strings.Repeat("а", 32), // Cyrillic: two bytes each
	})
	// No bare letter, digit or thing name is a certificate id.
	refuses(t, parser, map[string]string{"one digit": "0", "thing name": "sensor-1"})
}

func TestParseStreamID(t *testing.T) {
	parser := func(s string) (string, error) { id, err := ParseStreamID(s); return string(id), err }
	accepts(t, parser, "device/sensor-1", "device/"+strings.Repeat("x", 128), "certificate/"+someDigest,
		"component/aws.greengrass.clientdevices.mqtt.Bridge", "component/"+strings.Repeat("x", 64), "core/policy", "core/config", "core/ca", "core/sync", "core/clock", "core/credentials", "core/lifecycle", "core/strangers")
	negatives := map[string]string{
		"family alone": "device/", "family without slash": "device", "certificates without id": "certificate/",
		"unknown core stream": "core/other", "core without name": "core/", "core in a folder": "core/policy/x",
		"upper case": "Core/policy", "unknown family": "thing/a", "leading slash": "/device/a",
		"a second slash": "device//a", "a deeper name": "device/a/b", "a short certificate": "certificate/" + someDigest[1:],
		"component alone": "component/", "a component with a space": "component/a b", "a deeper component": "component/a/b",
		"a long component": "component/" + strings.Repeat("x", 65), "a long thing": "device/" + strings.Repeat("x", 129), "trailing newline": "core/policy\n",
		"a megabyte": strings.Repeat("x", 1<<20), "a megabyte of device": "device/" + strings.Repeat("x", 1<<20),
		"a megabyte of certificate": "certificate/" + strings.Repeat("a", 1<<20),
	}
	for name, text := range hostile {
		negatives["device with "+name] = "device/" + text
		negatives["certificate with "+name] = "certificate/" + text
		if name != "subject separator" { // a component's name has dots
			negatives["component with "+name] = "component/" + text
		}
		negatives["core with "+name] = "core/" + text
	}
	refuses(t, parser, negatives)
}

func accepts(t *testing.T, parse func(string) (string, error), texts ...string) {
	t.Helper()
	for _, text := range texts {
		if got, err := parse(text); err != nil || got != text {
			t.Errorf("%q: got %q and error %v, want it as it is", text, got, err)
		}
	}
}

// refuses checks the parser's own negatives and all the hostile texts: the error wraps
// ErrInvalidID, comes with no value, and neither echoes without bound nor breaks a line.
func refuses(t *testing.T, parse func(string) (string, error), own map[string]string) {
	t.Helper()
	for _, texts := range []map[string]string{hostile, own} {
		for name, text := range texts {
			got, err := parse(text)
			switch {
			case !errors.Is(err, ErrInvalidID):
				t.Errorf("%s: %.80q gives error %v, want ErrInvalidID", name, text, err)
			case got != "":
				t.Errorf("%s: an error with a value: %.80q", name, got)
			case len(err.Error()) > 512:
				t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
			case strings.ContainsAny(err.Error(), "\x00\r\n\x1b"):
				t.Errorf("%s: the error carries control characters: %q", name, err)
			}
		}
	}
}

func TestCertificateIDOf(t *testing.T) {
	if got := CertificateIDOf(nil); got != someDigest { // FIPS 180-4: SHA-256 of nothing
		t.Errorf("got %s, want %s", got, someDigest)
	}
	if _, err := ParseCertificateID(string(CertificateIDOf([]byte("der")))); err != nil {
		t.Errorf("a derived id does not parse: %v", err)
	}
}

func TestStreamsNameTheirEntities(t *testing.T) {
	if thing, ok := DeviceStream("sensor-1").Device(); thing != "sensor-1" || !ok {
		t.Errorf("got %q, %t", thing, ok)
	}
	if id, ok := CertificateStream(someDigest).Certificate(); id != someDigest || !ok {
		t.Errorf("got %q, %t", id, ok)
	}
	for _, s := range []StreamID{StreamPolicy, DeviceStream("a")} {
		if id, ok := s.Certificate(); ok {
			t.Errorf("%s names the certificate %q", s, id)
		}
	}
	if name, ok := ComponentStream("aws.Bridge").Component(); name != "aws.Bridge" || !ok {
		t.Errorf("got %q, %t", name, ok)
	}
	for _, s := range []StreamID{StreamPolicy, DeviceStream("a"), CertificateStream(someDigest)} {
		if name, ok := s.Component(); ok {
			t.Errorf("%s names the component %q", s, name)
		}
	}
	for _, s := range []StreamID{StreamPolicy, CertificateStream(someDigest), ComponentStream("a")} {
		if thing, ok := s.Device(); ok {
			t.Errorf("%s names the device %q", s, thing)
		}
	}
}

func TestToken(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a == b {
		t.Fatal("two new tokens are equal")
	}
	// 32 bytes in unpadded URL base64 are 43 characters; all of them are safe in JSON
	// and in an MQTT password.
	if shape := regexp.MustCompile(`^gh1_[A-Za-z0-9_-]{43}$`); !shape.MatchString(string(a)) {
		t.Errorf("a token of %d characters has another shape", len(string(a)))
	}
	known := TokenFrom([32]byte{0xff, 0xfe})
	if string(known) != "gh1_"+"__4"+strings.Repeat("A", 40) {
		t.Errorf("the token of known bytes is %q", string(known))
	}
	if a.Digest() != sha256.Sum256([]byte(string(a))) || a.Digest() == b.Digest() {
		t.Error("the digest is not the SHA-256 of the text")
	}
	if d := a.Digest(); !strings.HasPrefix(d.String(), d.Short()) || len(d.String()) != 64 || len(d.Short()) != 12 {
		t.Errorf("digest %s, short %s", d, d.Short())
	}
}

// TestTokenIsNeverPrinted: whoever prints a token, or something that holds one, prints
// its digest's beginning.
func TestTokenIsNeverPrinted(t *testing.T) {
	token := NewToken()
	secret := strings.TrimPrefix(string(token), tokenPrefix)
	holder := struct {
		Token  Token
		Others []Token
		Named  map[string]Token
	}{token, []Token{token}, map[string]Token{"a": token}}
	keyed := map[Token]int{token: 1}

	printed := map[string]string{"println": fmt.Sprintln(token, holder, keyed), "error": fmt.Errorf("no session: %w", Refuse(RefusedInvalidToken, "%s", token)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%80s", "%.400s", "%U", "%c", "%e", "%y"} {
		printed["fmt "+verb] = fmt.Sprintf(verb, token)
		printed["fmt in a struct "+verb] = fmt.Sprintf(verb, holder)
		printed["fmt behind a pointer "+verb] = fmt.Sprintf(verb, &holder)
		printed["fmt as a key "+verb] = fmt.Sprintf(verb, keyed)
	}
	b, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	printed["json"] = string(b)
	var text, jsonText strings.Builder
	for name, h := range map[string]slog.Handler{"text": slog.NewTextHandler(&text, nil), "json": slog.NewJSONHandler(&jsonText, nil)} {
		slog.New(h).Info(name, "token", token, "holder", holder, "reply", SessionReady{Token: token}, slog.Group("group", "token", token))
	}
	printed["slog text"], printed["slog json"] = text.String(), jsonText.String()

	for how, out := range printed {
		hexed := fmt.Sprintf("%x", secret)
		if strings.Contains(out, secret) || strings.Contains(strings.ToLower(out), hexed) {
			t.Errorf("%s prints the secret", how)
		}
		if !strings.Contains(out, token.Digest().Short()) {
			t.Errorf("%s does not name the token by its digest: %s", how, out)
		}
	}
}

func FuzzParseThingName(f *testing.F) {
	fuzzID(f, `^[A-Za-z0-9:_-]{1,128}$`, func(s string) (string, error) { id, err := ParseThingName(s); return string(id), err })
}

func FuzzParseBrokerID(f *testing.F) {
	fuzzID(f, `^[A-Za-z0-9_-]{1,64}$`, func(s string) (string, error) { id, err := ParseBrokerID(s); return string(id), err })
}

func FuzzParseCertificateID(f *testing.F) {
	fuzzID(f, `^[0-9a-f]{64}$`, func(s string) (string, error) { id, err := ParseCertificateID(s); return string(id), err })
}

func FuzzParseStreamID(f *testing.F) {
	fuzzID(f, `^(device/[A-Za-z0-9:_-]{1,128}|certificate/[0-9a-f]{64}|core/(policy|config|ca|sync|clock|credentials|lifecycle|strangers))$`,
		func(s string) (string, error) {
			id, err := ParseStreamID(s)
			if len(id) > 255 {
				return "", fmt.Errorf("%d bytes do not fit into a record", len(id))
			}
			return string(id), err
		})
}

// fuzzID holds a parser against the same rule written as a regular expression.
func fuzzID(f *testing.F, rule string, parse func(string) (string, error)) {
	for _, text := range hostile {
		f.Add(text)
		f.Add("device/" + text)
	}
	for _, text := range []string{"sensor-1", "demo", someDigest, "device/sensor-1", "certificate/" + someDigest, "core/policy", "core/x\n"} {
		f.Add(text)
	}
	// (?s) and \z: "$" must not let a newline at the end pass.
	want := regexp.MustCompile("(?s)" + strings.TrimSuffix(rule, "$") + `\z`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parse(text)
		if (err == nil) != want.MatchString(text) {
			t.Fatalf("%q: error %v, but the rule %s says otherwise", text, err, rule)
		}
		if err == nil && got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
		if err != nil && (!errors.Is(err, ErrInvalidID) || got != "") {
			t.Fatalf("%q: got %q and error %v, want nothing and ErrInvalidID", text, got, err)
		}
	})
}
