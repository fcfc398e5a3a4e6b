// Package dst breaks a whole Gatehouse under a seed. The product's own code runs on one
// goroutine in virtual time; all chance comes from the seed. A run is a value:
//
//	Config ──PlanOf──► Plan ──Play──► Result
//
// A Plan is everything that will be done to the system, as data. Sim carries it out; an
// observer outside sees what devices, brokers and operators see, the true time and what is
// on record, has its own truth of who may what, and holds the invariants after every step.
// The same plan gives the same trace.
package dst
