package eventlog_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestAnyLifeOfALogKeepsItsRecords appends, closes, crashes and reopens in any order, with a journal of 64 KiB; the log always holds exactly
// what was acknowledged.
func TestAnyLifeOfALogKeepsItsRecords(t *testing.T) {
	t.Parallel()
	root := memoryDir(t)
	lives := 0
	rapid.Check(t, func(rt *rapid.T) {
		lives++
		if lives > 4 && os.Getenv("GATEHOUSE_E2E") != "1" { // rapid would do a hundred
			return
		}
		dir, err := os.MkdirTemp(root, "life-")
		if err != nil {
			rt.Fatal(err)
		}
		l := open(t, filepath.Join(dir, "0"), tiny)
		defer func() { closeLog(t, l) }()
		var want []messages.Record
		versions := map[messages.StreamID]uint64{}
		crashes := 0
		reopen := func(dir string) {
			o := tiny
			o.UnindexedMax = rapid.SampledFrom([]int{1, 10, 100, 1000}).Draw(rt, "records that are not in the index")
			l = open(t, dir, o)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				for range rapid.IntRange(1, 25).Draw(rt, "batches") {
					stream := eventlogtest.Device(rapid.IntRange(0, 5).Draw(rt, "stream"))
					b := eventlog.Batch{Stream: stream, Expected: versions[stream]}
					for range rapid.IntRange(1, 12).Draw(rt, "events") {
						b.Drafts = append(b.Drafts, eventlogtest.Event(rapid.Uint64().Draw(rt, "id"), rapid.IntRange(0, 900).Draw(rt, "bytes")))
					}
					recs, err := eventlogtest.Append(l, b)
					if err != nil {
						rt.Fatal(err)
					}
					want = append(want, recs...)
					versions[stream] += uint64(len(recs))
				}
			},
			"conflict": func(rt *rapid.T) {
				stream := eventlogtest.Device(rapid.IntRange(0, 5).Draw(rt, "stream"))
				_, err := eventlogtest.Append(l, eventlog.Batch{Stream: stream, Expected: versions[stream] + 1, Drafts: []eventlog.Draft{eventlogtest.Event(1, 1)}})
				if !errors.Is(err, eventlog.ErrConflict) {
					rt.Fatalf("got %v, want ErrConflict", err)
				}
			},
			"close": func(*rapid.T) {
				closeLog(t, l)
				reopen(filepath.Join(dir, string(rune('0'+crashes))))
			},
			"crash": func(rt *rapid.T) {
				if crashes >= 9 {
					return
				}
				was := filepath.Join(dir, string(rune('0'+crashes)))
				crashes++
				now := filepath.Join(dir, string(rune('0'+crashes)))
				copyDir(t, was, now)
				closeLog(t, l)
				if err := os.RemoveAll(was); err != nil {
					rt.Fatal(err)
				}
				reopen(now)
			},
			"": func(rt *rapid.T) {
				if err := holds(l, want); err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
}
