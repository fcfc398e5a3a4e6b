// Package registrar makes devices known that nobody registered, in AWS IoT, by the rules of
// messages/registration (cloud spec 4.4): it hears of them over MQTT, from listings of what is
// pending, and from the edge, and takes each through the same steps, the last of which makes
// its certificate ACTIVE.
//
// Every step may be repeated: what is there already is left as it is. A candidate is judged
// anew at each try, and only a certificate that is pending, or that this registrar itself has
// registered, is ever made ACTIVE: whoever set another status has decided already. Nothing a
// device or the cloud says makes more of a device than its rule does, and what goes wrong
// leaves it as it was.
package registrar
