package shadow

import (
	"slices"
	"testing"
	"time"
)

// What cannot be stored does not stand in the way of a newer list: a notice is given up when
// another waits, however long its next try is away.
func TestNewerNoticeTakesTheTurn(t *testing.T) {
	s := newSite(t)
	s.keeper.refused = "10.0.0.a"
	s.desire("a")
	f := s.follow(func(cfg *Config) { cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour })
	s.await("it is refused", func() bool { go s.recheckLater(); return f.State().Err != nil })
	s.desire("b")
	s.awaitHosts("10.0.0.b", "localhost")
	s.awaitReported("b")
	if state := f.State(); state.Err != nil || state.Handled.Version != `"b"` {
		t.Errorf("state %+v", state)
	}
}

// What a try stores is what the cloud has then: a list that was mended there is taken without
// any notice.
func TestListThatCannotBeStoredIsAskedForAgain(t *testing.T) {
	f := &Follower{inbox: newInbox(), news: make(chan struct{}), ctx: t.Context()}
	f.link = &link{f: f}
	source := &source{site: newSite(t), mode: "fail-once"}
	source.site.desire("a")
	k := &keeper{site: source.site, refused: "10.0.0.a"}
	f.cfg = Config{Source: source, Keeper: k, Log: slogDiscard, Jitter: func() float64 { return 1 }, AfterFunc: func(_ time.Duration, over func()) func() bool {
		if source.asked() == 3 {
			source.site.desire("b")
		}
		over()
		return func() bool { return false }
	}}
	if !f.handle(Notice{}) || !slices.Contains(k.hosts, "10.0.0.b") || source.asked() != 4 {
		t.Errorf("stored %v, asked %d times", k.hosts, source.asked())
	}
}
