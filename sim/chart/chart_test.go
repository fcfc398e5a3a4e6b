package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

// sample is a page with everything on it, n points a series; text stands wherever text may
// stand.
func sample(text string, n int) Page {
	series := func(kind Kind, f func(i int) float64) Series {
		s := Series{Name: text, Kind: kind}
		for i := range n {
			s.Points = append(s.Points, Point{float64(i), f(i)})
		}
		return s
	}
	up := func(i int) float64 { return float64(i * i) }
	gap := func(i int) float64 {
		if i > 10 && i < 20 || i == 30 {
			return math.NaN()
		}
		return 200 + 50*math.Sin(float64(i)/3)
	}
	plot := Plot{Title: text, Note: text, X: Axis{Label: text, Unit: Elapsed}, Y: Axis{Label: text, Unit: Count},
		Series: []Series{series(Line, up), series(Step, gap), series(Area, gap)},
		Bands:  []Band{{Name: text, From: 5, To: 9}, {Name: text + "!", From: 20, To: 20}},
		Marks:  []Mark{{text, 700}}}
	return Page{Title: text, Subtitle: text, Verdict: Verdict{text, Failed}, Footer: text, Sections: []Section{
		{text, []Block{Text(text), Code(text), Facts{{text, text}}, plot,
			Table{Caption: text, Head: []string{text, text}, Rows: [][]string{{text, text}, {text, text}}, Bad: []int{1}}}},
		{"other plots", []Block{
			Plot{Title: text, X: Axis{Unit: Percentile}, Y: Axis{Unit: Seconds, Log: true}, Series: []Series{{Name: text, Points: []Point{{0, 0}, {50, 1e-4}, {99, 2e-3}, {99.99, 1.5}, {100, 2}}}}},
			Plot{Title: text, Y: Axis{Unit: Bytes}, Series: []Series{series(Stack, up), series(Stack, gap)}},
			Plot{Title: text, X: Axis{Unit: Seconds}, Series: []Series{series(Bars, gap)}},
			Plot{Title: text},
			Timeline{Title: text, Note: text, X: Axis{Unit: Elapsed}, Lanes: []Lane{{Name: text, Spans: []Span{{1, 5, text}, {7, 7, ""}}}, {Name: text}}},
			Timeline{Title: text},
		}},
	}}
}

func render(t *testing.T, p Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageIsTheOneInTestdata(t *testing.T) {
	got := render(t, sample(`up & <down> "1"`, 40))
	file := filepath.Join("testdata", "page.html")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page differs from %s; go test -update rewrites it, look at it with a browser", file)
	}
}

// skeleton is what a page consists of, without texts: elements, attributes, and the values
// of attributes that never come from outside.
func skeleton(page string) (string, error) {
	var b strings.Builder
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		switch e := tok.(type) {
		case xml.StartElement:
			b.WriteString("<" + e.Name.Local)
			for _, a := range e.Attr {
				b.WriteString(" " + a.Name.Local)
				if a.Name.Local != "aria-label" {
					b.WriteString("=" + a.Value)
				}
			}
			b.WriteString(">\n")
		case xml.EndElement:
			b.WriteString("</" + e.Name.Local + ">\n")
		case xml.Comment, xml.ProcInst:
			return "", errors.New("the page has a comment or an instruction")
		}
	}
}

// FuzzTextStaysText puts any text everywhere: the page's structure is that of any other.
func FuzzTextStaysText(f *testing.F) {
	for _, s := range []string{`</style><script>alert(1)</script>`, `"onload="x`, "--><!--", "]]>", "\x00\x1b[31m\u202e", "'><svg/onload=x>", "&lt;", "a\xff\xfe"} {
		f.Add(s)
	}
	want, err := skeleton(render(&testing.T{}, sample("x", 3)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" { // then what may be empty is left out
			t.Skip()
		}
		got, err := skeleton(render(t, sample(text, 3)))
		if err != nil {
			t.Fatalf("not well formed: %v", err)
		}
		if got != want {
			t.Error("the text changed the page's structure")
		}
	})
}

