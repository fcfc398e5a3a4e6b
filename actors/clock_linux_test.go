package actors

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// TestBootClockOfANamespace (reliability spec, B4): in a time namespace whose boot clock
// is eight hours ahead and whose monotonic clock is not, as after a suspend, the machine
// is eight hours older.
func TestBootClockOfANamespace(t *testing.T) {
	if os.Getenv("GATEHOUSE_TEST_BOOT") != "" {
		c, err := NewSystemClock()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("boot=%d\n", c.Boot())
		return
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--time", "--boottime", "28800", "--fork", os.Args[0], "-test.run=^TestBootClockOfANamespace$")
	cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_BOOT=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("unshare --time (util-linux, as root): %v\n%s", err, out)
		}
		t.Skipf("no time namespace here (GATEHOUSE_E2E=1 fails): %v", err)
	}
	c, err := NewSystemClock()
	if err != nil {
		t.Fatal(err)
	}
	_, number, found := strings.Cut(string(out), "boot=")
	number, _, _ = strings.Cut(number, "\n")
	boot, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil {
		t.Fatalf("the child said %q", out)
	}
	if off := time.Duration(boot) + time.Minute - c.Boot() - 8*time.Hour; off < 0 || off > time.Minute {
		t.Errorf("there it is %v since the start, here %v", time.Duration(boot), c.Boot())
	}
}

// TestBatteryIn: the wall clock was set from a hardware clock at the start of the machine,
// and still agrees with it.
func TestBatteryIn(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name, set, epoch string
		wall             time.Time
		want             bool
	}{
		{"agrees", "1\n", "1800000000\n", at, true},
		{"a minute apart", "1", "1800000060", at, true},
		{"more than a minute ahead", "1", "1799999939", at, false},
		{"more than a minute behind", "1", "1800000061", at, false},
		{"not what the clock was set from", "0", "1800000000", at, false},
		{"the battery is empty", "1", "946684800", at, false},
		{"unreadable", "1", "soon", at, false},
		{"no such file", "1", "", at, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				path := filepath.Join(dir, "rtc1", name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("hctosys", c.set)
			if c.epoch != "" {
				write("since_epoch", c.epoch)
			}
			if got := batteryIn(dir, c.wall); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	if batteryIn(filepath.Join(t.TempDir(), "none"), at) {
		t.Error("a machine without hardware clock has one")
	}
}
