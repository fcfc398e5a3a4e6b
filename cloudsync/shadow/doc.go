// Package shadow keeps a core's addresses as the cloud has them, for the names in its
// servers' certificates. The cloud tells of new ones by a version in the classic shadow of
// the thing named <core>-gci, over MQTT to AWS IoT with the core's certificate; the
// addresses are then asked for, handed on, and the version is reported back
// (client-device-auth spec 6.7, cloud spec 5).
//
// The shadow only says when to ask. Nothing it says, and no failure, takes an address away:
// that is for a complete answer of the service alone. AWS documents a least policy that
// neither lets a core hear why its get was rejected nor report; both are tried, and done
// without.
package shadow
