// Package trace follows the way from a thing to the credentials of its role, link by link:
// thing, certificate and its authority, policies, role alias, role with trust and
// permissions, and what the credentials endpoint says itself (cloud spec 8.3). It says of
// each link whether it holds, names the broken one, and what to do about it.
//
// What is read comes through Reader and Prober, so that the slow SDK clients stay in a
// package of their own (cloudsync/trace/awsreader). What could not be read is unknown, never
// broken. Nothing is changed, and no secret is kept.
package trace
