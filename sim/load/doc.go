// Package load plays brokers and devices against a Gatehouse that runs, and says how it
// held: how long each kind of request took, how many were answered and how, and whether any
// answer was wrong.
//
// It is an open loop: a schedule says when each request is due, whatever became of those
// before, and its time counts from that moment. A server that stands still for a second
// so costs everybody who would have asked meanwhile, as it does in life; a closed loop would
// stand still with it and report one slow request (coordinated omission).
//
// A Mix says what is asked and how often, a Fleet who asks, a Driver carries requests: over
// NATS as brokers do, or over MQTT as devices do. Run puts them together and returns a
// Result. It knows for each request what the answer must be: a yes where a no is due is a
// wrong allow, a no where a yes is due a wrong deny. Busy, a time-out and an error are
// neither.
package load
