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
