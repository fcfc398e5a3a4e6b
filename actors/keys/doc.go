// Package keys holds the private keys: those of the certificate authority, that of the
// event log's checkpoints, and the certificate a server currently shows.
//
// Everything else sees the port Keys. In production a Store stands behind it, a
// directory; in simulation a Seeded, whose keys follow from a seed.
//
// A key is named by its public half, and whoever asks says which certificates the log
// knows. So a key store that lost a key, was put beside another log, or is locked by
// another passphrase refuses, and never quietly makes a new authority that no device
// would trust (reliability spec C-I4).
//
// Custom opens an authority that the operator brings: from files, or in a PKCS#11 token,
// which is reached through a program of its own (helper).
package keys
