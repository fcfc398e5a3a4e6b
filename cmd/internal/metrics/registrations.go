package metrics

func (e exporter) registrations(r *Registrations) {
	if r == nil {
		return
	}
	for outcome, n := range r.Outcomes {
		e.counter(registrations, float64(n), outcome)
	}
	e.gauge(registrationsWaiting, float64(r.Waiting))
	e.gauge(registrationsGivenUp, float64(r.GivenUp))
	e.gauge(registrationsBegun, float64(r.LastHour))
}

var (
	registrations        = describe("registrations_total", "Devices that nobody registered: accepted into the cloud, denied, tries that failed, and those there was no room for.", "outcome")
	registrationsWaiting = describe("registrations_waiting", "Devices that wait to be registered in the cloud.")
	registrationsGivenUp = describe("registrations_given_up", "Devices whose registration failed for good, and waits for an operator.")
	registrationsBegun   = describe("registrations_last_hour", "Devices whose registration was begun within the last hour, which the quota counts.")
)
