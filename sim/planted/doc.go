// Command planted tests the tests: it plants bugs in the safety-relevant code, one at a
// time, and lets the simulator and then the packages' tests hunt each (reliability spec
// 2.3 G).
//
//	go run ./sim/planted                     all of them: an hour or two on two cores
//	go run ./sim/planted -only ack-early,…   some
//	go run ./sim/planted -keep               and keep small plans as regression seeds
//	go run ./sim/planted -seeds 0 -test 0    do the kept plans find their bugs still?
//
// The tree stays as it is: the go command gets each bug as an overlay. It prints one row a
// bug, and ends with 1 if one that is marked security, or more than one in twenty, was not
// found.
package main
