package chart

import (
	_ "embed"
	"io"
	"strconv"
)

//go:embed style.css
var style string

// A Page is a report: one HTML document that needs nothing else.
type Page struct {
	Title    string
	Subtitle string // one sentence: what was done, when, with what
	Verdict  Verdict
	Sections []Section
	Footer   string
}

// A Verdict is what a reader in a hurry is told. The zero value shows none.
type Verdict struct {
	Text string // one sentence
	Kind VerdictKind
}

// A VerdictKind colors a verdict; the text has to say it, too.
type VerdictKind uint8

// The kinds of verdicts.
const (
	Neutral VerdictKind = iota
	Passed
	Failed
	Doubtful
)

// A Section is a heading with what stands below it.
type Section struct {
	Title  string
	Blocks []Block
}

// A Block is one part of a section: a Plot, Timeline, Text, Facts, Table or Code.
type Block interface{ draw(w *writer, id string) }

// Text is a paragraph.
type Text string

// Code is text to copy, such as the command that runs this again.
type Code string

// Facts are names with values, in order: the figures that stand out.
type Facts []Fact

// A Fact is one of Facts.
type Fact struct{ Name, Value string }

// A Table is rows below a head. The first column names the row.
type Table struct {
	Caption string
	Head    []string
	Rows    [][]string
	// Left is how many columns, from the first, hold words; the others hold numbers, which
	// are aligned at their right. 1 at the least.
	Left int
	// Bad marks rows, by their index, that should not be as they are.
	Bad []int
}

// rowsMax bounds a table: what is longer is not read on a page.
const rowsMax = 5000

// Write writes the page.
func (p Page) Write(out io.Writer) error {
	w := &writer{}
	w.raw("<!DOCTYPE html>\n", `<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>`,
		// Nothing on the page runs or is fetched, whatever stood in the data.
		`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/><meta name="color-scheme" content="light dark"/><title>`)
	w.text(p.Title)
	w.raw("</title><style>\n", style, `</style></head><body><main><header><h1>`)
	w.text(p.Title)
	w.raw(`</h1>`)
	if p.Subtitle != "" {
		w.raw(`<p class="subtitle">`)
		w.text(p.Subtitle)
		w.raw(`</p>`)
	}
	if p.Verdict.Text != "" {
		w.raw(`<p class="verdict `, []string{"neutral", "passed", "failed", "doubtful"}[min(p.Verdict.Kind, Doubtful)], `" role="status">`)
		w.text(p.Verdict.Text)
		w.raw(`</p>`)
	}
	w.raw("</header>\n")
	for i, s := range p.Sections {
		id := "s" + strconv.Itoa(i+1)
		w.raw(`<section aria-labelledby="`, id, `"><h2 id="`, id, `">`)
		w.text(s.Title)
		w.raw("</h2>\n")
		for j, b := range s.Blocks {
			b.draw(w, id+"b"+strconv.Itoa(j+1))
		}
		w.raw("</section>\n")
	}
	if p.Footer != "" {
		w.raw(`<footer>`)
		w.text(p.Footer)
		w.raw(`</footer>`)
	}
	w.raw("</main></body></html>\n")
	_, err := io.WriteString(out, w.String())
	return err
}

func (t Text) draw(w *writer, _ string) {
	w.raw(`<p>`)
	w.text(string(t))
	w.raw("</p>\n")
}

func (c Code) draw(w *writer, _ string) {
	w.raw(`<pre>`)
	w.text(string(c))
	w.raw("</pre>\n")
}

func (f Facts) draw(w *writer, _ string) {
	w.raw(`<dl class="facts">`)
	for _, fact := range f {
		w.raw(`<div><dt>`)
		w.text(fact.Name)
		w.raw(`</dt><dd>`)
		w.text(fact.Value)
		w.raw(`</dd></div>`)
	}
	w.raw("</dl>\n")
}

func (t Table) draw(w *writer, _ string) {
	class := func(column int) string {
		if column < max(1, t.Left) {
			return ` class="word"`
		}
		return ""
	}
	bad := map[int]bool{}
	for _, i := range t.Bad {
		bad[i] = true
	}
	w.raw(`<div class="scroll"><table>`)
	if t.Caption != "" {
		w.raw(`<caption>`)
		w.text(t.Caption)
		w.raw(`</caption>`)
	}
	w.raw(`<thead><tr>`)
	for i, h := range t.Head {
		w.raw(`<th scope="col"`, class(i), `>`)
		w.text(h)
		w.raw(`</th>`)
	}
	w.raw(`</tr></thead><tbody>`)
	for i, row := range t.Rows[:min(len(t.Rows), rowsMax)] {
		w.raw(`<tr`, map[bool]string{true: ` class="bad"`}[bad[i]], `>`)
		for j, cell := range row {
			element := "td"
			if j == 0 {
				element = `th scope="row"`
			}
			w.raw(`<`, element, class(j), `>`)
			w.text(cell)
			w.raw(`</`, element[:2], `>`)
		}
		w.raw(`</tr>`)
	}
	w.raw("</tbody></table></div>\n")
	if more := len(t.Rows) - rowsMax; more > 0 {
		Text(strconv.Itoa(more)+" more rows are left out.").draw(w, "")
	}
}
