package eventlog

import "time"

// systemNow is the default of Options.Now; nothing in the log's content depends on it.
func systemNow() time.Time { return time.Now() }
