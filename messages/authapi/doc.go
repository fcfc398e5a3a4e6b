// Package authapi is the protocol brokers speak with Gatehouse: subjects, JSON bodies,
// errors and pushes over NATS, with the names of the Greengrass client device auth IPC.
// It does no I/O. This page is the protocol's documentation for broker authors;
// [Schemas] holds a JSON Schema of every message.
//
// # Requests
//
// A broker named b sends a NATS request to gatehouse.v1.b.<op> and asks for the reply
// inside its own inbox, _INBOX_b.>. A request whose reply subject lies elsewhere is
// dropped without an answer. Each request needs a reply subject of its own, as NATS
// libraries make them: the server lets the daemon answer on it once.
//
//	op            request                                        reply
//	verify        credential.clientDeviceCertificate             isValidClientDevice
//	token         credential.mqttCredential{clientId,            clientDeviceAuthToken
//	              certificatePem, username, password}
//	authorize     clientDeviceAuthToken, operation, resource     isAuthorized, asOf, policyRevision
//	authenticate  clientId, certificatePem                       isConnectAuthorized, clientDeviceAuthToken,
//	                                                             permissions, expiresAt, cacheTtlMs, …
//	permissions   clientDeviceAuthToken                          as authenticate, compiled afresh
//	close         clientDeviceAuthToken                          {}
//
// authenticate is verify, token, the connect decision and all permissions in one call;
// with it a broker needs one call per connection and answers publishes and subscribes
// itself. A broker that asks for each action uses token and authorize.
//
// An internal component, such as a bridge with a client certificate of the core's own
// authority, is let in by verify and token, whatever it calls itself, and may do
// everything; authorize says so, action by action. authenticate and permissions are for
// devices alone.
//
// A certificate is PEM or the base64 of its DER, at most 16 KiB, exactly one. A body is
// one JSON object of at most 64 KiB, at most eight deep, in UTF-8, no name twice in one
// object; unknown names are ignored.
//
// Operations and resources of MQTT:
//
//	CONNECT    mqtt:connect    mqtt:clientId:<client id>
//	PUBLISH    mqtt:publish    mqtt:topic:<topic>
//	SUBSCRIBE  mqtt:subscribe  mqtt:topicfilter:<filter>
//
// # Answers and errors
//
// A deny is an answer: isAuthorized false, isConnectAuthorized false or
// isValidClientDevice false. An error carries the headers Nats-Service-Error-Code,
// Nats-Service-Error and Gatehouse-Error, and a body {error, message, retryAfterMs}:
//
//	400  InvalidArguments              the request is malformed; message says how
//	401  InvalidCredential             the certificate is not this client's, or not trusted
//	401  InvalidClientDeviceAuthToken  no such session for this broker: authenticate again
//	403  Unauthorized                  this broker may not make this request
//	429  Busy                          overload: wait retryAfterMs; it is not a deny
//	500  Service                       something failed inside
//	503  NotReady                      starting, stopping, or a log that cannot be written
//
// Whatever is not a readable positive answer (an error, a time-out, no responder,
// a body that does not parse) must be treated as a deny of that action. MQTT 5 brokers
// tell the two apart for the client: Not authorized (0x87) for a deny, Server busy
// (0x89) or Server unavailable (0x88) for Busy, NotReady and a time-out.
//
// # Pushes
//
// The daemon sends to gatehouse.v1.push.b.<push>: session-closed, policy-changed,
// certificate-updated and, every second, heartbeat. All carry epoch and seq ([Stamp]).
// A broker that keeps permissions:
//
//  1. subscribes to gatehouse.v1.push.b.> with one subscription, and waits for the first
//     heartbeat before it trusts what it keeps;
//  2. on session-closed, drops the session with that digest and disconnects the client;
//  3. on policy-changed, drops the permissions of other revisions and asks permissions
//     again when next needed;
//  4. on a new epoch, a seq that is not the next, a heartbeat that is ahead, or a push it
//     cannot read, drops all permissions;
//  5. uses no permissions when the last push is more than five seconds old ([MaxStale]):
//     it asks, and denies if nobody answers.
//
// # Connecting
//
// `gatehouse broker add b` writes b.creds, which every NATS client understands. The
// user in it may publish on gatehouse.v1.b.<op> and hear _INBOX_b.> and
// gatehouse.v1.push.b.>, and nothing else. A NATS server that is not the embedded one
// knows brokers by nkey: there the seed in the file is used, without its JWT.
//
// The auditor hears each event of the log, once it is durable, as JSON on
// gatehouse.v1.events.<kind>. Brokers do not, and nothing is kept for who is away: who must
// miss none reads the log.
//
// With nats.go:
//
//	nc, err := nats.Connect("nats://127.0.0.1:4222",
//		nats.UserCredentials("b.creds"),
//		nats.CustomInboxPrefix("_INBOX_b"))
//	…
//	msg, err := nc.Request("gatehouse.v1.b.authorize",
//		[]byte(`{"clientDeviceAuthToken":"gh1_…","operation":"mqtt:publish","resource":"mqtt:topic:sensors/sensor-1/t"}`),
//		2*time.Second)
//	if err != nil || msg.Header.Get("Nats-Service-Error-Code") != "" {
//		return deny
//	}
//
// With nats.js:
//
//	const nc = await connect({
//	  servers: "nats://127.0.0.1:4222",
//	  authenticator: credsAuthenticator(await readFile("b.creds")),
//	  inboxPrefix: "_INBOX_b",
//	});
//	const msg = await nc.request("gatehouse.v1.b.authenticate",
//	  JSON.stringify({ clientId: "sensor-1", certificatePem }), { timeout: 2000 });
//	if (msg.headers?.get("Nats-Service-Error-Code")) throw new Error(msg.headers.get("Gatehouse-Error"));
//	const grant = msg.json();
//
// Go programs have all of this, with a permission cache, in package
// actors/brokers/client.
package authapi
