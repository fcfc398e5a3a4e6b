// Package awsemu is the part of AWS that Gatehouse talks to, as a real server: the two
// verification operations of the Greengrass data plane over mutual TLS, answered from a
// registry of things, certificates and attachments that can be changed, broken and taken
// offline while it runs. It keeps to AWS's order of checks, error names and headers
// (cloud spec 1.2, 1.4, 1.7), so that a client that works here fails only where AWS's own
// paths differ, which are not published (see cloudsync.DefaultRoutes).
//
// A control socket steers it from the command line and stays reachable while the
// emulated cloud is off.
package awsemu
