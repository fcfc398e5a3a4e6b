package mochi

import (
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// OnWill decides whether a Will is sent now. mochi cannot be told "no", but a Will
// without topic reaches nobody. Wills with a delay are kept here, because mochi would
// send them without asking again.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	l := linkOf(cl)
	cl.Properties.Will.WillDelayInterval = 0 // this is the goroutine that reads it
	if l == nil || l.kicked.Load() || h.b.wills.wait(l) {
		return mqtt.Will{}, nil
	}
	if d := l.session.Publish(will.TopicName); d != client.Allowed {
		h.b.cfg.Logger.Info("will not sent", "client", cl.ID, "topic", shorten(will.TopicName), "decision", d)
		return mqtt.Will{}, nil
	}
	will.TopicName = strings.Clone(will.TopicName) // of the CONNECT, if it is retained
	will.Retain = will.Retain && h.b.retained.hasRoomFor(cl.ID, will)
	return will, nil
}

// hasRoomFor is room for a Will.
func (r *retained) hasRoomFor(id string, will mqtt.Will) bool {
	return r.room(id, will.TopicName, sizeOf(will.TopicName, will.Payload, &packets.Properties{User: will.User}))
}

// wills are those that wait for their delay to pass, at most one per client id. Their
// sessions at Gatehouse stay open, so that a revocation reaches them.
type wills struct {
	b *Broker

	mu      sync.Mutex
	closed  bool
	waiting map[string]*waitingWill // by client id
}

type waitingWill struct {
	link *link
	will mqtt.Will
	stop func() bool // its timer
}

// wait keeps the Will of l for its delay, if it has one that outlasts its session. It
// fails when too many wait already.
func (w *wills) wait(l *link) bool {
	if l.willDelay == 0 || expires(l.cl) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.waiting) >= w.b.cfg.Limits.Clients || l.kicked.Load() {
		return false
	}
	if earlier := w.waiting[l.cl.ID]; earlier != nil {
		w.remove(earlier)
	}
	entry := &waitingWill{link: l, will: l.will}
	entry.stop = afterFunc(min(l.willDelay, w.b.cfg.Limits.WillDelay), func() {
		if w.take(entry) {
			w.fire(entry)
		}
	})
	w.waiting[l.cl.ID] = entry
	return true
}

// due sends the Will of l, which mochi does not: now, or after its delay.
func (w *wills) due(l *link) {
	if l.will.Flag != 0 && !l.kicked.Load() && !w.wait(l) {
		w.fire(&waitingWill{link: l, will: l.will})
	}
}

// take removes entry, if it still waits.
func (w *wills) take(entry *waitingWill) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[entry.link.cl.ID] != entry {
		return false
	}
	delete(w.waiting, entry.link.cl.ID)
	return true
}

// remove forgets entry and its session. w.mu is held.
func (w *wills) remove(entry *waitingWill) {
	entry.stop()
	delete(w.waiting, entry.link.cl.ID)
	entry.link.session.Close()
}

// owns reports whether a will of l waits, so that its session must stay open.
func (w *wills) owns(l *link) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.waiting[l.cl.ID]
	return entry != nil && entry.link == l
}

// cancel forgets the will of l.
func (w *wills) cancel(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if entry := w.waiting[l.cl.ID]; entry != nil && entry.link == l {
		w.remove(entry)
	}
}

// settle ends the wait of id's will: sent now, or not at all.
func (w *wills) settle(id string, send bool) {
	w.mu.Lock()
	entry := w.waiting[id]
	if entry != nil {
		entry.stop()
		delete(w.waiting, id)
	}
	w.mu.Unlock()
	switch {
	case entry == nil:
	case send:
		w.fire(entry)
	default:
		entry.link.session.Close()
	}
}

// fire sends a will that is not waiting any more, if that is still allowed.
func (w *wills) fire(entry *waitingWill) {
	l, will := entry.link, entry.will
	defer l.session.Close()
	if l.session.Publish(will.TopicName) != client.Allowed {
		w.b.cfg.Logger.Info("will not sent", "client", l.cl.ID, "topic", shorten(will.TopicName))
		return
	}
	sender := w.b.server.NewClient(nil, listenerID, l.cl.ID, true)
	sender.Properties.ProtocolVersion = l.cl.Properties.ProtocolVersion
	err := w.b.server.InjectPacket(sender, packets.Packet{
		FixedHeader: packets.FixedHeader{
			Type: packets.Publish, Qos: will.Qos,
			Retain: will.Retain && w.b.retained.hasRoomFor(l.cl.ID, will),
		},
		TopicName:  strings.Clone(will.TopicName),
		Payload:    will.Payload,
		PacketID:   uint16(will.Qos), // only 0 means none, and nobody acknowledges it
		Properties: packets.Properties{User: will.User},
	})
	if err != nil {
		w.b.cfg.Logger.Warn("will not sent", "client", l.cl.ID, "err", err)
	}
}

// drop forgets all wills.
func (w *wills) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, entry := range w.waiting {
		w.remove(entry)
	}
}
