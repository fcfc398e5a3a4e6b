package permission

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// client-device-auth spec 3, rules 1 to 4.
func TestParseRequest(t *testing.T) {
	const op, res = "mqtt:publish", "mqtt:topic:a"
	longName := strings.Repeat("n", MaxResourceBytes-len("mqtt:topic:"))
	tests := []struct {
		name, operation, resource string
		want                      error
	}{
		{"plain", op, res, nil},
		// Rule 1: service:action.
		{"operation empty", "", res, errOperationColon},
		{"operation without colon", "mqtt", res, errOperationColon},
		{"operation with empty service", ":publish", res, errOperationService},
		{"operation with empty action", "mqtt:", res, errOperationAction},
		{"operation with a second colon", "mqtt:publish:x", res, errOperationAction},
		{"operation with star", "mqtt:*", res, errOperationAction},
		{"operation with space", "mqtt:pub lish", res, errOperationAction},
		{"operation with NUL", "mqtt:publish\x00", res, errOperationAction},
		{"operation with digit in service", "mqtt1:publish", res, errOperationService},
		{"operation with dash, underscore, digit", "mqtt:a-b_2", res, nil},
		{"operation of Unicode letters", "été:größe", "été:type:x", nil},
		{"operation of invalid UTF-8", "mqtt:pub\xff", res, errOperationAction},
		{"service of invalid UTF-8", "mq\xff:publish", res, errOperationService},
		{"operation at the limit", "mqtt:" + strings.Repeat("a", MaxOperationBytes-5), res, nil},
		{"operation over the limit", "mqtt:" + strings.Repeat("a", MaxOperationBytes-4), res, errOperationLength},
		// Rule 2: service:type:name.
		{"resource empty", op, "", errResourceColons},
		{"resource with one colon", op, "mqtt:topic", errResourceColons},
		{"resource with empty name", op, "mqtt:topic:", errResourceNoName},
		{"resource with empty type", op, "mqtt::a", errResourceType},
		{"resource with empty service", op, ":topic:a", errResourceService},
		{"type with digit", op, "mqtt:topic2:a", errResourceType},
		{"type with dash", op, "mqtt:topic-filter:a", errResourceType},
		{"name begins with a colon", op, "mqtt:topic::x", nil},
		{"name ends with a colon", op, "mqtt:topic:x:", nil},
		{"name is a space", op, "mqtt:topic: ", nil},
		{"name of all printable ASCII", op, "mqtt:topic: !\"#$%&'()*+,-./0123456789:;<=>?@ABCZ[\\]^_`abcz{|}~", nil},
		{"name with DEL", op, "mqtt:topic:abcdefgh\x7f", errResourceName},
		{"name with DEL among eight", op, "mqtt:topic:abc\x7fdefgh", errResourceName},
		{"name with tab", op, "mqtt:topic:abcdef\tghijk", errResourceName},
		{"name with newline at the end", op, "mqtt:topic:a\n", errResourceName},
		{"name with NUL", op, "mqtt:topic:a\x00b", errResourceName},
		{"name with Han", op, "mqtt:topic:導À-baz/#", nil},
		{"name with combining mark", op, "mqtt:topic:e\u0301", nil},
		{"name with connector", op, "mqtt:topic:a\u203fb", nil},
		{"name with joiners", op, "mqtt:topic:a\u200c\u200db", nil},
		{"name with emoji", op, "mqtt:topic:\U0001f600", errResourceName},
		{"name with dash outside ASCII", op, "mqtt:topic:\u2013", errResourceName},
		{"name with byte order mark", op, "mqtt:topic:\ufeffa", errResourceName},
		{"name with no-break space", op, "mqtt:topic:\u00a0", errResourceName},
		{"name with C1 control", op, "mqtt:topic:\u0085", errResourceName},
		{"name with U+FFFD", op, "mqtt:topic:\ufffd", errResourceName},
		{"name with a lone surrogate's bytes", op, "mqtt:topic:\xed\xa0\x80", errResourceName},
		{"name with over-long UTF-8", op, "mqtt:topic:\xc0\xaf", errResourceName},
		{"name at the limit", op, "mqtt:topic:" + longName, nil},
		{"name over the limit", op, "mqtt:topic:" + longName + "n", errResourceLength},
		// Rule 3 before rule 4: a malformed text is denied whatever its service.
		{"malformed and mismatched", "http:get", "mqtt:topic:", errResourceNoName},
		// Rule 4.
		{"services differ", op, "http:path:/a", ErrServiceMismatch},
		{"services differ in case", "MQTT:publish", res, ErrServiceMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRequest(tt.operation, tt.resource)
			if err != tt.want {
				t.Fatalf("ParseRequest(%.80q, %.80q): error %v, want %v", tt.operation, tt.resource, err, tt.want)
			}
			if err == nil && (r.Operation() != tt.operation || r.Resource() != tt.resource || r.Service()+":" != tt.operation[:len(r.Service())+1]) {
				t.Errorf("ParseRequest(%q, %q) = %+v", tt.operation, tt.resource, r)
			}
			if err != nil && err != ErrServiceMismatch && !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
		})
	}
}

// The oracle spells rules 1 and 2 as expressions.
var (
	operationForm = regexp.MustCompile(`^(\p{L}+):[\p{L}\p{Nd}_-]+$`)
	resourceForm  = regexp.MustCompile(`^(\p{L}+):\p{L}+:[ -~\p{L}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+$`)
)

func oracleParse(operation, resource string) error {
	if len(operation) > MaxOperationBytes || len(resource) > MaxResourceBytes || !utf8.ValidString(operation+"\n"+resource) {
		return ErrMalformed
	}
	o, r := operationForm.FindStringSubmatch(operation), resourceForm.FindStringSubmatch(resource)
	switch {
	case o == nil || r == nil:
		return ErrMalformed
	case o[1] != r[1]:
		return ErrServiceMismatch
	}
	return nil
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"mqtt:publish|mqtt:topic:a", ":|::", "mqtt:*|mqtt:topic::", "é:x|é:t:\U0001f600", "a:b|a:b:\x7f1234567\xff"} {
		o, r, _ := strings.Cut(s, "|")
		f.Add(o, r)
	}
	f.Fuzz(func(t *testing.T, operation, resource string) {
		_, err := ParseRequest(operation, resource)
		if want := oracleParse(operation, resource); !errors.Is(err, want) {
			t.Fatalf("ParseRequest(%q, %q) = %v, want %v", operation, resource, err, want)
		}
	})
}
