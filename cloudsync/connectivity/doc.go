// Package connectivity asks the Greengrass data plane for the addresses at which client
// devices reach this core, by greengrass:GetConnectivityInfo through the stock SDK client:
// unsigned, with the core's certificate (cloud spec 1.6).
//
// The rule is cloudsync's: only a complete, well-formed answer of the right service counts,
// here for what names stand in the servers' certificates.
//
// It is a package of its own because service/greengrassv2 is slow to build.
package connectivity
