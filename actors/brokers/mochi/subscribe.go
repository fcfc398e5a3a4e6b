package mochi

import (
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// OnSubscribe decides about each filter of a SUBSCRIBE. Refused ones are replaced by
// their refusal, which OnACLCheck turns down and OnSubscribed turns into the answer.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	l := linkOf(cl)
	allowed := make(map[string]struct{}, len(pk.Filters))
	filters := make(packets.Subscriptions, len(pk.Filters))
	for i, sub := range pk.Filters {
		sub.Filter = strings.Clone(sub.Filter) // it stays, and points into the whole packet
		code := packets.ErrNotAuthorized
		if l != nil {
			code = l.authorize(sub.Filter)
		}
		if code == packets.CodeSuccess {
			allowed[sub.Filter] = struct{}{}
		} else {
			h.b.cfg.Logger.Debug("subscribe refused", "client", cl.ID, "filter", shorten(sub.Filter), "code", code.Reason)
			sub.Filter = refusal(code)
		}
		filters[i] = sub
	}
	if l != nil {
		l.pending.Store(&allowed)
	}
	pk.Filters = filters
	return pk
}

// OnSubscribed puts the reason codes of refused filters into the SUBACK, which shares
// reasonCodes and leaves next, and drops what did not become a subscription after all.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, reasonCodes []byte) {
	l := linkOf(cl)
	if l == nil {
		return
	}
	l.pending.Store(nil)
	for i, sub := range pk.Filters {
		if code, refused := refusalIn(sub.Filter); refused {
			reasonCodes[i] = code
		} else if _, subscribed := cl.State.Subscriptions.Get(sub.Filter); !subscribed {
			l.withdraw(sub.Filter) // mochi had a reason of its own
		} else if !l.has(sub.Filter) { // the permissions changed meanwhile
			h.b.unsubscribe(cl, sub.Filter)
			reasonCodes[i] = packets.ErrNotAuthorized.Code
		}
		if reasonCodes[i] >= packets.ErrUnspecifiedError.Code && cl.Properties.ProtocolVersion < 5 {
			reasonCodes[i] = packets.ErrUnspecifiedError.Code // 3.1.1, 3.9.3
		}
	}
}

// OnUnsubscribed closes what the client unsubscribed from.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	l := linkOf(cl)
	if l == nil {
		return
	}
	for _, sub := range pk.Filters {
		if _, subscribed := cl.State.Subscriptions.Get(sub.Filter); !subscribed {
			l.withdraw(sub.Filter)
		}
	}
}
