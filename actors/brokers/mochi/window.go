package mochi

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// window holds back messages beyond what a client takes at once (MQTT 5, 3.3.4: Receive
// Maximum), in place of mochi's own flow control: that looks for held back messages under
// a read lock it takes twice (Inflight.NextImmediate), which hangs for ever if a message
// for the client comes between, and it forgets the room that such messages took.
//
// What is held back stays among mochi's messages in flight, so nothing more is stored.
type window struct {
	max int // 0: more than are ever in flight

	mu   sync.Mutex
	out  map[uint16]struct{} // sent, and not acknowledged
	held []heldBack          // not sent, oldest first
}

// heldBack is a message that waits for room.
type heldBack struct {
	id  uint16
	dup bool // it may have been sent on an earlier connection
}

// newWindow makes the window of a client that takes receiveMaximum messages at once, of
// which at most inflightMax are ever in flight; 0: it does not say.
func newWindow(receiveMaximum uint16, inflightMax int) *window {
	w := &window{out: make(map[uint16]struct{})}
	if int(receiveMaximum) < inflightMax {
		w.max = int(receiveMaximum)
	}
	return w
}

// enter reports whether message id may be sent now. If not, next tells when.
func (w *window) enter(id uint16, dup bool) bool {
	if w.max == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.out[id]; ok { // next gave it its place
		return true
	}
	if len(w.out) < w.max && len(w.held) == 0 {
		w.out[id] = struct{}{}
		return true
	}
	if !slices.ContainsFunc(w.held, func(h heldBack) bool { return h.id == id }) {
		w.held = append(w.held, heldBack{id, dup})
	}
	return false
}

// leave gives the place of message id to others.
func (w *window) leave(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.out, id)
}

// next takes the message whose turn it is, if there is room for one.
func (w *window) next() (h heldBack, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 || len(w.out) >= w.max {
		return h, false
	}
	h = w.held[0]
	w.held = w.held[1:]
	w.out[h.id] = struct{}{}
	return h, true
}

// settled makes room for others: message id needs no acknowledgement any more.
func (l *link) settled(id uint16) {
	if l.window.max == 0 {
		return
	}
	l.window.leave(id)
	for {
		h, ok := l.window.next()
		if !ok {
			return
		}
		if !l.sendHeld(h) {
			l.window.leave(h.id)
		}
	}
}

// sendHeld sends a message that was held back, unless it was dropped meanwhile or is not to
// be delivered any more.
func (l *link) sendHeld(h heldBack) bool {
	pk, ok := l.cl.State.Inflight.Get(h.id)
	if !ok || pk.FixedHeader.Type != packets.Publish || !l.delivers(pk.TopicName) {
		return false
	}
	if !fits(l.cl, pk) {
		l.b.discard(l.cl, h.id)
		return false
	}
	pk.FixedHeader.Dup = h.dup
	return l.cl.WritePacket(pk) == nil
}

// fits reports whether the client takes a packet of pk's size. One that it does not is as
// good as delivered (MQTT 5, 3.1.2.11.4).
func fits(cl *mqtt.Client, pk packets.Packet) bool {
	limit := cl.Properties.Props.MaximumPacketSize
	if limit == 0 {
		return true
	}
	var encoded bytes.Buffer
	return pk.PublishEncode(&encoded) == nil && uint32(encoded.Len()) <= limit
}

// discard forgets a message in flight.
func (b *Broker) discard(cl *mqtt.Client, id uint16) {
	if cl.State.Inflight.Delete(id) {
		atomic.AddInt64(&b.server.Info.Inflight, -1)
	}
}

// OnQosComplete hears that a message was acknowledged.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	// A PUBREL is about a message of the client's, whose identifiers are others.
	if l := linkOf(cl); l != nil && (pk.FixedHeader.Type == packets.Puback || pk.FixedHeader.Type == packets.Pubcomp) {
		l.settled(pk.PacketID)
	}
}

// OnQosDropped hears that a message will not be acknowledged: the client refused it, or
// it expired.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) {
	if l := linkOf(cl); l != nil {
		l.settled(pk.PacketID)
	}
}
