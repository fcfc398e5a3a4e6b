// Package cloudsync talks to AWS for the core: it asks the two questions about a client
// device that only the cloud can answer, over mutual TLS with the core's certificate,
// through one bounded queue, and watches whether the cloud can be reached at all.
//
// One rule shapes everything here: only a complete, well-formed answer of the right
// server counts as the cloud's word. Whatever else comes back (no network, throttling, a
// refusal of the core's own certificate, a captive portal's page, half an answer) is
// messages.CloudSilent and changes no trust (cloud spec 1.5).
//
// It also publishes the certificate by which devices know this core's servers
// (Authorities, Uploader), in the background and without end.
//
// AWS does not publish the HTTP paths of the operations used here (cloud spec 1.2 and
// 10.1). The ones in DefaultRoutes are Gatehouse's own, spoken by sim/awsemu; against
// AWS's own hosts NewDataPlane refuses to use them until the operator names the paths.
package cloudsync
