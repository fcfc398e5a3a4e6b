// Package shadow is AWS IoT's device shadow as a value: desired and reported state with
// the time of each leaf's last change, and what the service says when it is read, changed
// or deleted (cloud spec 5).
//
// Nothing here does any I/O or knows a clock; a Shadow is never changed in place.
package shadow
