package config

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// Client-device-auth spec 1.1, "Number reading": the nucleus' coercion.
func TestNumbersAreReadAsTheNucleusDoes(t *testing.T) {
	for _, c := range []struct {
		tag, text string
		want      int32
		plain     bool
	}{
		{"!!int", "5", 5, true},
		{"!!int", "-2147483648", -2147483648, true},
		{"!!int", "2147483648", -2147483648, false}, // 2^31 wraps
		{"!!int", "4294967297", 1, false},
		{"!!int", "99999999999999999999999", -159383553, false}, // low 32 bits of a big integer
		{"!!int", "-1", -1, true},
		{"!!int", "0x1F", 31, true},
		{"!!int", "1_000", 1000, true},
		{"!!float", "2.9", 2, false},
		{"!!float", "-2.9", -2, false},
		{"!!float", "190000.0", 190000, true},
		{"!!float", "3000000000.5", 2147483647, false},
		{"!!float", "1e300", 2147483647, false}, // a double saturates
		{"!!float", "1e999", 2147483647, false},
		{"!!float", "-1e300", -2147483648, false},
		{"!!float", ".nan", 0, false},
		{"!!float", "-.INF", -2147483648, false},
		{"!!float", ".inf", 2147483647, false},
		{"!!bool", "true", 1, false},
		{"!!bool", "FALSE", 0, false},
		{"!!str", "", 0, false},
		{"!!str", "60", 60, true},
		{"!!str", "60 s", 60, false},
		{"!!str", " +-5", -5, false},
		{"!!str", "--5", 5, false},
		{"!!str", "0x10", 16, false},
		{"!!str", "0b101", 5, false},
		{"!!str", "010", 8, false}, // octal
		{"!!str", "0", 0, true},
		{"!!str", "09", 0, false},
		{"!!str", "4294967297", 1, false},
		{"!!str", "ten", 0, false},
	} {
		got, plain := int32Of(&yaml.Node{Kind: yaml.ScalarNode, Tag: c.tag, Value: c.text})
		if got != c.want || plain != c.plain {
			t.Errorf("%s %q = %d (plain %t), want %d (%t)", c.tag, c.text, got, plain, c.want, c.plain)
		}
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"listen", "url", "creds", "tls", "certificateUri", "certificateChainUri"}
	for word, want := range map[string]string{
		"lisetn": "listen", "Listen": "listen", "URI": "url", "creds ": "creds", "certificateURI": "certificateUri",
		"certifcateChainUri": "certificateChainUri", "mosquitto": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
