// Package eventlog is the append-only, Merkle-hashed event log of one core: the
// truth from which everything else is folded.
package eventlog
