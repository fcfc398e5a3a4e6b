package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// check lets through what the SDK can decode in one way only. empty: a success may say
// nothing.
func check(status int, header http.Header, body []byte, empty bool) error {
	switch {
	case status >= 300 && status <= 399:
		return notService("HTTP %d redirects to %.80q: not followed; set the endpoint to the right host, or pass the captive portal", status, header.Get("Location"))
	case wire.Packed(header):
		return notService("HTTP %d in encoding %.20q, which was not asked for: something stands between the core and the cloud", status, header.Get("Content-Encoding"))
	}
	fields, err := wire.Fields(header, body)
	if err != nil {
		return notService("HTTP %d is no answer of the service (%v): check the endpoint, and for a proxy or captive portal", status, err)
	}
	if _, err := wire.ErrorName(header); err != nil {
		return notService("HTTP %d is no answer of the service: %v", status, err)
	}
	if fields != nil {
		if err := oneMeaning(json.NewDecoder(bytes.NewReader(body))); err != nil {
			return notService("HTTP %d is no answer of the service: %v", status, err)
		}
	}
	if status >= 200 && status <= 299 {
		return checkSuccess(status, header, fields, empty)
	}
	return nil
}

func checkSuccess(status int, header http.Header, fields []wire.Field, empty bool) error {
	named := strings.Join(header.Values("X-Amzn-ErrorType"), "")
	switch {
	case fields == nil && !(empty && wire.FromService(status, header)):
		return notService("HTTP %d without a JSON body: not an answer", status)
	case named != "":
		return notService("HTTP %d with error %.60q: contradicts itself", status, named)
	case slices.ContainsFunc(fields, func(f wire.Field) bool {
		return strings.EqualFold(f.Name, "__type") || strings.EqualFold(f.Name, "code")
	}):
		return notService("HTTP %d with an error's name in it: contradicts itself", status)
	}
	return nil
}

// oneMeaning reads a value of valid JSON, and returns an error if an object in it gives a
// name twice: decoders differ in which one counts, and some of the SDK's take a name in
// any case.
func oneMeaning(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	begin, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	names := map[string]bool{}
	for d.More() {
		if begin == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			text, isText := name.(string)
			if !isText {
				return errors.New("malformed JSON")
			}
			folded := strings.Map(fold, text)
			if names[folded] {
				return fmt.Errorf("it gives %.40q twice", text)
			}
			names[folded] = true
		}
		if err := oneMeaning(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// fold is the least of the letters that encoding/json takes for r.
func fold(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}
