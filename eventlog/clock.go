package eventlog

import "time"

// systemNow is the default of Options.Now; nothing in the log's content depends on it.
func systemNow() time.Time { return time.Now() }

// after paces the feeder, which works behind what is durable: how long it waits shows in
// no answer and in no record.
func after(d time.Duration) <-chan time.Time { return time.After(d) }
