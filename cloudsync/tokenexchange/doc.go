// Package tokenexchange gives local programs the AWS credentials of the core's role, so that
// none of them stores any: what Greengrass calls the token exchange service (cloud spec 2, 3).
//
// A Provider asks the IoT credentials provider, as the core. A Cache holds the one set that
// is current, fetched before anyone asks and renewed before it ends. An Exchange says who got
// it and puts that on record. A Server hands it out at a loopback address to programs that
// show a consumer's token, in the form in which AWS's SDKs ask for it.
//
// Lifetimes are counted by the time since the machine's start, from what the cloud's own clock
// said was left: no jump of the machine's wall clock makes a set live longer, or drops one.
// A failure never takes back what was handed out, and never makes it last longer.
package tokenexchange
