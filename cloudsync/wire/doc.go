// Package wire does single HTTPS exchanges with AWS' services for cloudsync and its
// packages, and says why one failed.
//
// What it returns is a whole answer of a server whose certificate was verified: redirects
// are not followed, nothing is unpacked, sizes and time are bounded, and neither the
// proxy nor the roots of the machine's environment count. Whatever went wrong has a class
// (messages.CloudFailure) and a sentence that says what to do.
package wire
