// Command crash crashes Gatehouse for real and looks at what is left: processes that are
// killed at each step of an append and at random, power cuts on a disk of its own, damaged
// and swapped files, system calls that fail, disks that are full or slow, two processes in
// one directory, restored old copies, handlers that panic (reliability spec 2.3, A and E).
//
//	go run ./sim/crash                   the size that CI runs
//	go run ./sim/crash -only A1,A4 -v    some rows, and what they do
//	go run ./sim/crash -night -json      the long size, for machines to read
//
// It prints a table: what was done how often, how much of it was acknowledged before, and
// what was lost (nothing may be), done twice (nothing) or not detected (nothing). README.md
// has the table of the last long run. It needs Linux and root, mkfs.ext4 and strace; what it
// mounts, it unmounts, also when it is interrupted.
//
// The product under test is the product: the daemon's own program, or the log, host,
// deciders and read models that it is made of, in a process of its own (node.go).
package main
