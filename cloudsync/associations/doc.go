// Package associations lists the client devices that are associated with this core, by
// greengrass:ListClientDevicesAssociatedWithCoreDevice with the token exchange role's
// credentials, through the stock SDK client.
//
// What is not on the list loses what is stored about it (client-device-auth spec 5.5), so
// half a list must never pass for a whole one: a listing is Complete only if every page
// was read, in order, to the page without a token, and nothing on them was doubtful
// (reliability spec 2.3, D3c).
//
// It is a package of its own because service/greengrassv2 is slow to build.
package associations
