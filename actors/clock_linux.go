package actors

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock is the machine's own clock on Linux.
type SystemClock struct{ bootID string }

// NewSystemClock reads the boot id once.
func NewSystemClock() (*SystemClock, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	return &SystemClock{bootID: strings.TrimSpace(string(id))}, nil
}

// Wall implements Clock.
func (*SystemClock) Wall() time.Time { return time.Now() }

// Boot implements Clock by CLOCK_BOOTTIME: Go's own monotonic clock stands still while
// the machine is suspended, and trust must not.
func (*SystemClock) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("actors: CLOCK_BOOTTIME cannot be read: " + err.Error()) // no clock, no trust
	}
	return time.Duration(ts.Nano())
}

// BootID implements Clock.
func (c *SystemClock) BootID() string { return c.bootID }

// Synced implements Clock by the kernel's own notion: adjtimex without STA_UNSYNC.
func (*SystemClock) Synced() bool {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}

// AfterFunc implements Clock.
func (*SystemClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
