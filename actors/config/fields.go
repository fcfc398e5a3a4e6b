package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// The readers of Gatehouse's own values. Each leaves *value alone when the key is
// absent, and reports what it cannot take.

// string reads text that is not empty.
func (o object) string(key string, value *string) {
	n, path := o.scalar(key, "text")
	if n == nil {
		return
	}
	if strings.TrimSpace(n.Value) == "" || strings.ContainsFunc(n.Value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		o.r.fail(KindValue, n, path, quoted(n)+" is empty or holds control characters", "text", "remove the key to use its default")
		return
	}
	*value = n.Value
}

// choice reads one of a few words.
func (o object) choice(key string, value *string, words ...string) {
	n, path := o.scalar(key, "one of "+strings.Join(words, ", "))
	if n == nil {
		return
	}
	if !slices.Contains(words, n.Value) {
		o.r.fail(KindValue, n, path, quoted(n)+" is not known", "one of "+strings.Join(words, ", "), didYouMean(nearest(n.Value, words)))
		return
	}
	*value = n.Value
}

// list reads a list of texts without blanks; one text is a list of one.
func (o object) list(key string, values *[]string) {
	const itemsMax = 32 // the names one certificate takes
	n, path := o.get(key)
	if n == nil {
		return
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) > itemsMax {
		o.r.fail(KindValue, n, path, fmt.Sprintf("%d values", len(items)), fmt.Sprintf("at most %d", itemsMax), "")
		return
	}
	*values = nil
	for i, item := range items {
		if item.Kind != yaml.ScalarNode || item.Value == "" || strings.ContainsFunc(item.Value, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			o.r.fail(KindValue, item, path+"["+strconv.Itoa(i)+"]", quoted(item)+" is no name or address", "text without blanks", "")
			continue
		}
		*values = append(*values, item.Value)
	}
}

// address reads a listen address: host:port, :port or [v6]:port.
func (o object) address(key string, value *string) {
	o.checked(key, value, "host:port, such as 127.0.0.1:8883", func(text string) bool {
		_, port, ok := splitHostPort(text)
		return ok && port != ""
	})
}

// host reads the name of a server, with or without a port.
func (o object) host(key string, value *string, example string) {
	o.checked(key, value, "a host name without scheme and path, such as "+example, func(text string) bool {
		host, _, ok := splitHostPort(text)
		return ok && host != ""
	})
}

// url reads a URL with one of the schemes.
func (o object) url(key string, value *string, schemes ...string) {
	o.checked(key, value, "a URL starting with "+strings.Join(schemes, ":// or ")+"://", func(text string) bool { return isURL(text, schemes) })
}

// servers reads URLs of one NATS cluster, separated by commas. Those behind the first may
// lack their scheme, as NATS has it.
func (o object) servers(key string, value *string, schemes ...string) {
	expected := "a URL starting with " + strings.Join(schemes, ":// or ") + "://, without user and password, or several of one cluster separated by commas"
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	for i, one := range strings.Split(n.Value, ",") {
		one = strings.TrimSpace(one)
		if i > 0 && !strings.Contains(one, "://") {
			one = schemes[0] + "://" + one
		}
		if !isURL(one, schemes) {
			o.r.fail(KindValue, n, path, "the value cannot be used (it is not shown: it may hold a password)", expected, "what authenticates belongs in the file that creds names")
			return
		}
	}
	*value = n.Value
}

// isURL says whether text is a URL with one of the schemes, and surely names no user.
func isURL(text string, schemes []string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != "" && !strings.Contains(text, "@")
}

// urlPath reads the path of an operation.
func (o object) urlPath(key string, value *string) {
	o.checked(key, value, "a path starting with /", func(text string) bool {
		u, err := url.Parse(text)
		return err == nil && strings.HasPrefix(text, "/") && u.Host == "" && u.Fragment == ""
	})
}

// thing reads the name of an AWS IoT thing.
func (o object) thing(key string, value *string) {
	o.checked(key, value, "1 to 128 of A-Z a-z 0-9 : _ -", func(text string) bool {
		_, err := messages.ParseThingName(text)
		return err == nil
	})
}

func (o object) checked(key string, value *string, expected string, ok func(string) bool) {
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	if !ok(n.Value) {
		o.r.fail(KindValue, n, path, quoted(n)+" cannot be used", expected, "")
		return
	}
	*value = n.Value
}

// duration reads a Go duration in a sensible range for a time-out.
func (o object) duration(key string, value *time.Duration) {
	expected := "a duration with its unit, such as 5s, up to " + timeoutMax.String()
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil || d <= 0 || d > timeoutMax {
		hint := ""
		if _, err := strconv.ParseUint(n.Value, 10, 32); err == nil {
			hint = "did you mean " + n.Value + "s?"
		}
		o.r.fail(KindValue, n, path, quoted(n)+" cannot be used", expected, hint)
		return
	}
	*value = d
}

// count reads a whole number from 1 to most.
func (o object) count(key string, value *int, most int) {
	expected := fmt.Sprintf("a whole number from 1 to %d", most)
	n, path := o.scalar(key, expected)
	if n == nil {
		return
	}
	number, err := strconv.ParseUint(n.Value, 10, 31)
	if err != nil || number < 1 || number > uint64(most) {
		o.r.fail(KindValue, n, path, quoted(n)+" cannot be used", expected, "")
		return
	}
	*value = int(number)
}

// both reports one of two keys that go together.
func (o object) both(a, b string) {
	first, firstPath := o.get(a)
	second, secondPath := o.get(b)
	switch {
	case first != nil && second == nil:
		o.r.fail(policy.KindMissing, first, secondPath, "missing", "a value, since "+a+" is set", "")
	case first == nil && second != nil:
		o.r.fail(policy.KindMissing, second, firstPath, "missing", "a value, since "+b+" is set", "")
	}
}

// splitHostPort parts host and port; both may be empty, and the port may be absent.
// It does not resolve anything.
func splitHostPort(text string) (host, port string, ok bool) {
	if strings.ContainsAny(text, "/@?# \t") || text == "" {
		return "", "", false
	}
	host = text
	if at := strings.LastIndexByte(text, ':'); at >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:at], text[at+1:]
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(number, 10) != port {
			return "", "", false
		}
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		address, err := netip.ParseAddr(inner)
		return inner, port, closed && err == nil && address.Is6()
	}
	return host, port, !strings.ContainsAny(host, ":[]")
}

// loopback says whether a listen address is reached from this machine alone. Names
// but localhost are not looked up: they count as beyond it.
func loopback(listen string) bool {
	host, _, ok := splitHostPort(listen)
	address, err := netip.ParseAddr(host)
	return ok && (host == "localhost" || err == nil && address.IsLoopback())
}

// MarshalJSON prints the time-outs as they are written in the file.
func (c Cloud) MarshalJSON() ([]byte, error) {
	type plain Cloud // without this method
	return json.Marshal(struct {
		plain
		ConnectTimeout string `json:"connectTimeout"`
		RequestTimeout string `json:"requestTimeout"`
		Recheck        string `json:"recheck,omitempty"`
	}{plain(c), c.ConnectTimeout.String(), c.RequestTimeout.String(), recheckText(c.Recheck)})
}

// recheckText prints an interval, and none as nothing.
func recheckText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
