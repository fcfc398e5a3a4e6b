package shadow

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Unix(1_795_262_400, 0)

// same compares JSON texts.
func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if want == "" {
		if got != nil {
			t.Errorf("%s: got %s, want nothing", what, got)
		}
		return
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil || !reflect.DeepEqual(g, w) {
		t.Errorf("%s: got %s (%v), want %s", what, got, err, want)
	}
}

func update(t *testing.T, s *Shadow, payload string, at time.Time) Change {
	t.Helper()
	c, refused := s.Update([]byte(payload), at)
	if refused != nil {
		t.Fatalf("%s: refused with %+v", payload, refused)
	}
	return c
}

func TestLifeOfAShadow(t *testing.T) {
	var s *Shadow
	if _, refused := s.Get("core-1-gci", nil, noon); refused == nil || refused.Code != 404 || refused.Message != "No shadow exists with name: 'core-1-gci'" {
		t.Errorf("before there is one: %+v", refused)
	}
	c := update(t, s, `{"state":{"desired":{"version":"a","net":{"ip":"1","up":true}}},"clientToken":"t1"}`, noon)
	same(t, "accepted", c.Accepted, `{"state":{"desired":{"version":"a","net":{"ip":"1","up":true}}},
		"metadata":{"desired":{"version":{"timestamp":1795262400},"net":{"ip":{"timestamp":1795262400},"up":{"timestamp":1795262400}}}},
		"version":1,"timestamp":1795262400,"clientToken":"t1"}`)
	same(t, "delta", c.Delta, `{"state":{"version":"a","net":{"ip":"1","up":true}},
		"metadata":{"version":{"timestamp":1795262400},"net":{"ip":{"timestamp":1795262400},"up":{"timestamp":1795262400}}},
		"version":1,"timestamp":1795262400,"clientToken":"t1"}`)
	same(t, "documents", c.Documents, `{"previous":{"state":{},"metadata":{},"version":0},
		"current":{"state":{"desired":{"version":"a","net":{"ip":"1","up":true}}},
		"metadata":{"desired":{"version":{"timestamp":1795262400},"net":{"ip":{"timestamp":1795262400},"up":{"timestamp":1795262400}}}},"version":1},
		"timestamp":1795262400,"clientToken":"t1"}`)

	// What is reported as desired is no difference any more; numbers compare as written.
	later := noon.Add(time.Minute)
	first := c.Next
	c = update(t, first, `{"state":{"reported":{"version":"a","net":{"ip":"1"}}}}`, later)
	same(t, "delta of half a report", c.Delta, `{"state":{"net":{"up":true}},"metadata":{"net":{"up":{"timestamp":1795262400}}},"version":2,"timestamp":1795262460}`)
	got, refused := c.Next.Get("core-1-gci", []byte(`{"clientToken":"g"}`), later)
	if refused != nil {
		t.Fatal(refused)
	}
	same(t, "get", got, `{"state":{"desired":{"version":"a","net":{"ip":"1","up":true}},"reported":{"version":"a","net":{"ip":"1"}},"delta":{"net":{"up":true}}},
		"metadata":{"desired":{"version":{"timestamp":1795262400},"net":{"ip":{"timestamp":1795262400},"up":{"timestamp":1795262400}}},
		"reported":{"version":{"timestamp":1795262460},"net":{"ip":{"timestamp":1795262460}}}},"version":2,"timestamp":1795262460,"clientToken":"g"}`)
	if first.Version != 1 || first.Reported.State != nil {
		t.Errorf("an update changed the shadow before it: %+v", first)
	}

	c = update(t, c.Next, `{"state":{"desired":{"net":{"up":null},"n":[1,{"a":2}]},"reported":null},"version":2}`, later)
	same(t, "delta after null", c.Delta, `{"state":{"version":"a","net":{"ip":"1"},"n":[1,{"a":2}]},
		"metadata":{"version":{"timestamp":1795262400},"net":{"ip":{"timestamp":1795262400}},"n":[{"timestamp":1795262460},{"a":{"timestamp":1795262460}}]},"version":3,"timestamp":1795262460}`)
	c = update(t, c.Next, `{"state":{"desired":null}}`, later)
	same(t, "delta when nothing is desired", c.Delta, "")

	gone, accepted, refused := c.Next.Delete("core-1-gci", nil, later)
	if refused != nil {
		t.Fatal(refused)
	}
	same(t, "deleted", accepted, `{"version":4,"timestamp":1795262460}`)
	if _, _, refused := gone.Delete("core-1-gci", nil, later); refused == nil || refused.Code != 404 {
		t.Errorf("deleted twice: %+v", refused)
	}
	if _, refused := gone.Get("core-1-gci", nil, later); refused == nil || refused.Code != 404 {
		t.Errorf("read after it was deleted: %+v", refused)
	}
	if c = update(t, gone, `{"state":{"desired":{"version":"z"}}}`, later); c.Next.Version != 5 {
		t.Errorf("the version after a deletion is %d, want 5", c.Next.Version)
	}
}

