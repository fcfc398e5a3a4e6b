package mochi

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// retained remembers whose message each topic retains, so that messages go with their
// publisher's rights (reliability spec 1.3, Mosquitto CVE-2018-12546) and nobody fills
// the memory with them.
type retained struct {
	b *Broker

	mu     sync.Mutex
	owner  map[string]string              // topic to client id
	topics map[string]map[string]struct{} // client id to topics
}

// OnRetainMessage notes a message that was retained, or removed by an empty one.
func (h *hook) OnRetainMessage(cl *mqtt.Client, pk packets.Packet, result int64) {
	if result != 1 {
		h.b.retained.forget(pk.TopicName)
		return
	}
	h.b.retained.add(cl.ID, pk.TopicName)
	l := linkOf(cl)
	if l == nil {
		return
	}
	// It was allowed a moment ago, and judge may have looked before it was listed.
	if d := l.session.Publish(pk.TopicName); d == client.Denied || d == client.Closed {
		h.b.retained.remove(pk.TopicName)
	}
}

// OnRetainedExpired notes that the message of topic is gone.
func (h *hook) OnRetainedExpired(topic string) { h.b.retained.forget(topic) }

// room reports whether id may retain a message on topic.
func (r *retained) room(id, topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	owner, exists := r.owner[topic]
	return (exists || len(r.owner) < r.b.cfg.Limits.Retained) &&
		(owner == id || len(r.topics[id]) < r.b.cfg.Limits.RetainedByClient)
}

func (r *retained) add(id, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(topic)
	r.owner[topic] = id
	if r.topics[id] == nil {
		r.topics[id] = make(map[string]struct{})
	}
	r.topics[id][topic] = struct{}{}
}

func (r *retained) forget(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(topic)
}

func (r *retained) forgetLocked(topic string) {
	id, ok := r.owner[topic]
	if !ok {
		return
	}
	delete(r.owner, topic)
	if delete(r.topics[id], topic); len(r.topics[id]) == 0 {
		delete(r.topics, id)
	}
}

// of returns the topics that retain a message of id.
func (r *retained) of(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.topics[id]))
}

// drop removes all retained messages of id.
func (r *retained) drop(id string) {
	for _, topic := range r.of(id) {
		r.remove(topic)
	}
}

// judge removes the retained messages of l's client that it may not publish any more.
func (r *retained) judge(l *link) {
	for _, topic := range r.of(l.cl.ID) {
		if l.session.Publish(topic) == client.Denied {
			r.remove(topic)
		}
	}
}

// remove removes the message that topic retains.
func (r *retained) remove(topic string) {
	server := r.b.server
	server.Topics.RetainMessage(packets.Packet{ // one without payload removes: MQTT 5, 3.3.1.3
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true},
		TopicName:   topic,
	})
	atomic.StoreInt64(&server.Info.Retained, int64(server.Topics.Retained.Len()))
	r.forget(topic)
}
