// Package iotpolicy is AWS IoT's policy language as values: documents, and what they say
// of one request (cloud spec 8.1, 8.2). The emulated cloud enforces policies with it, and
// the trace reads them with it.
//
// A document that is not understood whole is an error, never a policy with less in it.
// Where AWS leaves open what is meant, an Allow does not apply and a Deny does.
//
// It does no I/O and has no clock.
package iotpolicy
