package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"
)

// Field is one member of an answer's top-level object. Members are kept in order and with
// repeats, so that no decoder's choice among them decides.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields reads an answer's JSON object: nil and no error for an empty body.
func Fields(header http.Header, body []byte) ([]Field, error) {
	if len(bytes.Trim(body, " \t\r\n")) == 0 { // JSON's blanks
		return nil, nil
	}
	if !IsJSON(header.Get("Content-Type")) {
		return nil, fmt.Errorf("content type %.40q, want JSON", header.Get("Content-Type"))
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, errors.New("malformed JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("JSON, but no object")
	}
	fields := []Field{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errors.New("malformed JSON")
		}
		var f Field
		f.Name, _ = name.(string)
		if err := decoder.Decode(&f.Value); err != nil {
			return nil, errors.New("malformed JSON")
		}
		fields = append(fields, f)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("malformed JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return fields, nil
}
