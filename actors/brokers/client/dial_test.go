package client_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

func TestRedactURLs(t *testing.T) {
	for urls, want := range map[string]string{
		"":                                     "",
		"nats://h:4222":                        "nats://h:4222",
		"nats://u:secret@h:4222":               "nats://xxxxx@h:4222",
		"nats://secret@h":                      "nats://xxxxx@h", // a token
		"u:secret@h":                           "xxxxx@h",
		"nats://g,tls://u:secret@h,nats://i":   "nats://g,tls://xxxxx@h,nats://i",
		"tls://u:secret@h, tls://v:secret@i:1": "tls://xxxxx@h, tls://xxxxx@i:1",
		"nats://u:sec,ret@h":                   "nats://xxxxx@h", // a comma in it should be %2C
		"nats://u:sec@ret@h":                   "nats://xxxxx@xxxxx@h",
		"nats://u:sec/ret@h":                   "nats://xxxxx@h",
		"nats://u:ab://cd@h":                   "nats://xxxxx@h",
		"nats://u:ab,tls://cd@h":               "nats://xxxxx@h",
		"nats://u:12,cd@h":                     "nats://xxxxx@h",
		"nats://u:12/cd@h":                     "nats://xxxxx@h",
		"nats://u:secret":                      "nats://xxxxx", // the host was forgotten
		"nats://u:s$c,ret":                     "nats://xxxxx",
		"nats://u:se$,cret,tls://v:secret@h":   "nats://xxxxx,tls://xxxxx@h",
		"nats://u:secret@h:x,tls://i":          "nats://xxxxx@h:xxxxx",
		"sec://ret@h":                          "xxxxx@h",
		"g:4222,h, i:1":                        "g:4222,h, i:1",
		"tls://u:secret@[fe80::1%25eth0]:4222": "tls://xxxxx@[fe80::1%25eth0]:4222",
		"wss://u:secret@h/nats":                "wss://xxxxx@h/nats",
	} {
		if got := client.RedactURLs(urls); got != want {
			t.Errorf("%s: got %s, want %s", urls, got, want)
		}
	}
}

// A password in a URL must not reach an error, and so a log.
func TestErrorsKeepPasswords(t *testing.T) {
	for _, urls := range []string{
		"nats://u:sesame@127.0.0.1:1", "nats://127.0.0.1:1,nats://u:sesame@127.0.0.1:1", "nats://sesame@127.0.0.1:1",
		"nats://u:sesame%@127.0.0.1:1", "nats://u:sesame@127.0.0.1:x", "nats://u:sesame,x@127.0.0.1:1",
		"nats://sesame:1://x@127.0.0.1:1", "nats://sesame:1/x@127.0.0.1:1", "nats://u:sesame://x@127.0.0.1:1", "nats://u:1/sesame@127.0.0.1:1",
	} {
		c, err := client.Connect(t.Context(), client.Config{Broker: "x", URL: urls})
		switch {
		case err == nil:
			_ = c.Close()
			t.Errorf("%s: connected", urls)
		case strings.Contains(err.Error(), "sesame"):
			t.Errorf("%s: %v", urls, err)
		case !strings.Contains(err.Error(), "127.0.0.1"):
			t.Errorf("%s: %v does not say where", urls, err)
		}
	}
}

// FuzzRedactURLs: whatever a password is made of, nothing of it is shown. One that holds a
// comma and a scheme behind it cannot be told from two URLs.
func FuzzRedactURLs(f *testing.F) {
	for _, password := range []string{"", "secret", "ab://cd", "a,b", "a@b", "1,b", "12/3", "%", "[", "nats://", "\n"} {
		f.Add(password)
	}
	f.Fuzz(func(t *testing.T, password string) {
		if _, after, found := strings.Cut(password, ","); found && strings.Contains(after, "://") {
			return
		}
		got := client.RedactURLs("nats://user:" + password + "@host:4222")
		if want := "nats://" + strings.Repeat("xxxxx@", 1+strings.Count(password, "@")) + "host:4222"; got != want {
			t.Errorf("password %q: got %s, want %s", password, got, want)
		}
	})
}
