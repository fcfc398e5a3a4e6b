// Package daemon puts the parts together: the event log, the entities, the read models,
// the cloud, the authority, NATS and the embedded MQTT broker, in the order that lets
// nobody in before everything that could say no is ready.
package daemon
