package projections

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TrustQuery asks whose trust lapses next.
type TrustQuery struct {
	Trust    messages.Trust
	NowMs    int64
	WithinMs int64 // only who lapses within that; 0: all
	Limit    int   // of the list
	// AfterMs and After are the end and name of the last line of the page before.
	AfterMs int64
	After   messages.ThingName
}

// TrustLine is a device and when its trust lapses.
type TrustLine struct {
	Thing       messages.ThingName
	EndMs       int64 // trust time
	SinceMs     int64 // trust time of the older confirmation it rests on
	Sessions    int
	Quarantined bool
	Pending     bool // it was the core that let it in, not the cloud
}

// TrustReport is how old stored trust is, and whose lapses next.
type TrustReport struct {
	Things  int // known
	Trusted int // of which stored trust counts now
	Pending int // that are let in as pending now; they are none of those, and of no number below
	// Of those, how many lapse within an hour, a day, a week.
	Hour, Day, Week int
	// How old trust is: the oldest, the median (ms; 0 if there is none), all together,
	// and how many are at most AgeBoundsMs[i] old.
	OldestMs, MedianMs, SumMs int64
	Ages                      [len(AgeBoundsMs)]int
	Due                       []TrustLine // soonest first
	More                      bool        // there are more than Limit
}

// AgeBoundsMs are the bounds of TrustReport.Ages: a minute to a quarter of a year.
var AgeBoundsMs = [...]int64{
	minuteMs, 5 * minuteMs, 15 * minuteMs, hourMs, 4 * hourMs, 12 * hourMs, dayMs, 2 * dayMs, 7 * dayMs, 30 * dayMs, 90 * dayMs,
}

const (
	minuteMs int64 = 60 * 1000
	hourMs         = 60 * minuteMs
	dayMs          = 24 * hourMs
)

// TrustDue reports on stored trust. It looks at every device, a few under one lock, so
// that nobody who connects waits for it: 1,000,000 take about two seconds.
func (v *Views) TrustDue(q TrustQuery) TrustReport {
	var r TrustReport
	var ages []int64
	list := soonest{limit: q.Limit}
	for chunk := range slices.Chunk(v.Things(), heldChunk) {
		for _, line := range v.trustLines(chunk, q) {
			r.Things++
			if line.EndMs == 0 {
				continue
			}
			if line.Pending {
				r.Pending++
			} else {
				r.count(line, q.NowMs)
				ages = append(ages, max(0, q.NowMs-line.SinceMs))
			}
			if q.lists(line) {
				list.offer(line)
			}
		}
	}
	slices.Sort(ages)
	if n := len(ages); n > 0 {
		r.OldestMs, r.MedianMs = ages[n-1], ages[n/2]
	}
	for _, age := range ages {
		r.SumMs += age
	}
	for i, bound := range AgeBoundsMs {
		r.Ages[i], _ = slices.BinarySearch(ages, bound+1)
	}
	list.cut()
	r.Due, r.More = list.lines, list.more
	return r
}

// lists reports whether a line belongs to the list, on this page or a later one.
func (q TrustQuery) lists(line TrustLine) bool {
	return q.Limit > 0 && (q.WithinMs <= 0 || line.EndMs-q.NowMs <= q.WithinMs) &&
		(q.After == "" || compareLines(line, TrustLine{EndMs: q.AfterMs, Thing: q.After}) > 0)
}

// soonest keeps the few lines of many that lapse first.
type soonest struct {
	limit int
	lines []TrustLine
	more  bool
}

func (s *soonest) offer(line TrustLine) {
	if s.lines = append(s.lines, line); len(s.lines) > 2*s.limit {
		s.cut()
	}
}

func (s *soonest) cut() {
	slices.SortFunc(s.lines, compareLines)
	if len(s.lines) > s.limit {
		s.lines, s.more = s.lines[:s.limit], true
	}
}

func compareLines(a, b TrustLine) int {
	return cmp.Or(cmp.Compare(a.EndMs, b.EndMs), cmp.Compare(a.Thing, b.Thing))
}

func (r *TrustReport) count(line TrustLine, nowMs int64) {
	r.Trusted++
	for _, w := range []struct {
		n      *int
		bounds int64
	}{{&r.Hour, hourMs}, {&r.Day, dayMs}, {&r.Week, 7 * dayMs}} {
		if line.EndMs-nowMs <= w.bounds {
			*w.n++
		}
	}
}

// trustLines describes the trust in some things; EndMs is 0 where none counts.
func (v *Views) trustLines(names []messages.ThingName, q TrustQuery) []TrustLine {
	list := make([]TrustLine, 0, len(names))
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, name := range names {
		t := v.things[name]
		if t == nil {
			continue
		}
		line := TrustLine{Thing: name, Sessions: len(t.sessions), Quarantined: t.quarantined != "" || v.isPoisoned(messages.DeviceStream(name))}
		for _, at := range t.attachments {
			a := at.describe()
			if end := a.endMs(q.Trust, q.NowMs); end > line.EndMs {
				line.EndMs, line.SinceMs = end, a.SinceMs()
			}
		}
		if p := t.pending; p != nil && p.why(q.Trust, q.NowMs) == "" {
			line.EndMs, line.SinceMs, line.Pending = p.pendingEndMs(q.Trust), p.confirmedMs.Load(), true
		}
		list = append(list, line)
	}
	return list
}
