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

// retained remembers whose message each topic retains and how large it is, so that
// messages go with their publisher's rights (reliability spec 1.3, Mosquitto
// CVE-2018-12546) and nobody fills the memory with them.
type retained struct {
	b *Broker

	mu      sync.Mutex
	kept    map[string]kept    // by topic
	holders map[string]*holder // by client id
	bytes   int                // of all
}

type kept struct {
	owner string // client id
	bytes int
}

type holder struct {
	topics map[string]struct{}
	bytes  int
}

// sizeOf is how many bytes a message retained on topic holds.
func sizeOf(topic string, payload []byte, p *packets.Properties) int {
	const property = 32 // beside its text, which may be empty
	n := len(topic) + len(payload) + len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData)
	for _, u := range p.User {
		n += property + len(u.Key) + len(u.Val)
	}
	return n
}

// OnRetainMessage notes a message that was retained, or removed by an empty one.
func (h *hook) OnRetainMessage(cl *mqtt.Client, pk packets.Packet, result int64) {
	if result != 1 {
		h.b.retained.forget(pk.TopicName)
		return
	}
	h.b.retained.add(cl.ID, pk.TopicName, sizeOf(pk.TopicName, pk.Payload, &pk.Properties))
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

// room reports whether id may retain a message of size bytes on topic.
func (r *retained) room(id, topic string, size int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	limits := &r.b.cfg.Limits
	before, replaces := r.kept[topic]
	var own holder
	if h := r.holders[id]; h != nil {
		own = *h
	}
	ours := 0 // bytes of id's own message that this one replaces
	if before.owner == id {
		ours = before.bytes
	}
	return (replaces || len(r.kept) < limits.Retained) &&
		(before.owner == id || len(own.topics) < limits.RetainedByClient) &&
		r.bytes-before.bytes+size <= limits.RetainedBytes &&
		own.bytes-ours+size <= limits.RetainedBytes/4
}

func (r *retained) add(id, topic string, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(topic)
	h := r.holders[id]
	if h == nil {
		h = &holder{topics: make(map[string]struct{})}
		r.holders[id] = h
	}
	r.kept[topic] = kept{owner: id, bytes: size}
	h.topics[topic] = struct{}{}
	h.bytes += size
	r.bytes += size
}

func (r *retained) forget(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(topic)
}

func (r *retained) forgetLocked(topic string) {
	m, ok := r.kept[topic]
	if !ok {
		return
	}
	delete(r.kept, topic)
	r.bytes -= m.bytes
	h := r.holders[m.owner]
	h.bytes -= m.bytes
	if delete(h.topics, topic); len(h.topics) == 0 {
		delete(r.holders, m.owner)
	}
}

// of returns the topics that retain a message of id.
func (r *retained) of(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.holders[id]
	if h == nil {
		return nil
	}
	return slices.Collect(maps.Keys(h.topics))
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
