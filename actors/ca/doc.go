// Package ca is the certificate authority as a pure function: which certificates may
// exist, what they look like, and when the next one is due.
//
//	profile, err := ca.NewProfile(ca.ProfileConfig{Usage: ca.Server, Validity: validity})
//	prepared, err := ca.Prepare(profile, ca.Request{...}) // builds the certificate and checks it
//	der, err := ca.Issue(prepared, signer)                // signs exactly what was checked
//
// A Prepared can only come from Prepare, and Issue takes nothing else, so that signing
// something unchecked cannot be written down. Time, serial numbers and public keys are
// arguments; the one private key in sight is behind crypto.Signer.
//
// What there is, is a Book, folded from stream core/ca; Decide says which facts may enter
// it, and Plan what is due: authorities to make and to retire, certificates to issue. Doing
// it is the host's.
//
// The shape of certificates is that of Greengrass (client-device-auth spec 6), with
// its defects mended: serials of 159 bits, signatures by the issuer's key and not by
// the name on its own signature, addresses told from names by a parser, and no
// certificate that outlives its issuer.
package ca
