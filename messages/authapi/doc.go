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
//	certificates  certificateOptions.certificateType,            certificate, caCertificates, trustBundle,
//	              certificateSigningRequest or sealTo, held      serialNumber, notAfter, askAgainSeconds, …
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
//	425  Pending                       nobody knew the device; it is being registered: let it come
//	                                   again after retryAfterMs
//	429  Busy                          overload: wait retryAfterMs; it is not a deny
//	500  Service                       something failed inside
//	503  NotReady                      starting, stopping, or a log that cannot be written
//
// Whatever is not a readable positive answer (an error, a time-out, no responder,
// a body that does not parse) must be treated as a deny of that action. MQTT 5 brokers
// tell the two apart for the client: Not authorized (0x87) for a deny, Server busy
// (0x89) or Server unavailable (0x88) for Busy, NotReady, Pending and a time-out. A broker
// that does not know an error takes it for Service.
//
// # Certificates
//
// certificates says "give me my current certificate; I hold the one named". Asking is
// subscribing, acknowledging, mending a lost push and staying subscribed in one, and
// harmless to repeat: the same key gets the same certificate until the next is due. A broker
//
//  1. makes a key, and asks with a certificate signing request in PEM. Of the request only
//     the key counts, and its signature, which proves that the broker holds the private
//     half: the common name is the broker's id, the other names are the core's addresses;
//  2. serves with certificate and caCertificates behind it, in place of what it had, without
//     dropping its clients. trustBundle is what clients must trust: while one authority
//     follows another it holds both;
//  3. asks again with held set to serialNumber, once it really serves with it. Until then
//     the certificate counts as not delivered, and is pushed again each minute;
//  4. asks again every askAgainSeconds, when it connects to NATS again, and when pushes
//     carry a new epoch. A broker that has not asked for five times askAgainSeconds is taken
//     for gone: nothing more is issued to it until it asks;
//  5. takes certificate-updated pushes, which are whole: nothing has to be asked for them
//     but what step 3 says. One with the serial number that is in use brings new authorities.
//
// A key that the daemon makes is for brokers that cannot make a request. Such a broker puts
// sealTo in its place, the public half of an nkeys curve key ("X…"), keeps the seed, and opens
// sealedPrivateKey with it and sealedBy (nkeys Open; the result is PKCS #8 in PEM). Each
// certificate has a key of its own, and a daemon that was started again has forgotten the
// former ones. No private key crosses NATS in the clear. Who can change messages on the way, a NATS
// server that is not to be trusted, could put a curve key of its own in place: a
// signing request has nothing to steal.
//
// A new key costs a new certificate, on record for ever: a broker may have ten at once and
// then one a minute, beyond it is Busy; keep the key over a restart. One name is one holder: two
// processes that ask under the same name take the certificate from each other.
//
// SERVER is for every broker. CLIENT makes its holder an internal component, which may do
// everything; it, and CLIENT_AND_SERVER, are Unauthorized unless an operator has granted them
// (`gatehouse broker add b --certificates server,client`).
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
// A certificate with nats.go, once csrPEM is made by x509.CreateCertificateRequest:
//
//	body, _ := json.Marshal(map[string]any{
//		"certificateOptions":        map[string]string{"certificateType": "SERVER"},
//		"certificateSigningRequest": csrPEM,
//		"held":                      held, // "" before the first
//	})
//	msg, err := nc.Request("gatehouse.v1.b.certificates", body, 10*time.Second)
//
// and one for a sealed key with nats.js (@nats-io/nkeys):
//
//	const curve = createCurve();
//	const msg = await nc.request("gatehouse.v1.b.certificates", JSON.stringify({
//	  certificateOptions: { certificateType: "SERVER" },
//	  sealTo: curve.getPublicKey(),
//	}), { timeout: 10000 });
//	const c = msg.json();
//	const key = curve.open(Buffer.from(c.sealedPrivateKey, "base64"), c.sealedBy);
//
// Go programs have all of this, with a permission cache and a tls.Config that is always
// current, in package actors/brokers/client.
package authapi
