package authapi

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// plain says which bytes stand for themselves in a string, read and written alike. Most
// strings hold no others, and certificates are long.
var plain = func() (is [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

// string reads a string and returns its text.
func (r *reader) string() ([]byte, error) {
	if !r.take('"') {
		return nil, errors.New("want a string")
	}
	in, start, ascii := r.in, r.at, true
	for ; r.at < len(in); r.at++ {
		i := r.at // in a register, over what most strings are made of
		for i < len(in) && plain[in[i]] {
			i++
		}
		if r.at = i; i == len(in) {
			break
		}
		switch c := in[i]; {
		case c == '"':
			s := r.in[start:r.at]
			r.at++
			if !ascii && !utf8.Valid(s) {
				return nil, errors.New("string is not UTF-8")
			}
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return nil, fmt.Errorf("string holds the control character %#02x", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, errors.New("string has no end")
}

// escaped reads the string that began at start and has its first escape at r.at.
func (r *reader) escaped(start int) ([]byte, error) {
	from := len(r.scratch)
	r.scratch = append(r.scratch, r.in[start:r.at]...)
	for r.at < len(r.in) {
		c := r.in[r.at]
		r.at++
		switch {
		case c == '"':
			s := r.scratch[from:len(r.scratch):len(r.scratch)]
			if !utf8.Valid(s) {
				return nil, errors.New("string is not UTF-8")
			}
			return s, nil
		case c == '\\':
			if err := r.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, fmt.Errorf("string holds the control character %#02x", c)
		default:
			r.scratch = append(r.scratch, c)
		}
	}
	return nil, errors.New("string has no end")
}

// escape reads what follows a backslash.
func (r *reader) escape() error {
	if r.at == len(r.in) {
		return errors.New("string has no end")
	}
	c := r.in[r.at]
	r.at++
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return r.unicode()
	default:
		return fmt.Errorf("unknown escape \\%c", c)
	}
	r.scratch = append(r.scratch, c)
	return nil
}

// unicode reads the digits of a \u escape and, after a high surrogate, its partner.
func (r *reader) unicode() error {
	u, ok := r.hex4()
	if !ok {
		return errors.New(`want four hex digits after \u`)
	}
	if utf16.IsSurrogate(u) {
		var low rune
		if r.at+2 <= len(r.in) && r.in[r.at] == '\\' && r.in[r.at+1] == 'u' {
			r.at += 2
			low, _ = r.hex4()
		}
		if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
			return errors.New("unpaired surrogate")
		}
	}
	r.scratch = utf8.AppendRune(r.scratch, u)
	return nil
}

func (r *reader) hex4() (rune, bool) {
	if r.at+4 > len(r.in) {
		return 0, false
	}
	var u rune
	for _, c := range r.in[r.at : r.at+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	r.at += 4
	return u, true
}

// number reads a number (RFC 8259, section 6) and returns its text.
func (r *reader) number() ([]byte, error) {
	start := r.at
	r.take('-')
	switch {
	case r.take('0'):
	case r.digits() > 0:
	default:
		return nil, errors.New("want a number")
	}
	if r.take('.') && r.digits() == 0 {
		return nil, errors.New("want digits after '.'")
	}
	if r.take('e') || r.take('E') {
		if !r.take('+') {
			r.take('-')
		}
		if r.digits() == 0 {
			return nil, errors.New("want digits in the exponent")
		}
	}
	return r.in[start:r.at], nil
}

func (r *reader) digits() int {
	start := r.at
	for r.at < len(r.in) && '0' <= r.in[r.at] && r.in[r.at] <= '9' {
		r.at++
	}
	return r.at - start
}
