package actors

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSystemClockFollowsBootTime: the cached boot time is the kernel's, never ahead of
// it, and never goes back.
func TestSystemClockFollowsBootTime(t *testing.T) {
	c, err := NewSystemClock()
	if err != nil {
		t.Fatal(err)
	}
	last := time.Duration(0)
	for end := c.Boot() + 3*bootEvery; last < end; {
		boot := c.Boot()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			t.Fatal(err)
		}
		kernel := time.Duration(ts.Nano())
		if boot < last || boot > kernel || kernel-boot > time.Second {
			t.Fatalf("boot %v after %v, the kernel says %v", boot, last, kernel)
		}
		last = boot
	}
	// A suspend is what makes the boot clock run ahead of the monotonic one: as if the
	// last look had been before one of an hour.
	c.ahead.Add(-int64(time.Hour))
	c.asked.Add(-2 * int64(bootEvery))
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	if boot := c.Boot(); boot < time.Duration(ts.Nano())-time.Second {
		t.Errorf("boot %v after a suspend, the kernel says %v", boot, time.Duration(ts.Nano()))
	}
}
