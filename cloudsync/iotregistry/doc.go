// Package iotregistry writes to AWS IoT's registry by its published operations, signed with a
// role's credentials: what the registrar of devices needs, and what registering an authority
// takes (cloud spec 4.1 and 4.3). Each call is one request and is put once.
package iotregistry
