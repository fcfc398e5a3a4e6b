// Package mochi is an MQTT 5 and 3.1.1 broker, mochi-mqtt, whose every decision is
// Gatehouse's: it asks through a client.Client who may connect, publish and subscribe.
//
// # What is decided when
//
// TLS: a client proves that it has the key of the certificate it presents. Any
// certificate will do here, a self-made one too, or none: whose it is and whether it
// counts is for Gatehouse to say at CONNECT, so that a refused device gets a reason code
// and its refusal is on record. No client without a certificate is ever let in.
//
// CONNECT: Gatehouse authenticates certificate and client id. The Will is authorised, and
// so are the subscriptions that a persistent session would inherit; queued messages that
// are not covered any more are dropped.
//
// PUBLISH and SUBSCRIBE: each topic and each filter.
//
// Delivery: a message goes to a client only if a subscription authorised under the
// permissions now in force matches its topic. When permissions change, each subscription
// is judged again; those refused end, with what was queued for them. Deliveries that fall
// into that moment wait for it. The last look is when the packet is written. What is beyond
// a client's Receive Maximum waits too: see window.
//
// Will: authorised again when it fires, at the end of its delay if it has one.
//
// End of the session at Gatehouse: the client is disconnected at once (MQTT 5: 0x98
// Administrative action), its Will is not sent, its subscriptions, queued messages and
// retained messages are removed: it starts afresh should it ever return.
//
// # Answers
//
//	                     MQTT 5                         MQTT 3.1.1
//	connect denied       CONNACK 0x87                   CONNACK 5
//	Gatehouse busy       CONNACK 0x89                   CONNACK 3
//	no answer            CONNACK 0x88                   CONNACK 3
//	publish denied       PUBACK or PUBREC 0x87          see Config.DisconnectDenied
//	publish, no answer   PUBACK or PUBREC 0x83          disconnected
//	subscribe denied     SUBACK 0x87                    SUBACK 0x80
//	subscribe, no answer SUBACK 0x83                    SUBACK 0x80
//
// A denied publish with QoS 0 is dropped: neither version has an answer to it.
//
// # What it cannot do
//
// A retained message of a client that is not connected when its device loses its rights
// stays until it expires: Gatehouse tells brokers about sessions, and there is none.
// Sessions and retained messages live in memory and end with the process.
package mochi
