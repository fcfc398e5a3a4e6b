// Package iotmqtt speaks MQTT with AWS IoT for the core: it keeps a connection with the
// core's certificate, connects again and again, and bounds what comes in (cloud spec 0 and 4.4).
// What is said over it is its users' business.
package iotmqtt
