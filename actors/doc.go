// Package actors is the running system: every entity an actor around its pure decider,
// one host that recovers it, decides, appends, folds, acts and replies, a router that
// finds it, and the clock it is judged by. It is the only package that knows
// Proto.Actor.
//
// The order is the whole point. For one input the host
//
//  1. asks the decider, with the facts of the moment;
//  2. applies what restricts to the read models (deny early);
//  3. appends the events and waits until they are durable;
//  4. folds them into the entity, the log having applied them to the read models
//     (allow late);
//  5. runs the effects, then replies.
//
// So an answer is never seen by anyone before the events it rests on are on disk, and
// a crash between any two steps loses nothing that was acknowledged.
package actors
