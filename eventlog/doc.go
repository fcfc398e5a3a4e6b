// Package eventlog is the append-only, Merkle-hashed event log of one core: the truth
// from which everything else is folded.
//
// An append is durable when its group is in the journal: two preallocated files,
// written in turn, one write and one fdatasync a group. Badger gets the records behind
// it, in large transactions, and holds the whole log with its indexes. So the tail is
// always in two places. Opening compares HEAD, journal and Badger, repairs what the
// journal can repair, and refuses the rest (recover.go has the table): a log never
// opens with fewer records than were acknowledged.
//
// # Directory
//
//	LOCK         flock, taken before any other file is touched, as one on the directory; empty
//	HEAD         a lower bound of the log: size, root, journal generation, signed checkpoint
//	journal.0/1  the last groups; generation g is in file g mod 2
//	badger/      all records, index, tree, checkpoints, small snapshots (keys.go)
//	snapshots/   large snapshots, a file each (snapshot_file.go)
//	ballast      disk kept for bad times
//	badger.new, badger.old   an open in progress
//
// The directory has mode 0700. Nothing in it is ever deleted or changed to express
// that something was revoked: that is an event.
//
// # Formats
//
// Integers are big-endian. HEAD and the head of a journal file are slot pairs
// (slots.go): two copies of 4,096 bytes, each under a CRC32C and with a format number,
// written one after the other, so that a crash or one damaged byte leaves one copy.
//
//	HEAD          size 8 | root 32 | generation 8 | journal bytes 8 | ballast bytes 8 |
//	              clean 1 | length 2 | checkpoint
//	journal head  generation 8 | first sequence number 8 | root before it 32 |
//	              records in Badger 8 | root over them 32
//	journal data  frames in sectors of 512 bytes (frame.go)
//	entry         length 4 | 0x00 | record (messages.AppendRecord); in frames and blocks
//	Badger        keys.go and snapshot.go
//
// A record's leaf hash is SHA-256(0x00 ‖ record), the tree is RFC 6962's, hashes are
// stored in the order of golang.org/x/mod/sumdb/tlog, checkpoints are C2SP
// tlog-checkpoints. The bytes that are hashed are the bytes that are stored.
//
// # What happens at a crash
//
// "Crash" is SIGKILL or a power cut. B is what Badger has, N the last whole frame.
// Options.Step hears of these moments, so that sim/crash can crash in each.
//
//  1. While a group is built. Nothing of it is on disk. Nobody was told.
//  2. While its frame is written. Some of its sectors are new, the others zero or of an
//     earlier generation: torn, dropped at open. Nobody was told.
//  3. After fdatasync, before or while callers are told. The frame is whole: the group
//     is in the log. A caller that was not told and repeats the append gets its records.
//  4. After an fdatasync that failed. Nobody knows. The log refuses everything, the
//     process ends; the next one finds the frame whole, torn or not there. It is never
//     synced a second time: the kernel may have dropped the pages and say that all is well.
//  5. While Badger is fed. Transactions are synced in order, so Badger has a prefix of
//     what it was given; the rest, B+1..N, comes from the journal.
//  6. While Badger flushes or compacts. Its files may be in any state that Badger
//     recovers from; what it recovers is checked for completeness like any other content.
//  7. While a generation begins: (a) before its head is durable: one copy of the old head
//     is left, the file still is the generation before last, whose records Badger has;
//     (b) before HEAD names it: HEAD is one generation behind, which is allowed; (c)
//     after: as 1. A frame is written only after (c).
//  8. While HEAD is rewritten. One copy is whole: the old bound or the new one, both true.
//  9. While a log is created. HEAD comes last, by rename. Without HEAD there must be
//     nothing but an unused journal, else HEAD was lost and the open is refused.
//  10. While a log is opened. Badger's working copy is made beside it, of other names
//     for its tables and copies of its MANIFEST and the checked part of its write-ahead
//     logs. Until "badger" is renamed to "badger.old" nothing has changed; between the
//     two renames "badger.old" is whole and used again; after them "badger" is, and
//     compactions, which truncate shared tables, run only when "badger.old" is gone.
//     Records repaired from the journal are durable in Badger before the journal goes on;
//     where space does not allow that, the journal goes on in the same generation.
//  11. While a log is closed. Badger flushes, then HEAD gets its clean mark. Without the
//     mark it is a crash, with it the log must end exactly there.
//  12. While a snapshot is written. The old one is whole until the new one, durable by
//     then, takes its name. A snapshot that is not whole is ignored.
//
// # What a full disk does
//
// Badger writes through memory maps: on a full disk it is killed by SIGBUS. Before each
// of its transactions there must be room for all it may do until the next (guard,
// space.go). When that is nearly not so, records and grants are refused with ErrFull.
// When it is not so, Badger is not fed any more, and what restricts goes on into the
// journal, which is preallocated and has half a file left at least, since the other
// classes wait when more than half of one is not in Badger. When the journal is full as
// well, the ballast is released, and in the end everything is refused. A log opens with
// nothing free, if the ballast is there: it may then find Badger without room to run, and
// leaves it frozen until there is.
//
// # What is assumed
//
//   - fdatasync and msync return when the bytes are on stable storage. A disk that says
//     so and loses them is noticed only when HEAD or Badger knows better.
//   - A sector of 512 bytes is written whole or not at all, and writing some sectors does
//     not damage others (SQLite calls it powersafe overwrite). If that is not so, the
//     result is a refused open, not a shorter log.
//   - rename is atomic, and a file system orders the creation of a file before a later
//     removal of another in the same directory (ext4, xfs, btrfs and tmpfs do).
//   - flock works, or nobody else opens the directory: not NFS.
//   - Nobody takes the whole reserve of space in the milliseconds that a transaction or
//     flush of Badger's takes. Against that only a file system of its own helps.
//   - At most one fault at a time: two, such as HEAD and journal put back together to an
//     old state, look like an old log. Checkpoints published elsewhere show it, and
//     Verify against them.
//   - Whoever can write the directory can replace the whole of it; signatures make that
//     visible only to those who kept a checkpoint.
package eventlog