func TestLongTextIsCut(t *testing.T) {
	page := render(t, Page{Sections: []Section{{"", []Block{Text(strings.Repeat("é", textMax))}}}})
	if _, err := skeleton(page); err != nil || len(page) > textMax+16<<10 || !strings.Contains(page, "…</p>") {
		t.Errorf("a text of %d bytes makes a page of %d, %v", 2*textMax, len(page), err)
	}
}

// FuzzNumbersStayInThePicture draws any numbers: the page stays well formed, and nothing is
// drawn out of it.
func FuzzNumbersStayInThePicture(f *testing.F) {
	f.Add(0.0, 1.0, 2.0, 3.0, uint8(0))
	f.Add(math.Inf(1), math.NaN(), -1e308, 1e308, uint8(0xff))
	f.Add(1e-300, 1e-300, 0.0, 0.0, uint8(0x4b))
	f.Add(99.9999999999, 100.0, 101.0, -5.0, uint8(0x46))
	f.Fuzz(func(t *testing.T, a, b, c, d float64, how uint8) {
		kind, unit := Kind(how%5), Unit(how>>3%7)
		s := Series{Name: "s", Kind: kind, Points: []Point{{a, b}, {c, d}, {b, a}, {d, c}}}
		p := Plot{Title: "t", X: Axis{Unit: unit, Log: how&64 != 0, From: b, To: d}, Y: Axis{Unit: Unit(how % 7), Log: how&128 != 0, From: a, To: c},
			Series: []Series{s, s}, Bands: []Band{{Name: "b", From: a, To: b}, {Name: "b", From: c, To: d}}, Marks: []Mark{{"m", c}}}
		l := Timeline{Title: "l", X: p.X, Lanes: []Lane{{Name: "l", Spans: []Span{{a, b, ""}, {d, c, ""}}}}}
		page := render(t, Page{Title: "p", Sections: []Section{{"s", []Block{p, l}}}})
		checkPicture(t, page)
	})
}

// checkPicture fails for coordinates that are none or lie outside of a picture.
func checkPicture(t *testing.T, page string) {
	t.Helper()
	text, err := skeleton(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		for _, bad := range []string{"NaN", "Inf", "e+", "=-"} {
			if strings.Contains(line, bad) && !strings.HasPrefix(line, "<meta") {
				t.Fatalf("%s in %s", bad, line)
			}
		}
	}
	if len(page) > 1<<20 {
		t.Fatalf("%d bytes for four points", len(page))
	}
}

func TestLongSeriesKeepTheirPeaksAndStaySmall(t *testing.T) {
	var s Series
	for i := range 200_000 {
		s.Points = append(s.Points, Point{float64(i), 1})
	}
	s.Points[123_456].Y, s.Points[77].Y = 900, 0
	page := render(t, Page{Sections: []Section{{"", []Block{Plot{Y: Axis{To: 1000}, Series: []Series{s}}}}}})
	if len(page) > 100<<10 {
		t.Errorf("200,000 points make %d bytes", len(page))
	}
	d := drawing{p: Plot{Series: []Series{s}}}
	d.prepare()
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range d.thin(s.Points) {
		low, high = min(low, p.Y), max(high, p.Y)
	}
	if low != 0 || high != 900 {
		t.Errorf("of 0 to 900, %v to %v is drawn", low, high)
	}
	s.Kind = Stack
	d = drawing{p: Plot{Series: []Series{s, s}}}
	d.prepare()
	if high = 0; len(d.series[1].Points) > stackPointsMax+1 {
		t.Errorf("%d points are stacked", len(d.series[1].Points))
	}
	for _, p := range d.series[1].Points {
		high = max(high, p.Y)
	}
	if high != 1800 {
		t.Errorf("the peak of the stack is %v, want 1800", high)
	}
}

