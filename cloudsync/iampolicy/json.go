package iampolicy

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// object is a JSON object. Other values are string, json.Number, bool and []any; null is
// refused.
type object map[string]any

// readJSON reads one JSON value in which no object gives a name twice: readers differ in
// which one counts.
func readJSON(text string) (any, error) {
	if len(text) > BytesMax {
		return nil, malformed("%d bytes, at most %d", len(text), BytesMax)
	}
	if !utf8.ValidString(text) {
		return nil, malformed("it is not UTF-8")
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	value, err := readValue(d, depthMax)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("there is something behind the JSON value")
	}
	return value, nil
}

func readValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	switch {
	case err != nil:
		return nil, malformed("invalid JSON at byte %d", d.InputOffset())
	case token == nil:
		return nil, malformed("null at byte %d", d.InputOffset())
	case depth == 0:
		return nil, malformed("nested deeper than %d", depthMax)
	}
	switch token {
	case json.Delim('{'):
		return readObject(d, depth-1)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, err := readValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, end(d)
	}
	return token, nil
}

func readObject(d *json.Decoder, depth int) (any, error) {
	members := object{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, malformed("invalid JSON at byte %d", d.InputOffset())
		}
		if _, twice := members[name]; twice {
			return nil, malformed("%.60q is given twice in one object", name)
		}
		if members[name], err = readValue(d, depth); err != nil {
			return nil, err
		}
	}
	return members, end(d)
}

func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return malformed("invalid JSON at byte %d", d.InputOffset())
	}
	return nil
}
