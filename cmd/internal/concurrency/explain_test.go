package concurrency

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// explain says in words where a history ceases to be linearizable: the first answer that
// cannot be, and what was heard about the same device around it.
func explain(ops []porcupine.Operation) string {
	for device := range historyDevices {
		part := slices.Clone(ops)
		part = slices.DeleteFunc(part, func(o porcupine.Operation) bool { return o.Input.(call).device != device })
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(max(-1, min(1, a.Return-b.Return))) })
		until := func(n int) []porcupine.Operation {
			head := slices.Clone(part[:n])
			for _, o := range part[n:] { // under way by then, perhaps
				if n > 0 && o.Call <= part[n-1].Return {
					o.Output, o.Return = answer{outcome: unknown}, math.MaxInt64
					head = append(head, o)
				}
			}
			return head
		}
		bad := sort.Search(len(part)+1, func(n int) bool {
			return porcupine.CheckOperationsTimeout(model, until(n), 20*time.Second) == porcupine.Illegal
		})
		if bad > len(part) {
			continue
		}
		var b strings.Builder
		last := part[bad-1]
		fmt.Fprintf(&b, "device %d: of these the answer that came at %v cannot be:\n", device, time.Duration(last.Return))
		around := part[max(0, bad-60):bad]
		for _, o := range part[bad:] { // under way at the time
			if o.Call <= last.Return {
				around = append(slices.Clip(around), o)
			}
		}
		for _, o := range around {
			c := o.Input.(call)
			if c.op == authorize && c.token != last.Input.(call).token {
				continue
			}
			fmt.Fprintf(&b, "%9v–%9v  worker %-2d %s\n", time.Duration(o.Call).Round(time.Microsecond), time.Duration(o.Return).Round(time.Microsecond),
				o.ClientId, model.DescribeOperation(o.Input, o.Output))
		}
		return b.String()
	}
	return "no part of it alone is"
}
