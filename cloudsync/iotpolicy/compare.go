package iotpolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func stringEquals(text string) (test, error) {
	return textTest(newLiteral(text), func(s string) string { return s })
}

func stringEqualsIgnoreCase(text string) (test, error) {
	return textTest(newLiteral(text), strings.ToLower)
}

func stringLike(text string) (test, error) {
	p := newPattern(text)
	return func(v *view, value string) (bool, bool) {
		e := p.expand(v)
		return e.matches(value), e.open
	}, nil
}

// textTest compares whole texts after fold.
func textTest(p *pattern, fold func(string) string) (test, error) {
	return func(v *view, value string) (bool, bool) {
		e := p.expand(v)
		return fold(e.String()) == fold(value), e.open
	}, nil
}

func boolean(text string) (test, error) {
	want, err := parseBool(text)
	return func(_ *view, value string) (bool, bool) {
		given, err := parseBool(value)
		return err == nil && given == want, err != nil
	}, err
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%.40q, want true or false", text)
}

func address(text string) (test, error) {
	network, err := netip.ParsePrefix(text)
	if one, oneErr := netip.ParseAddr(text); err != nil && oneErr == nil && one.Zone() == "" {
		network, err = netip.PrefixFrom(one, one.BitLen()), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%.60q, want an IP address or a network such as 10.0.0.0/8", text)
	}
	if addr := network.Addr(); addr.Is4In6() && network.Bits() >= 96 {
		network = netip.PrefixFrom(addr.Unmap(), network.Bits()-96)
	}
	return func(_ *view, value string) (bool, bool) {
		given, err := netip.ParseAddr(value)
		return err == nil && network.Contains(given.Unmap()), err != nil
	}, nil
}

var decimal = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func parseNumber(text string) (float64, error) {
	if decimal.MatchString(text) {
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%.40q, want a number", text)
}

// numeric compares numbers: holds gets how the request's is ordered to the policy's.
func numeric(holds func(order int) bool) func(string) (test, error) {
	return func(text string) (test, error) {
		bound, err := parseNumber(text)
		return func(_ *view, value string) (bool, bool) {
			given, err := parseNumber(value)
			return err == nil && holds(cmp.Compare(given, bound)), err != nil
		}, err
	}
}

// parseDate reads a date as IAM takes them: ISO 8601, or seconds since 1970.
func parseDate(text string) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q, want a date such as 2026-11-22T12:00:00Z", text)
}

func date(holds func(order int) bool) func(string) (test, error) {
	return func(text string) (test, error) {
		bound, err := parseDate(text)
		return func(_ *view, value string) (bool, bool) {
			given, err := parseDate(value)
			return err == nil && holds(given.Compare(bound)), err != nil
		}, err
	}
}

// arnParts is how many parts of an ARN are compared one by one.
const arnParts = 6

// arnLike compares ARNs part by part: a wildcard does not reach beyond its part.
func arnLike(text string) (test, error) {
	whole := newPattern(text)
	parts := whole.split(':', arnParts)
	if len(parts) != arnParts && text != "*" {
		return nil, fmt.Errorf("%.100q, want an ARN such as arn:aws:iot:*:*:thing/*", text)
	}
	return func(v *view, value string) (bool, bool) {
		given := strings.SplitN(value, ":", arnParts)
		if len(given) != arnParts {
			return false, true
		}
		fits, open := true, false
		for i, part := range parts {
			if len(parts) == 1 {
				break
			}
			e := part.expand(v)
			fits, open = fits && e.matches(given[i]), open || e.open
		}
		return fits, open
	}, nil
}

// split cuts a pattern at a character of its own text, into at most n.
func (p *pattern) split(at byte, n int) []*pattern {
	all := []*pattern{{}}
	for _, one := range p.parts {
		for one.kind == literal && len(all) < n {
			before, after, found := strings.Cut(one.text, string(at))
			if !found {
				break
			}
			all[len(all)-1].literal(before)
			all, one.text = append(all, &pattern{}), after
		}
		last := all[len(all)-1]
		last.parts = append(last.parts, one)
	}
	return all
}
