package awsemu

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// FuzzPublish: whatever a caller over HTTPS says of a message and its topic, it is refused,
// or within AWS IoT's bounds; and a topic of the service's own is for a shadow that can be, or
// for a rule.
func FuzzPublish(f *testing.F) {
	b64 := base64.StdEncoding.EncodeToString
	f.Add("factory/pump-7", "contentType=a&responseTopic=b&messageExpiry=60", b64([]byte("x")), b64([]byte(`[{"a":"b"}]`)), "UTF8_DATA")
	f.Add("$aws/things/t/shadow/name/n/update", "", "", "", "")
	f.Add("$aws/things/t/shadow/name/get", "messageExpiry=-1", "!", "[]", "X")
	f.Add("$aws/rules/r/1/2/3/4/5/6/7/8/9", "", "", b64([]byte(`{}`)), "UNSPECIFIED_BYTES")
	f.Add("$share/g/a/#", "", "", "", "")
	f.Fuzz(func(t *testing.T, topic, query, correlation, user, format string) {
		values, _ := url.ParseQuery(query)
		c := &call{query: values, header: http.Header{"X-Amz-Mqtt5-Correlation-Data": {correlation}, "X-Amz-Mqtt5-User-Properties": {user}, "X-Amz-Mqtt5-Payload-Format-Indicator": {format}}}
		if p, problem := messageProperties(c); problem == "" && (p.MessageExpiryInterval > messageExpiryMax || checkTopic("x"+p.ResponseTopic) != "" && p.ResponseTopic != "" && len(p.ResponseTopic) < topicBytesMax) {
			t.Errorf("%+v", p)
		}
		if checkTopic(topic) == "" && (strings.ContainsAny(topic, "+#\x00") || topic == "" || !strings.HasPrefix(topic, "$") && (len(topic) > topicBytesMax || strings.Count(topic, "/") > topicSlashesMax)) {
			t.Errorf("a topic to publish to: %q", topic)
		}
		if op, id, ok := shadowOperation(topic); ok {
			word := map[string]string{"GetThingShadow": "get", "UpdateThingShadow": "update", "DeleteThingShadow": "delete"}[string(op)]
			if id.check() != nil || id.topic(word) != topic || isBasicIngest(topic) {
				t.Errorf("%q is for %s of %v", topic, op, id)
			}
		}
	})
}
