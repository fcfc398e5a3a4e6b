// Package control is what the clients of AWS' control planes have in common: stock SDK
// clients signed with Signature Version 4, over HTTPS that is as strict as the data
// plane's, and one reading of what went wrong.
//
// It stands below the SDK: what an SDK client gets to decode is a whole answer of a
// verified server that is one JSON object without ambiguity, or an error.
package control
