// Package registration judges devices that nobody registered: whether a certificate was
// signed by an authority whose devices may register, what the rules of the operator make of
// it, and what the cloud is to be told (cloud spec 4.3 to 4.5). Judgement is pure: who hears
// of a device, and who tells the cloud, is elsewhere.
//
// What a certificate says of itself is a stranger's text, although an authority signed it. It
// reaches names, attributes and policies through variables alone, each value of which is
// checked for where it goes.
package registration