func TestGapsAreNotDrawnOver(t *testing.T) {
	w := &writer{}
	Plot{Series: []Series{{Points: []Point{{0, 1}, {1, 2}, {2, math.NaN()}, {3, 1}, {4, 2}}}}}.draw(w, "p")
	path := w.String()[strings.Index(w.String(), `<path class="series`):]
	path = path[:strings.Index(path, "/>")]
	if got := strings.Count(path, "M"); got != 2 {
		t.Errorf("a line with a gap has %d parts, want 2: %s", got, path)
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		v    float64
		want string
	}{
		{Count, 0, "0"}, {Count, 999, "999"}, {Count, 1000, "1k"}, {Count, 1_500_000, "1.5M"}, {Count, 999_999, "1M"}, {Count, 12.345, "12.3"}, {Count, -3, "−3"}, {Count, 0.25, "0.25"},
		{PerSecond, 20480, "20.5k/s"}, {Bytes, 512, "512 B"}, {Bytes, 1536, "1.5 KiB"}, {Bytes, 3 << 30, "3 GiB"},
		{Seconds, 0, "0 s"}, {Seconds, 0.0000005, "500 ns"}, {Seconds, 0.00012, "120 µs"}, {Seconds, 0.0015, "1.5 ms"}, {Seconds, 0.9999, "1 s"}, {Seconds, 12.34, "12.3 s"},
		{Elapsed, 0, "0 s"}, {Elapsed, 0.5, "500 ms"}, {Elapsed, 59, "59 s"}, {Elapsed, 60, "1 min"}, {Elapsed, 90, "1 min 30 s"}, {Elapsed, 5400, "1 h 30 min"}, {Elapsed, 86400, "1 d"}, {Elapsed, 90061, "1 d 1 h"}, {Elapsed, 86405, "1 d"},
		{Percent, 12.5, "12.5 %"}, {Percentile, 99.99, "99.99 %"},
		{Count, math.NaN(), "–"}, {Count, math.Inf(1), "∞"}, {Count, 1e30, "1000000000000000000T"},
	} {
		if got := Format(c.unit, c.v); got != c.want && c.v < 1e20 {
			t.Errorf("Format(%d, %v) = %q, want %q", c.unit, c.v, got, c.want)
		} else if len(got) > 24 {
			t.Errorf("Format(%d, %v) = %q is long", c.unit, c.v, got)
		}
	}
}

func TestTicksAreNice(t *testing.T) {
	for _, c := range []struct {
		axis    Axis
		low, hi float64
		n       int
		want    string
	}{
		{Axis{Unit: Elapsed}, 0, 86400, 8, "0 s|3 h|6 h|9 h|12 h|15 h|18 h|21 h|1 d"},
		{Axis{Unit: Elapsed}, 0, 30, 8, "0 s|5 s|10 s|15 s|20 s|25 s|30 s"},
		{Axis{Unit: Count}, 0, 1000, 5, "0|200|400|600|800|1k"},
		{Axis{Unit: Bytes}, 0, 3 << 30, 5, "0 B|1 GiB|2 GiB|3 GiB"},
		{Axis{Unit: Seconds, Log: true}, 0.0002, 2, 5, "100 µs|1 ms|10 ms|100 ms|1 s"},
		{Axis{Unit: Percentile}, 0, 99.99, 8, "0 %|50 %|90 %|99 %|99.9 %|99.99 %"},
		{Axis{Unit: Count}, 5, 5, 5, "5|5.2|5.4|5.6|5.8|6"},
	} {
		var names []string
		for _, tick := range newScale(c.axis, c.low, c.hi, 0, 100).ticks(c.n) {
			names = append(names, tick.name)
		}
		if got := strings.Join(names, "|"); got != c.want {
			t.Errorf("%v to %v: %s, want %s", c.low, c.hi, got, c.want)
		}
	}
}
