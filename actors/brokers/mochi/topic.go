package mochi

import (
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

const sharePrefix = "$share/"

// checkTopic judges the name to which a client publishes, before anybody is asked.
func (l *Limits) checkTopic(topic string) packets.Code {
	switch {
	case topic == "" || strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic):
		return packets.ErrTopicNameInvalid // MQTT 5, 3.3.2.1 and 1.5.4
	case topic[0] == '$':
		return packets.ErrTopicNameInvalid // the server's own namespace: MQTT 5, 4.7.2
	case len(topic) > l.TopicBytes || strings.Count(topic, "/") >= l.TopicLevels:
		return packets.ErrTopicNameInvalid
	}
	return packets.CodeSuccess
}

// checkFilter judges a topic filter's form, before anybody is asked.
func (l *Limits) checkFilter(filter string) packets.Code {
	inner, shared := innerFilter(filter)
	switch {
	case filter == "" || strings.IndexByte(filter, 0) >= 0 || !utf8.ValidString(filter):
		return packets.ErrTopicFilterInvalid
	case len(filter) > l.TopicBytes || strings.Count(filter, "/") >= l.TopicLevels:
		return packets.ErrTopicFilterInvalid
	case hasSharePrefix(filter) && !shared:
		return packets.ErrTopicFilterInvalid // "$SHARE/…", which mochi takes for "$share/…", or incomplete
	case shared && (inner == "" || hasSharePrefix(inner)):
		return packets.ErrTopicFilterInvalid // "$share/a/$share/b/t"
	case !wildcardsStandAlone(inner):
		return packets.ErrTopicFilterInvalid // MQTT 5, 4.7.1
	}
	return packets.CodeSuccess
}

// hasSharePrefix reports whether mochi takes filter for a shared subscription.
func hasSharePrefix(filter string) bool {
	first, _, _ := strings.Cut(filter, "/")
	return strings.EqualFold(first, "$share")
}

// innerFilter returns the filter inside a shared subscription "$share/group/filter" and
// true, or filter itself and false if it is none.
func innerFilter(filter string) (inner string, shared bool) {
	rest, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return filter, false
	}
	group, inner, ok := strings.Cut(rest, "/")
	if !ok || group == "" || strings.ContainsAny(group, "+#") { // MQTT 5, 4.8.2
		return filter, false
	}
	return inner, true
}

// wildcardsStandAlone reports whether each '+' fills a level and '#' the last one.
func wildcardsStandAlone(filter string) bool {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return false
		}
	}
	return true
}

// matches reports whether filter, without "$share/group/", matches topic (MQTT 5, 4.7).
func matches(filter, topic string) bool {
	if topic == "" || topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false // MQTT 5, 4.7.2
	}
	for {
		if filter == "#" {
			return true
		}
		f, filterRest, filterMore := strings.Cut(filter, "/")
		t, topicRest, topicMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !filterMore && !topicMore:
			return true
		case !topicMore:
			return filterRest == "#" // "a/#" matches "a" too
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
