// Command bench measures Gatehouse beside what it could be made of instead: the comparisons of
// design.md, section 13. It is a module of its own, so that the peers (cedar-go, casbin,
// OPA) never enter the product's go.mod.
//
//	go run . [-quick] [-json] [-only NAME] [-dir DIR] [-profile FILE]
//
// # How each is measured
//
// One process measures both sides of a comparison in turns: a short round of ours, a
// short round of each reference, then again in the opposite order, so that what else the
// machine does hits all of them, and a drift hits both ends. Each turn gives one ratio;
// what is printed is the median of the ratios, and beside it the median of each side's
// own numbers. Before each round the heap is collected, so that nobody pays for the
// garbage of the one before. Absolute numbers belong to the machine and the moment; the
// ratios are what is held. Before anything is measured, both sides must have given the
// right answers; one wrong or missing answer fails the run.
//
//   - authorize: 64 requests in flight on one TCP connection of nats.go to the embedded
//     server; the desk, the read models folded from the log's events, a policy of 1,000
//     statements, sessions of 1,000 devices opened by the entities, every request another
//     device's. Against it, on the same server and from an identical client, a micro
//     service whose one endpoint sends back the request.
//   - decision: the compiled policy of 1,000 statements (two fifths exact topics, two
//     fifths prefixes, one fifth with the thing's name in it; one request in five is
//     denied) asked in process, single-threaded. The same policy for the peers is in the
//     form each is fastest with: thing names filled in beforehand, requests parsed
//     beforehand, no caches of answers. All peers answer all requests alike before the
//     clock starts.
//   - authenticate: 64 in flight, as authorize, but each request verifies a certificate,
//     opens a session and appends it to the event log on disk, with the cloud away (what
//     is stored decides). Against the same echo, which is sent the same certificate. The
//     sessions of a round are closed after it, outside the clock.
//   - append: 64 writers, each with one event under way, to eventlog.Open's store with
//     everything on: stream versions, Merkle tree, signed checkpoints, Badger behind. The
//     clock stops when the last event is in Badger as well, so no work is left to the
//     reference's round. Against 64 writers whose bytes a leader gathers in the same way
//     (whatever waits goes together) and writes with one pwrite and one fdatasync to a
//     preallocated file; and against 64 concurrent synced transactions of Badger.
//   - refresh: the only row that is not taken in turns, and of one run: a refresh of 100,000
//     devices at 250 questions a second takes minutes. The emulated cloud is another process.
//     Devices connect at a fixed rate before, meanwhile and after; a latency counts from the
//     moment the device was to come.
//   - replay: opening a closed log, verifying all of it, and folding it into the read
//     models, against iterating over the same records, one key each, in a closed Badger.
//   - memory: what the daemon's own process has resident when it has nothing to do, with so
//     many devices on record, each with a session open. With -profile, the heap of a fold of
//     the same log in this process, too.
//   - storm: a fleet that comes back at once to eight brokers, in clients' library and over
//     TCP, with the cloud away; each device tries until it is in, and comes back after what it
//     is told. One wrong answer fails the run. The daemon is a process of its own, the whole
//     fleet is in this one; of one run.
//   - simday: `gatehouse sim run` for a day of a fleet with three outages of the cloud, all
//     checks on, in a process of its own; of one run.
//   - cache: the decision of a broker's client from its copy of the permissions. For
//     information, beside the policy engine asked directly.
package main
