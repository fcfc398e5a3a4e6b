// Package concurrency proves, with real parts, what the simulator cannot see: a daemon in
// this process, brokers and operators over NATS sockets, goroutines on every core. Its tests
// hold that
//
//   - histories of revocations, sessions and decisions are linearizable: no allow after an
//     acknowledged revocation (reliability spec 2.3, C3; 3, S1);
//   - a soak with faults leaves no goroutine, no descriptor and no memory behind (E9);
//   - at five times the capacity the answer is Busy, what restricts is not held up, and the
//     overload leaves nothing behind (E5, F6);
//   - a fleet that comes back at once gets in, and nobody who was revoked does (F1 to F3).
//
// They run in a minute, with -short in less. With GATEHOUSE_NIGHT=1 they have the sizes of the specification:
//
//	GATEHOUSE_NIGHT=1 go test -timeout 6h ./cmd/internal/concurrency
//
// A duration, such as GATEHOUSE_NIGHT=10m, is that of the soak, which is 2 h otherwise. What
// takes how long is judged at night alone, and only on a machine that does nothing else.
//
// A history that is not linearizable is drawn: go test -artifacts, and open history.html.
package concurrency
