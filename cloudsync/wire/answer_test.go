package wire

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDetailIsOneShortPrintableLine(t *testing.T) {
	for _, s := range []string{strings.Repeat("é", 500), "a\nb\x00c\x1b[31m", "\xff\xfe", strings.Repeat("x", 255) + "é"} {
		got := Detail("%s", s)
		if len(got) > DetailBytesMax || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\x00\x1b") {
			t.Errorf("Detail(%q) = %q (%d bytes)", s, got, len(got))
		}
	}
}

func TestRetryAfterIsSecondsOrAMoment(t *testing.T) {
	for given, want := range map[string]time.Duration{
		"7": 7 * time.Second, " 7 ": 7 * time.Second, "0": 0, "": 0, "-1": 0, "1.5": 0, "soon": 0,
		"4294967295": retryAfterMax, "4294967296": 0, "99999999999999999999": 0,
		"Sat, 21 Nov 2026 12:01:00 GMT": time.Minute, "Sat, 21 Nov 2026 11:59:00 GMT": 0, "Sat, 21 Nov 2099 12:00:00 GMT": retryAfterMax,
	} {
		header := http.Header{"Retry-After": {given}, "Date": {"Sat, 21 Nov 2026 12:00:00 GMT"}}
		if got := RetryAfter(header); got != want {
			t.Errorf("%q: got %v, want %v", given, got, want)
		}
	}
	if got := RetryAfter(http.Header{"Retry-After": {"Sat, 21 Nov 2026 12:01:00 GMT"}}); got != 0 {
		t.Errorf("a moment without the service's own time: got %v, want 0", got)
	}
}

// FuzzHeaders: whatever a header holds, a wait is bounded and a date is in UTC.
func FuzzHeaders(f *testing.F) {
	f.Add("7", "Sat, 21 Nov 2026 12:00:00 GMT", "application/json; charset=utf-8")
	f.Add("Sat, 21 Nov 2026 12:01:00 GMT", "Saturday, 21-Nov-26 12:00:00 GMT", "text/html")
	f.Add("-1", "", ";")
	f.Fuzz(func(t *testing.T, retryAfter, date, contentType string) {
		header := http.Header{"Retry-After": {retryAfter}, "Date": {date}, "Content-Type": {contentType}}
		if got := RetryAfter(header); got < 0 || got > retryAfterMax {
			t.Errorf("retry after %v", got)
		}
		if got := Date(header); got.Location() != time.UTC {
			t.Errorf("date %v", got)
		}
		if IsJSON(contentType) && !strings.Contains(strings.ToLower(contentType), "json") {
			t.Errorf("%q is JSON", contentType)
		}
	})
}
