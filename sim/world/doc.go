// Package world is one core with its cloud, on a machine whose time moves by hand: actors,
// log, read models and cloud client as the daemon puts them together, against the emulated
// cloud over TLS, with one goroutine that runs every turn of an entity. Nothing in it
// sleeps: it knows when everything that was begun has come to its end, and only then lets
// time pass.
//
// What is not the product's own here: the machine (its clocks, its power), the identities
// of the cloud, and the keeper's steps, which go by how long nothing happens.
package world
