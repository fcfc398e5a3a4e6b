// Package scenario reads and plays files of scenarios: what happens to a core and its
// cloud, and what is to come of it, in the shape of the reference's offline-trust.json.
// Each scenario is played in a world of its own (package world): real actors, log and
// cloud client, the emulated cloud, and a machine whose time moves only between events.
//
// A file is JSON or YAML. Times are seconds from the beginning of the scenario. Every
// event may say when it happens ("at"); time then passes until that moment, and what
// becomes due happens on the way. Without it the event happens at once. The kinds of
// events are the table kinds, of which Help and Schema are made.
package scenario
