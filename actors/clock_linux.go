package actors

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock is the machine's own clock on Linux.
type SystemClock struct {
	bootID string
	start  time.Time    // what the monotonic clock is counted from
	asked  atomic.Int64 // monotonic time of the last look at CLOCK_BOOTTIME, ns since start
	ahead  atomic.Int64 // boot time less monotonic time since start, ns; it grows with each suspend
}

// bootEvery is how long the monotonic clock stands in for CLOCK_BOOTTIME, whose reading
// is a system call: a suspend is noticed at the latest after so much time awake.
const bootEvery = 20 * time.Millisecond

// NewSystemClock reads the boot id once.
func NewSystemClock() (*SystemClock, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	c := &SystemClock{bootID: strings.TrimSpace(string(id)), start: time.Now()}
	c.ahead.Store(math.MinInt64)
	c.look()
	return c, nil
}

// look sets the monotonic clock right by the boot clock. The boot clock is read first:
// whatever comes between the two readings makes the difference too small, and the next
// look mends that; it is never too large, so time never runs ahead.
func (c *SystemClock) look() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("actors: CLOCK_BOOTTIME cannot be read: " + err.Error()) // no clock, no trust
	}
	now := int64(time.Since(c.start))
	for ahead := ts.Nano() - now; ; {
		old := c.ahead.Load()
		if ahead <= old || c.ahead.CompareAndSwap(old, ahead) {
			break
		}
	}
	c.asked.Store(now)
}

// Wall implements Clock.
func (*SystemClock) Wall() time.Time { return time.Now() }

// Boot implements Clock by CLOCK_BOOTTIME: Go's own monotonic clock stands still while
// the machine is suspended, and trust must not.
func (c *SystemClock) Boot() time.Duration {
	now := int64(time.Since(c.start))
	if now-c.asked.Load() > int64(bootEvery) {
		c.look()
		now = int64(time.Since(c.start))
	}
	return time.Duration(now + c.ahead.Load())
}

// BootID implements Clock.
func (c *SystemClock) BootID() string { return c.bootID }

// Synced implements Clock by the kernel's own notion: adjtimex without STA_UNSYNC.
func (*SystemClock) Synced() bool {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}

// Battery implements Clock: the kernel set the wall clock from a hardware clock at the
// start (hctosys), and the two still agree. After the battery's end they do not: something
// else set the wall clock, such as a date that was saved at the shutdown.
func (c *SystemClock) Battery() bool { return batteryIn("/sys/class/rtc", c.Wall()) }

// rtcSlack is how far wall clock and hardware clock may be apart.
const rtcSlack = time.Minute

func batteryIn(dir string, wall time.Time) bool {
	clocks, err := filepath.Glob(filepath.Join(dir, "*", "hctosys"))
	if err != nil {
		return false
	}
	for _, file := range clocks {
		if set, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(set)) != "1" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "since_epoch"))
		if err != nil {
			continue
		}
		seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if apart := wall.Sub(time.Unix(seconds, 0)); err == nil && apart.Abs() <= rtcSlack {
			return true
		}
	}
	return false
}

// AfterFunc implements Clock.
func (*SystemClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
