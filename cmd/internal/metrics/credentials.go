package metrics

func (e exporter) credentials(c *Credentials) {
	if c == nil {
		return
	}
	e.gauge(credentialsLeft, c.Left.Seconds())
	e.counter(credentialsServed, float64(c.HandOuts))
	for outcome, n := range c.Fetches {
		e.counter(credentialsFetches, float64(n), outcome)
	}
	for reason, n := range c.Refused {
		e.counter(credentialsRefused, float64(n), reason)
	}
}

var (
	credentialsLeft    = describe("credentials_left_seconds", "Time until the role's credentials end that local programs get; 0: there are none.")
	credentialsServed  = describe("credentials_served_total", "Hand-outs of credentials to local programs and to Gatehouse itself.")
	credentialsFetches = describe("credentials_fetches_total", "Questions to the IoT credentials provider: granted, refused by it, or without an answer of its.", "outcome")
	credentialsRefused = describe("credentials_refused_total", "Local programs that got no credentials, by what was wrong: request, origin, token, user, rate.", "reason")
)
