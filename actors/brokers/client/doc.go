// Package client is a broker's side of the protocol in messages/authapi: it connects to
// Gatehouse over NATS, opens a Session for each connected MQTT client, and answers
// publishes and subscribes from a copy of that session's permissions, without a round
// trip and without allocating.
//
// # What a broker may rely on
//
// Nothing is allowed unless Gatehouse allowed it. An error, a timeout, overload, a daemon
// that is not there: all give Unavailable, which is not Allowed and is kept apart from
// Denied so that a broker can tell its clients to come back instead of to go away.
//
// A cached permission is used only while all of these hold:
//
//   - the last push or heartbeat arrived at most MaxStale ago (5 s by default);
//   - no push was missed since the permissions were asked for: no gap in the sequence
//     numbers, no new epoch, no reconnect to NATS;
//   - no newer policy was announced since they were asked for;
//   - the session has neither been closed nor reached its end (expiresAt), and the
//     permissions are younger than their cacheTtl.
//
// Whatever breaks one of them drops the permissions at once; they are fetched again in
// the background, and until then each decision is put to Gatehouse itself.
//
// # The bound on staleness
//
// While NATS works, a closed session or a new policy is felt as soon as its push
// arrives: one message after Gatehouse decided. Cut off from Gatehouse, a broker goes on
// with what it has for MaxStale after the last message it received, and then denies
// (reliability spec S2, C8). So a revocation is felt at the latest MaxStale plus one
// network transit after it took effect, whatever breaks.
//
// # The broker's own certificate
//
// Client.Certificates keeps the certificate that a broker shows to its devices: signed by
// the core's authority, renewed before it ends and when authority or addresses change. The
// key is made here and stays here.
//
//	certificates, err := c.Certificates(client.CertificatesConfig{})
//	…
//	err = certificates.Ready(ctx)
//	listener, err := tls.Listen("tcp", ":8883", certificates.ServerTLS())
//
// New connections see the new certificate at once, open ones stay. A broker that reads
// files sets Install, or waits for Changed. A push that got lost is missed by its number, or
// mended by the next question; while Gatehouse is away the certificate stays as it is.
package client