// As measured at AWS (moto's test_update_empty_state, which is marked as verified).
func TestAStateOfNullEmptiesTheShadow(t *testing.T) {
	first := update(t, nil, `{"state":null,"clientToken":"c"}`, noon)
	same(t, "made empty", first.Accepted, `{"state":null,"metadata":{"timestamp":1795262400},"version":1,"timestamp":1795262400,"clientToken":"c"}`)
	full := update(t, first.Next, `{"state":{"desired":{"a":1},"reported":{"b":2}}}`, noon)
	empty := update(t, full.Next, `{"state":null}`, noon)
	got, refused := empty.Next.Get("x", nil, noon)
	if refused != nil || empty.Delta != nil {
		t.Errorf("%+v, delta %s", refused, empty.Delta)
	}
	same(t, "read", got, `{"state":{},"metadata":{},"version":3,"timestamp":1795262400}`)
}

func TestRefusals(t *testing.T) {
	s := update(t, nil, `{"state":{"desired":{"a":1}}}`, noon).Next
	for payload, want := range map[string]Error{
		`{`:                            {400, "Payload contains invalid json", ""},
		`[]`:                           {400, "Payload contains invalid json", ""},
		`null`:                         {400, "Payload contains invalid json", ""},
		``:                             {400, "Payload contains invalid json", ""},
		`{"state":{}} {}`:              {400, "Payload contains invalid json", ""},
		`{"clientToken":"c"}`:          {400, "Missing required node: state", "c"},
		`{"state":[]}`:                 {400, "State node must be an object", ""},
		`{"state":{"desired":1}}`:      {400, "Desired node must be an object", ""},
		`{"state":{"reported":[]}}`:    {400, "Reported node must be an object", ""},
		`{"state":{"delta":{}}}`:       {400, "State contains an invalid node: 'delta'", ""},
		`{"state":{},"version":"1"}`:   {400, "Invalid version", ""},
		`{"state":{},"version":-1}`:    {400, "Invalid version", ""},
		`{"state":{},"version":2}`:     {409, "Version conflict", ""},
		`{"state":{},"clientToken":1}`: {400, "Invalid clientToken", ""},
		`{"state":{"desired":` + strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 9) + `}}`: {400, "JSON contains too many levels of nesting; maximum is 8", ""},
		`{"state":{"desired":{"a":"` + strings.Repeat("x", stateBytesMax) + `"}}}`:                {413, "The payload exceeds the maximum size allowed", ""},
		`{"state":{"desired":{"a":"` + strings.Repeat("x", PayloadBytesMax) + `"}}}`:              {413, "The payload exceeds the maximum size allowed", ""},
	} {
		if _, refused := s.Update([]byte(payload), noon); refused == nil || *refused != want {
			t.Errorf("%.80s: got %+v, want %+v", payload, refused, want)
		}
	}
	if _, refused := s.Update([]byte(`{"state":{"desired":`+strings.Repeat(`{"a":`, 8)+`1`+strings.Repeat(`}`, 8)+`}}`), noon); refused != nil {
		t.Errorf("eight levels: %+v", refused)
	}
	same(t, "a refusal", Refuse([]byte(`{"clientToken":"x"}`), 429, "Too many requests").Payload(noon), `{"code":429,"message":"Too many requests","timestamp":1795262400,"clientToken":"x"}`)
}

// FuzzUpdate: an update that is accepted raises the version by one, survives being written
// down, and is settled by reporting what is desired.
func FuzzUpdate(f *testing.F) {
	f.Add(`{"state":{"desired":{"version":"a"}}}`, `{"state":{"desired":{"version":null,"b":{"c":[1,2.50,{"d":null}]}},"reported":null}}`)
	f.Add(`{"state":{"reported":{"a":{"b":1}}},"version":0}`, `{"state":{"desired":{"a":{"b":1e2}}},"version":1,"clientToken":"t"}`)
	f.Fuzz(func(t *testing.T, one, two string) {
		var s *Shadow
		for _, payload := range []string{one, two} {
			c, refused := s.Update([]byte(payload), noon)
			if refused != nil {
				if refused.Code < 400 || refused.Message == "" || !json.Valid(refused.Payload(noon)) {
					t.Errorf("refused with %+v", refused)
				}
				continue
			}
			if c.Next.Version != s.version()+1 || !json.Valid(c.Accepted) || !json.Valid(c.Documents) || c.Delta != nil && !json.Valid(c.Delta) {
				t.Errorf("%q made %+v", payload, c)
			}
			s = c.Next
		}
		if s == nil {
			return
		}
		text := encode(s)
		read := &Shadow{}
		if err := json.Unmarshal(text, read); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again := encode(read); string(again) != string(text) {
			t.Errorf("written %s, read %s", text, again)
		}
		before, _ := s.delta()
		if after, _ := read.delta(); !reflect.DeepEqual(before, after) {
			t.Errorf("the delta was %v and is %v once it was read from %s", before, after, text)
		}
		if s.Desired.State == nil {
			return
		}
		c, refused := read.Update(encode(map[string]any{"state": map[string]any{"reported": s.Desired.State}}), noon)
		if refused != nil && refused.Code == 413 { // twice the size
			return
		}
		if refused != nil || c.Delta != nil {
			t.Errorf("reported what is desired: %+v, delta %s", refused, c.Delta)
		}
	})
}
