// Package metrics exports what Gatehouse counts: for Prometheus, and under the
// reference's names, in the periods in which it emits them. It knows no daemon: the
// numbers are handed to it. It is below cmd, since it joins what only cmd sees together
// (desk, system, log, cloud, read models), and knows Prometheus alone, so that the read
// models, which are folded from the log and nothing else, need not.
package metrics
