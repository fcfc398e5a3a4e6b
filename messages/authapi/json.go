package authapi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Limits of a message. They are part of the protocol: a message beyond one is refused
// with InvalidArguments.
const (
	// MaxMessageBytes is the longest body of a request, reply or push.
	MaxMessageBytes = 64 << 10
	maxDepth        = 8  // objects and arrays inside each other
	maxKeys         = 32 // in one object
)

// errTooDeep keeps the recursion of skip bounded.
var errTooDeep = fmt.Errorf("nested deeper than %d", maxDepth)

func errTooLong(n int) error {
	return fmt.Errorf("message is %d bytes, want at most %d", n, MaxMessageBytes)
}

// reader walks one JSON document (RFC 8259) once. It is stricter than encoding/json,
// because two readers of one document must agree on what it says: names match
// exactly, a name may occur once in an object, invalid UTF-8 and unpaired surrogates
// are errors, and nothing may follow the document. Its methods allocate nothing when
// scratch has room; strings are views into the document or into scratch.
type reader struct {
	in      []byte
	at      int
	depth   int
	scratch []byte // where strings with escapes are spelled out
}

// field is a name of an object and what to do with its value.
type field struct {
	name string
	into sink
}

// sink consumes one value.
type sink func(*reader) error

// decode reads body into the sinks of fields. Unknown names are checked and ignored.
func decode(body []byte, fields ...field) error {
	if len(body) > MaxMessageBytes {
		return errTooLong(len(body))
	}
	r := reader{in: body}
	r.space()
	if err := object(fields...)(&r); err != nil {
		return fmt.Errorf("message, byte %d: %w", r.at, err)
	}
	return r.end()
}

// object returns the sink of an object with fields; null counts as absent.
func object(fields ...field) sink {
	return func(r *reader) error {
		if r.null() {
			return nil
		}
		return r.object(func(name []byte) error {
			for _, f := range fields {
				if string(name) == f.name {
					if err := f.into(r); err != nil {
						return fmt.Errorf("%s: %w", f.name, err)
					}
					return nil
				}
			}
			return r.skip()
		})
	}
}

// text returns the sink of a string; null counts as absent.
func text(p *string) sink {
	return func(r *reader) error {
		if r.null() {
			return nil
		}
		b, err := r.string()
		*p = string(b)
		return err
	}
}

// flag returns the sink of a boolean. It must be there as true or false: null is an
// error, so that no doubt reads as an answer.
func flag(p *bool) sink {
	return func(r *reader) error {
		switch {
		case r.literal("true"):
			*p = true
		case r.literal("false"):
			*p = false
		default:
			return errors.New("want true or false")
		}
		return nil
	}
}

// count returns the sink of a whole number from 0 to 2^53-1, the range in which
// JavaScript reads numbers exactly.
func count(p *uint64) sink {
	return func(r *reader) error {
		b, err := r.number()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(b), 10, 53)
		if err != nil {
			return fmt.Errorf("%.40q: want a whole number from 0 to 2^53-1", b)
		}
		*p = n
		return nil
	}
}

// instant returns the sink of an RFC 3339 time; null and "" count as absent.
func instant(p *time.Time) sink {
	return func(r *reader) error {
		var s string
		if err := text(&s)(r); err != nil || s == "" {
			return err
		}
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return fmt.Errorf("%.40q: want an RFC 3339 time", s)
		}
		*p = t.UTC()
		return nil
	}
}

// list returns the sink of an array whose elements each consumes; null counts as
// absent.
func list(each sink) sink {
	return func(r *reader) error {
		if r.null() {
			return nil
		}
		return r.array(func() error { return each(r) })
	}
}

// object reads an object and calls each with every name, in order; each must consume
// the value.
func (r *reader) object(each func(name []byte) error) error {
	if !r.take('{') {
		return errors.New("want an object")
	}
	if r.depth++; r.depth > maxDepth {
		return errTooDeep
	}
	defer func() { r.depth-- }()
	if r.space(); r.take('}') {
		return nil
	}
	var seen [maxKeys][]byte
	for n := 0; ; n++ {
		if n == maxKeys {
			return fmt.Errorf("more than %d names in one object", maxKeys)
		}
		r.space()
		name, err := r.string()
		if err != nil {
			return fmt.Errorf("name: %w", err)
		}
		for _, s := range seen[:n] {
			if bytes.Equal(s, name) {
				return fmt.Errorf("%.40q occurs twice", name)
			}
		}
		seen[n] = name
		if r.space(); !r.take(':') {
			return errors.New("want ':'")
		}
		r.space()
		if err := each(name); err != nil {
			return err
		}
		r.space()
		if r.take('}') {
			return nil
		}
		if !r.take(',') {
			return errors.New("want ',' or '}'")
		}
	}
}

// array reads an array and calls each at every element; each must consume it.
func (r *reader) array(each func() error) error {
	if !r.take('[') {
		return errors.New("want an array")
	}
	if r.depth++; r.depth > maxDepth {
		return errTooDeep
	}
	defer func() { r.depth-- }()
	if r.space(); r.take(']') {
		return nil
	}
	for {
		r.space()
		if err := each(); err != nil {
			return err
		}
		r.space()
		if r.take(']') {
			return nil
		}
		if !r.take(',') {
			return errors.New("want ',' or ']'")
		}
	}
}

// skip reads one value of any kind with all the checks, and forgets it.
func (r *reader) skip() error {
	if r.at == len(r.in) {
		return errors.New("want a value")
	}
	switch c := r.in[r.at]; {
	case c == '{':
		return r.object(func([]byte) error { return r.skip() })
	case c == '[':
		return r.array(r.skip)
	case c == '"':
		_, err := r.string()
		return err
	case c == '-' || '0' <= c && c <= '9':
		_, err := r.number()
		return err
	case r.literal("true"), r.literal("false"), r.literal("null"):
		return nil
	}
	return fmt.Errorf("want a value, got %q", r.in[r.at])
}

func (r *reader) null() bool { return r.literal("null") }

func (r *reader) literal(s string) bool {
	if len(r.in)-r.at < len(s) || string(r.in[r.at:r.at+len(s)]) != s {
		return false
	}
	r.at += len(s)
	return true
}

func (r *reader) take(c byte) bool {
	if r.at < len(r.in) && r.in[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) space() {
	for r.at < len(r.in) {
		switch r.in[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// end checks that nothing follows the document.
func (r *reader) end() error {
	if r.space(); r.at != len(r.in) {
		return fmt.Errorf("message, byte %d: want nothing after the object", r.at)
	}
	return nil
}
