// Package provisioning reads AWS IoT's provisioning templates and says what they make of
// a device's parameters: a thing, a certificate, policies (cloud spec 4.5). Nothing here does any
// I/O or knows a registry: a Template is a document, a Plan what is to be done.
//
// Of AWS's language it knows what just-in-time provisioning and RegisterThing use:
// parameters with defaults, {"Ref": "Parameter"} wherever a text stands, and what is to
// happen to what is there already. Everything else is refused, with its place.
package provisioning
