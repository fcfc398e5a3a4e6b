// Package iotverifier answers the two questions about a client device from AWS IoT's
// control plane, whose operations are published: iot:DescribeCertificate for the identity,
// iot:ListThingPrincipals for the association, with the token exchange role's credentials
// (cloud spec 1.6). It is the alternative to the Greengrass data plane.
//
// The rule is cloudsync's: only a complete, well-formed answer of the right service counts.
// A no needs more here, since a wrong region or account answers every question with one:
// it counts only where the core's own certificate is known.
//
// It is a package of its own because service/iot takes a minute to build.
package iotverifier
