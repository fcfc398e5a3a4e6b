package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestDocumentsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"too long", strings.Repeat(" ", DocumentBytesMax+1), "the document has 1048577 bytes, 1048576 are allowed; move the device groups to a file of their own (policyFile)"},
		{"a NUL", "dir: a\nlog: \x00", "line 2, column 6: a NUL byte; save the file as UTF-8 text"},
		{"invalid UTF-8", "dir: \"é\xff\"", "line 1, column 8: byte 0xff is not UTF-8; save the file as UTF-8 (UTF-16 is not read)"},
		{"UTF-16", "\xff\xfed\x00", "line 1, column 1: byte 0xff is not UTF-8; save the file as UTF-8 (UTF-16 is not read)"},
		{"two documents", "dir: a\n---\ndir: b\n", "line 2, column 1: a second YAML document begins here; keep one, and remove \"---\""},
		{"a bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "line 1, column 4: YAML anchors, aliases and merge keys are not supported; write the value out"},
		{"an alias inside its anchor", "a: &x [*x]", "line 1, column 4: YAML anchors, aliases and merge keys are not supported; write the value out"},
		{"a tag", "a: !!int 5", "line 1, column 4: the YAML tag \"!!int\" is not supported; remove it"},
		{"deep YAML", strings.Repeat("[", 40) + strings.Repeat("]", 40) + " # YAML", "line 1, column 34: nested deeper than 32 levels"},
		{"deep JSON", strings.Repeat("[", 40) + strings.Repeat("]", 40), "line 1, column 34: nested deeper than 32 levels"},
		{"a merge key", "c: {<<: {a: 1}}", "line 1, column 5: YAML anchors, aliases and merge keys are not supported; write the value out"},
		{"broken YAML", "dir: a\n  b: : c\n", "line 2: not YAML: mapping values are not allowed in this context; check indentation (spaces, not tabs), colons and quotes here and on the line before"},
		{"broken JSON", "{\n  \"dir\": \"a\"\n  \"log\": 1}", "line 3, column 3: not JSON: invalid character '\"' after object key:value pair; check quotes, commas and brackets just before this place"},
		{"half a JSON", "{\"dir\": ", "line 1, column 8: not JSON: unexpected end of JSON input; check quotes, commas and brackets just before this place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readDocument([]byte(c.doc))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestDocumentsThatAreRead(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"nothing", "", `{}`},
		{"a comment", "# nothing yet\n", `{}`},
		{"a byte order mark", "\xef\xbb\xbfdir: a", `{"dir":"a"}`},
		{"Windows lines", "dir: a\r\nlog:\r\n  level: b\r\n", `{"dir":"a","log":{"level":"b"}}`},
		{"dates and odd numbers stay text", "a: 2021-03-05\nb: 0x10\nc: .inf\nd: 1_000", `{"a":"2021-03-05","b":"0x10","c":".inf","d":"1_000"}`},
		{"JSON with escapes", `{"a": "\ud83d\ude00\u0041", "b": [1e3, -0.5, null, true]}`, `{"a":"😀A","b":[1e3,-0.5,null,true]}`},
		{"JSON with a trailing comma is YAML", `{"a": [1,],}`, `{"a":[1]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := readDocument([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if appendJSON(&b, n); b.String() != c.want {
				t.Errorf("got %s, want %s", b.String(), c.want)
			}
		})
	}
}

func TestJSONPositions(t *testing.T) {
	n, err := readDocument([]byte("{\n  \"é\": [1,\n\t\t{\"b\" :\n\n true}]\n}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		got = append(got, fmt.Sprintf("%s%s@%d:%d", n.Tag, n.Value, n.Line, n.Column))
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(n)
	const want = "!!map@1:1 !!stré@2:3 !!seq@2:8 !!int1@2:9 !!map@3:3 !!strb@3:4 !!booltrue@5:2"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// FuzzReadDocument holds that whatever is read can be printed as JSON and read again
// to the same values, and that reading never panics.
func FuzzReadDocument(f *testing.F) {
	for _, seed := range []string{"", "a: 1", "{\"a\": [1, 2.5, null, \"x\"]}", "a: &x [1]\nb: *x", "a: &x [*x]", "? [1]\n: 2", "a: |\n  b\n", "<<: {a: 1}", "- 2021-03-05"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		n, err := readDocument(doc)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		appendJSON(&first, n)
		if !json.Valid(first.Bytes()) {
			t.Fatalf("%q became %q, no JSON", doc, first.Bytes())
		}
		again, err := readDocument(first.Bytes())
		if err != nil {
			if first.Len() > DocumentBytesMax {
				return
			}
			t.Fatalf("%q: %v", first.Bytes(), err)
		}
		if appendJSON(&second, again); !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("%q is read as %q", first.Bytes(), second.Bytes())
		}
	})
}

// cpuTime is what the process has computed so far, which other work on the machine does
// not lengthen.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Documents made to take long: each must be answered, and soon. Counting columns from the
// line's start for every token once took minutes for a megabyte on one line.
func TestDocumentsThatWouldTakeLong(t *testing.T) {
	const n = DocumentBytesMax
	for name, doc := range map[string]string{
		"JSON on a line":  `{"x": [` + strings.Repeat("1,", n/2-10) + `1]}`,
		"keys on a line":  "{" + strings.Repeat(`"abcd":1,`, n/9-2) + `"b":1}`,
		"YAML on a line":  "{" + strings.Repeat("abcd: 1, ", n/9-2) + "}",
		"brackets":        strings.Repeat("[", n),
		"questions":       strings.Repeat("? ", n/2),
		"a long text":     `{"dir": "` + strings.Repeat("a", n-20) + `"}`,
		"many characters": `{"dir": "` + strings.Repeat("é", n/2-20) + `"}`,
	} {
		began := cpuTime(t)
		if file, _, err := ParseAny([]byte(doc), nil); err == nil && name != "a long text" && name != "many characters" {
			t.Errorf("%s: accepted as %+v", name, file)
		}
		if took := cpuTime(t) - began; took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
