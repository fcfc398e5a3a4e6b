// Package awsemu is the part of AWS that Gatehouse talks to, as a real server over a
// registry of things, certificates, attachments and associations that can be changed,
// broken and taken offline while it runs:
//
//   - the Greengrass data plane over mutual TLS: the two verification operations and
//     PutCertificateAuthorities, whose paths are Gatehouse's own, since AWS publishes none
//     (cloudsync.DefaultRoutes); connectivity information, and discovery for client devices;
//   - AWS IoT's MQTT endpoint for active certificates, with classic shadows, at a port of
//     its own and, by ALPN, at the data plane's;
//   - the control planes of Greengrass and IoT, at one address (ControlURL), for callers
//     who sign: listing, associating and disassociating client devices, things, their
//     principals, certificates, policies and role aliases. IAM's roles and STS are there,
//     too. Stock clients work against it;
//   - the credentials provider, at an address of its own (CredentialURL).
//
// What a certificate may do its IoT policies say (Emulator.Authorize): at MQTT with those of
// the thing groups of the connection's thing, at the data plane alone. Enroll attaches what
// AWS's installer does, which allows nearly everything.
//
// It keeps to AWS's order of checks, error names, words and headers (cloud spec 1.2, 1.4,
// 1.7, 2, 7). Who signs is an administrator, has assumed a role of the account, by the
// credentials provider or STS, or holds keys of IssueCredentials or Credentials. Each may do
// what the documents of its role say.
//
// It misbehaves as a script of package fault says: requests fail, wait, or get half an
// answer, pages go missing, certificates are wrong.
//
// A control socket steers it from the command line and stays reachable while the
// emulated cloud is off.
package awsemu
