package daemon

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// TestOutcomesOnRecord: the registrar's outcome is in the device's stream when it has been told,
// a no as well, or the device could come back while the cloud is away; but not of strangers.
func TestOutcomesOnRecord(t *testing.T) {
	d := startDaemon(t, t.TempDir(), Config{})
	c := registration.Candidate{Certificate: messages.CertificateIDOf([]byte("a")), Authority: messages.CertificateIDOf([]byte("b"))}
	for _, o := range []registration.Outcome{
		{Status: registration.Denied, Reason: "no rule allows it"},
		{Status: registration.Denied, Thing: "pump-1", Rule: "pumps", Reason: "it belongs to another certificate"},
		{Status: registration.Denied, Thing: "pump-1", Rule: "pumps", Reason: "it belongs to another certificate"},
		{Status: registration.Accepted, Thing: "pump-1", Rule: "pumps"},
	} {
		if err := d.settledRegistration(t.Context(), c, o); err != nil {
			t.Fatal(err)
		}
	}
	var outcomes []messages.RegistrationOutcome
	for rec, err := range d.log.Read(t.Context(), messages.DeviceStream("pump-1"), 1) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := messages.FoldEvent(&rec)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := e.(*messages.DeviceRegistered); ok {
			outcomes = append(outcomes, r.Outcome)
		}
	}
	if len(outcomes) != 2 || outcomes[0] != messages.RegistrationOutcome_REGISTRATION_DENIED || outcomes[1] != messages.RegistrationOutcome_REGISTRATION_ACCEPTED {
		t.Errorf("on record: %v", outcomes)
	}
}
