package mochi

import (
	"log/slog"
	"sync"
	"time"
)

// refusalsPerMinute is how many refused connects are logged one by one; the rest of the
// minute's are counted. Anyone can be refused as often as they like, and must not fill
// the disk that way (reliability spec 4.8).
const refusalsPerMinute = 60

// refusals bounds what refused connects write into the log.
type refusals struct {
	mu     sync.Mutex
	minute time.Time // when the running minute began; guarded by mu, as all below
	told   int
	untold uint64
}

// tell logs a refusal, or counts it.
func (r *refusals) tell(logger *slog.Logger, now time.Time, args ...any) {
	tell, untold := r.count(now)
	if untold > 0 {
		logger.Warn("more connects were refused than are logged", "count", untold)
	}
	if tell {
		logger.Info("connect refused", args...)
	}
}

// count says whether a refusal at now is logged, and how many were not in the minute that
// it ends.
func (r *refusals) count(now time.Time) (tell bool, untold uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if past := now.Sub(r.minute); past >= time.Minute || past < 0 {
		untold = r.untold
		r.minute, r.told, r.untold = now, 0, 0
	}
	if r.told == refusalsPerMinute {
		r.untold++
		return false, untold
	}
	r.told++
	return true, untold
}
