package registrar

import (
	"errors"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// FuzzEvent: an event names a certificate and an authority, or is none.
func FuzzEvent(f *testing.F) {
	id := strings.Repeat("ab", 32)
	topic := TopicOf(messages.CertificateID(id))
	f.Add(topic, []byte(`{"certificateId":"`+id+`","caCertificateId":"`+id+`","timestamp":1585333333333,"certificateStatus":"PENDING_ACTIVATION","awsAccountId":"123456789012","certificateRegistrationTimestamp":null}`))
	f.Add(topic, []byte(`{"certificateId":"`+strings.ToUpper(id)+`","timestamp":"x","certificateStatus":null}`))
	f.Add(topic, []byte(`{"certificateId":1}`))
	f.Add("$aws/events/certificates/registered/", []byte(`{}`))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		e, err := ParseEvent(topic, payload)
		if err != nil {
			if e != (Event{}) {
				t.Errorf("%+v beside %v", e, err)
			}
			return
		}
		_, bad := messages.ParseCertificateID(string(e.Certificate))
		if bad != nil || TopicOf(e.Authority) != topic {
			t.Errorf("%+v of %q", e, topic)
		}
	})
}

func TestEventsAreReadLeniently(t *testing.T) {
	id := strings.Repeat("ab", 32)
	topic := TopicOf(messages.CertificateID(id))
	for payload, good := range map[string]bool{
		`{"certificateId":"` + id + `"}`: true,
		`{"certificateId":"` + id + `","caCertificateId":null,"timestamp":"2026","awsAccountId":5,"certificateRegistrationTimestamp":{},"more":[]}`: true,
		`{"certificateId":"` + strings.ToUpper(id) + `","certificateStatus":"PENDING_ACTIVATION"}`:                                                  true,
		`{"certificateId":"` + id + `","caCertificateId":"` + strings.Repeat("cd", 32) + `"}`:                                                       false,
		`{"certificateId":"` + id + `","certificateStatus":"ACTIVE"}`:                                                                               false,
		`{"certificateId":null}`: false,
		`[]`:                     false,
		``:                       false,
	} {
		if _, err := ParseEvent(topic, []byte(payload)); (err == nil) != good {
			t.Errorf("%s: %v", payload, err)
		}
	}
	if _, err := ParseEvent("$aws/events/presence/connected/"+id, []byte(`{"certificateId":"`+id+`"}`)); err == nil {
		t.Error("another topic's event is taken")
	}
}

// FuzzDocument: what is read of a disk is whole, or an error.
func FuzzDocument(f *testing.F) {
	id := strings.Repeat("ab", 32)
	f.Add([]byte(`{"format":"gatehouse/registrations-1","letters":[{"certificate":"` + id + `","authority":"","state":"open","since":"2026-11-22T12:00:00Z","at":"2026-11-22T12:00:00Z","tries":0}],"recent":[1]}`))
	f.Add([]byte(`{"format":"gatehouse/registrations-1","letters":[null]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseDocument(text)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		for _, l := range d.Letters {
			if _, err := messages.ParseCertificateID(string(l.Certificate)); err != nil || l.State == "" {
				t.Errorf("%+v", l)
			}
		}
	})
}
