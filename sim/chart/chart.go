// Package chart draws plots as SVG and lays them out on one self-contained HTML page: no
// script, no network, light and dark, fit for print and for screen readers. The same
// values give the same bytes, and no text can break out of its place.
package chart

// A Plot shows series of points over one pair of axes, with what was going on meanwhile
// as bands behind them.
type Plot struct {
	Title  string
	Note   string // one sentence below the title; may be empty
	X, Y   Axis
	Series []Series
	Bands  []Band // behind the series, in the order given
	Marks  []Mark // reference lines, such as a bound
}

// An Axis says what is along one side of a plot. Its range comes from the points.
type Axis struct {
	Label string // what is counted or measured, without the unit
	Unit  Unit
	Log   bool // by powers of ten; values of 0 and below stand at the smallest positive one
	// From and To, if they differ, are where the axis begins and ends at the least; the
	// points widen it.
	From, To float64
}

// A Unit says what the numbers of an axis are, and so how they are written.
type Unit uint8

// The units.
const (
	Count      Unit = iota // things; 1500000 is written 1.5M
	PerSecond              // things a second
	Seconds                // a latency, in seconds: 0.0015 is written 1.5 ms
	Elapsed                // time since the beginning, in seconds: 5400 is written 1 h 30 min
	Bytes                  // 1536 is written 1.5 KiB
	Percent                // 0 to 100
	Percentile             // 0 up to, not including, 100, on the axis of HdrHistogram: 90, 99 and 99.9 are equally far apart
)

// A Kind is how a series is drawn.
type Kind uint8

// The kinds of series.
const (
	Line  Kind = iota
	Step       // a line that keeps its value until the next point
	Area       // a line, filled down to the axis
	Stack      // filled, on top of the series of this kind before it; outside of its points it is 0
	Bars       // each from its point's X to the next one's; the last as wide as the one before it
)

// A Series is what one line, area or row of bars shows. Points are in the order of X; a Y
// that is not a finite number is a gap.
type Series struct {
	Name   string
	Kind   Kind
	Color  Color
	Points []Point
}

// A Point is one value, in the units of the axes.
type Point struct{ X, Y float64 }

// A Band is a span along X behind a plot, such as an outage.
type Band struct {
	Name     string // the bands of one name share a color and an entry in the legend
	Color    Color
	From, To float64
}

// A Mark is a line across the plot at a value of Y.
type Mark struct {
	Name string
	Y    float64
}

// A Color is a role; which color that is depends on light and dark. The zero value takes
// the next one that is free.
type Color uint8

// The colors. Good and Bad differ in lightness, too, for who does not see red and green.
const (
	Auto Color = iota
	Blue
	Orange
	Purple
	Teal
	Pink
	Brown
	Good
	Bad
	Warn
	Muted
)

// autoColors are those that Auto takes, in turn.
var autoColors = []Color{Blue, Orange, Purple, Teal, Pink, Brown}

// class is the color's name in style.css.
func (c Color) class() string {
	names := [...]string{"blue", "blue", "orange", "purple", "teal", "pink", "brown", "good", "bad", "warn", "muted"}
	if int(c) >= len(names) {
		return "muted"
	}
	return names[c]
}

// colorer hands out the colors of Auto.
type colorer int

func (n *colorer) pick(c Color) Color {
	if c != Auto {
		return c
	}
	c = autoColors[int(*n)%len(autoColors)]
	*n++
	return c
}

// A Timeline shows when things were going on, a lane for each: faults by kind, for one.
type Timeline struct {
	Title string
	Note  string
	X     Axis
	Lanes []Lane
}

// A Lane is one row of a Timeline.
type Lane struct {
	Name  string
	Color Color
	Spans []Span
}

// A Span is one stretch of time of a lane; one without length is a moment.
type Span struct {
	From, To float64
	Note     string // what a pointer that rests on it is told; may be empty
}
