package cloudsync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// service answers after a while, and notes who was asked about when. It lives in a bubble.
type service struct {
	mu      sync.Mutex
	started time.Time
	takes   time.Duration
	answer  messages.CloudAnswer
	asked   []string // "thing@seconds"
	asking  int
	most    int
}

func newService(takes time.Duration) *service {
	return &service{started: time.Now(), takes: takes, answer: messages.CloudAnswer{Verdict: messages.CloudConfirmed}}
}

func (s *service) ask(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s@%.1f", q.Thing, time.Since(s.started).Seconds()))
	s.asking++
	s.most = max(s.most, s.asking)
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
	return s.answer
}

func (s *service) says(a messages.CloudAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

// seen returns who was asked about since it was last called.
func (s *service) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// queue returns a queue of s without jitter: a back-off lasts as long as it may.
func (s *service) queue(t *testing.T, cfg QueueConfig) *Queue {
	t.Helper()
	cfg.Now = time.Now // the bubble's
	if cfg.Jitter == nil {
		cfg.Jitter = func() float64 { return 1 }
	}
	q, err := NewQueue(s.ask, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func behind(thing string, endsMs int64) messages.CloudQuestion {
	return messages.CloudQuestion{Certificate: ourID, Thing: messages.ThingName(thing), Background: true, EndsMs: endsMs}
}

func ours(thing string) messages.CloudQuestion {
	return messages.CloudQuestion{Certificate: ourID, Thing: messages.ThingName(thing)}
}

func stranger(thing string) messages.CloudQuestion {
	return messages.CloudQuestion{Certificate: ourID, Thing: messages.ThingName(thing), Stranger: true}
}

func submit(t *testing.T, q *Queue, answers *box, questions ...messages.CloudQuestion) {
	t.Helper()
	for _, question := range questions {
		if err := q.Submit(question, answers.put); err != nil {
			t.Fatalf("%s: %v", question.Thing, err)
		}
	}
}

func wantAsked(t *testing.T, s *service, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.seen(); !slices.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
}

func TestSoonestEndingTrustIsAskedAboutFirstAndAtThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(20*time.Millisecond), &box{}
		q := s.queue(t, QueueConfig{RefreshRate: 5})
		defer q.Close()
		submit(t, q, answers, behind("first", 900), behind("none-1", 0), behind("late", 900), behind("soon", 100), behind("none-2", 0), behind("later", 901))
		time.Sleep(5 * time.Second)
		wantAsked(t, s, "first@0.0", "soon@0.2", "late@0.4", "later@0.6", "none-1@0.8", "none-2@1.0")
		if got := answers.len(); got != 6 {
			t.Errorf("%d answers, want 6", got)
		}
	})
}

// 100,000 devices at the configured rate: neither faster, nor slower for a slow timer.
func TestTheRateIsKept(t *testing.T) {
	for _, rate := range []int{1, 10, 1000} {
		synctest.Test(t, func(t *testing.T) {
			s, answers := newService(0), &box{}
			q := s.queue(t, QueueConfig{Size: 20 * rate, RefreshRate: rate, AfterFunc: func(d time.Duration, f func()) func() bool {
				return time.AfterFunc(d+3*time.Millisecond, f).Stop // late, as timers are
			}})
			defer q.Close()
			for i := range 12 * rate {
				submit(t, q, answers, behind(fmt.Sprint("pump-", i), 0))
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got, want := len(s.seen()), 10*rate; got < want-rate/50 || got > want+rate/10+1 {
				t.Errorf("%d questions in 10 s, want %d", got, want)
			}
		})
	}
}

func TestADeviceWaitsForOneBackgroundQuestionAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(time.Second), &box{}
		q := s.queue(t, QueueConfig{Size: 4, RefreshRate: 1000})
		defer q.Close()
		submit(t, q, answers, behind("b0", 1), behind("b1", 1), behind("b2", 1), behind("b3", 1), behind("b4", 1))
		if err := q.Submit(behind("b5", 1), answers.put); !isBusy(err) {
			t.Errorf("the fifth that waits: %v, want busy", err)
		}
		synctest.Wait()
		submit(t, q, answers, ours("d0"), ours("d1"), ours("d2"), ours("d3")) // all places are there
		if err := q.Submit(ours("d4"), answers.put); !isBusy(err) {
			t.Errorf("the fifth device: %v, want busy", err)
		}
		if got, want := q.Waiting(), (Load{Known: 4, Background: 4, Asking: 1}); got != want {
			t.Errorf("load %+v, want %+v", got, want)
		}
		time.Sleep(20 * time.Second)
		wantAsked(t, s, "b0@0.0", "d0@1.0", "d1@2.0", "d2@3.0", "d3@4.0", "b1@5.0", "b2@6.0", "b3@7.0", "b4@8.0")
	})
}

func TestBackgroundQuestionsLeaveAWorkerFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(time.Second), &box{}
		q := s.queue(t, QueueConfig{Workers: 3, RefreshRate: 1000})
		defer q.Close()
		for i := range 10 {
			submit(t, q, answers, behind(fmt.Sprint("b", i), 1))
		}
		time.Sleep(500 * time.Millisecond)
		if got := q.Waiting(); got.Asking != 2 || got.Background != 8 {
			t.Errorf("load %+v, want 2 being asked", got)
		}
		s.seen()
		submit(t, q, answers, ours("d0"))
		wantAsked(t, s, "d0@0.5")
		q.SetWorkers(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := answers.len(); got != 11 {
			t.Errorf("%d answers, want 11", got)
		}
	})
}

// A flood of strangers must not keep trust from being renewed; known devices go first.
func TestAFloodOfStrangersDoesNotStarveTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(100*time.Millisecond), &box{}
		q := s.queue(t, QueueConfig{Size: 20, RefreshRate: 1000})
		defer q.Close()
		submit(t, q, answers, stranger("s")) // is being asked
		for i := range 10 {
			submit(t, q, answers, stranger(fmt.Sprint("s", i)), behind(fmt.Sprint("b", i), 1))
		}
		for i := range 6 {
			submit(t, q, answers, ours(fmt.Sprint("d", i)))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var order strings.Builder
		for _, asked := range s.seen() {
			order.WriteByte(asked[0])
		}
		if got, want := order.String(), "sddddsddsssbssssbssbbbbbbbb"; got != want {
			t.Errorf("asked in the order %s, want %s", got, want)
		}
	})
}

func TestADeviceTakesABackgroundQuestionWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(time.Second), &box{}
		q := s.queue(t, QueueConfig{Size: 3, RefreshRate: 1000})
		defer q.Close()
		submit(t, q, answers, ours("busy"), behind("b0", 1), behind("b1", 2), behind("b2", 3), stranger("s0"), ours("d0"))
		synctest.Wait()
		submit(t, q, answers, ours("b2"), stranger("b2"), behind("b2", 9), behind("b1", 0)) // b2 now is a device's question
		if got, want := q.Waiting(), (Load{Known: 2, Strangers: 1, Background: 2, Asking: 1}); got != want {
			t.Errorf("load %+v, want %+v", got, want)
		}
		if err := q.Submit(ours("b0"), answers.put); !isBusy(err) {
			t.Errorf("a fourth device: %v, want busy", err)
		}
		submit(t, q, answers, ours("s0"))      // the stranger is known meanwhile: it goes behind those who are
		submit(t, q, answers, behind("b1", 0)) // the sooner end stays
		submit(t, q, answers, behind("b0", 9))
		time.Sleep(20 * time.Second)
		wantAsked(t, s, "busy@0.0", "d0@1.0", "b2@2.0", "s0@3.0", "b0@4.0", "b1@5.0")
		if got := answers.len(); got != 13 {
			t.Errorf("%d answers, want one for each that was taken, 13", got)
		}
	})
}

func TestABackgroundQuestionBecomesMoreUrgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(time.Second), &box{}
		q := s.queue(t, QueueConfig{RefreshRate: 1000})
		defer q.Close()
		submit(t, q, answers, behind("b0", 5), behind("b1", 6), behind("b2", 7), behind("b3", 0))
		synctest.Wait()
		submit(t, q, answers, behind("b3", 1), behind("b2", 2), behind("b1", 0))
		time.Sleep(10 * time.Second)
		wantAsked(t, s, "b0@0.0", "b3@1.0", "b2@2.0", "b1@3.0")
	})
}

// A device that asks while the background waits for its pace does not wait for it.
func TestADeviceFreesABackgroundQuestionFromItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(0), &box{}
		q := s.queue(t, QueueConfig{RefreshRate: 1})
		defer q.Close()
		submit(t, q, answers, behind("b0", 1), behind("b1", 1), behind("b2", 1))
		time.Sleep(100 * time.Millisecond)
		submit(t, q, answers, ours("b2"))
		wantAsked(t, s, "b0@0.0", "b2@0.1")
		if got := answers.len(); got != 3 {
			t.Errorf("%d answers, want 3: both who asked about b2 have theirs", got)
		}
		time.Sleep(time.Second)
		wantAsked(t, s, "b1@1.0")
	})
}

// Reliability spec 2.3, D2c: throttling and failures slow the background, never a device.
func TestTheBackgroundBacksOff(t *testing.T) {
	throttled := messages.CloudAnswer{Failure: messages.FailureThrottled}
	for _, test := range []struct {
		name    string
		answer  messages.CloudAnswer
		jitter  float64
		minutes int
		want    string // when the background is asked, in seconds
	}{
		{"throttled", throttled, 1, 8, "0.0 0.5 1.5 3.5 7.5 15.5 31.5 63.5 127.5 255.5"},
		{"half the jitter", throttled, 0.5, 4, "0.0 0.2 0.8 1.8 3.8 7.8 15.8 31.8 63.8 127.8"},
		{"failed", messages.CloudAnswer{Failure: messages.FailureServer}, 1, 1, "0.0 0.5 1.5 3.5 7.5 15.5 31.5"},
		{"refused", messages.CloudAnswer{Failure: messages.FailureRefused}, 1, 1, "0.0 0.5 1.5 3.5 7.5 15.5 31.5"},
		{"unreachable", messages.CloudAnswer{Failure: messages.FailureUnreachable}, 1, 1, "0.0 0.5 1.5 3.5 7.5 15.5 31.5"},
		{"Retry-After", messages.CloudAnswer{Failure: messages.FailureThrottled, RetryAfter: 20 * time.Second}, 1, 2, "0.0 20.5 41.5 63.5 87.5 115.5"},
		{"a long Retry-After", messages.CloudAnswer{Failure: messages.FailureServer, RetryAfter: time.Hour}, 0, 11, "0.0 300.0 600.0"},
		{"nothing was asked", messages.CloudAnswer{Failure: messages.FailureNotAsked}, 1, 1, "0.0 10.0 20.0 30.0 40.0 50.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, answers := newService(0), &box{}
				s.says(test.answer)
				jitter := func() float64 { return test.jitter }
				// While it fails, a question takes no time: the pace alone shows.
				q := s.queue(t, QueueConfig{RefreshRate: 1000, Jitter: jitter})
				if test.answer.Failure == messages.FailureNotAsked {
					q.pace.interval = 10 * time.Second
				}
				for i := range 40 {
					submit(t, q, answers, behind(fmt.Sprintf("b%02d", i), int64(i+1)))
				}
				time.Sleep(time.Duration(test.minutes)*time.Minute - time.Millisecond)
				synctest.Wait()
				var at []string
				for _, asked := range s.seen() {
					_, seconds, _ := strings.Cut(asked, "@")
					at = append(at, seconds)
				}
				if got := strings.Join(at, " "); got != test.want {
					t.Errorf("asked at %s, want %s", got, test.want)
				}
				submit(t, q, answers, ours("d0"))
				wantAsked(t, s, fmt.Sprintf("d0@%.1f", float64(test.minutes)*60))
				q.Close()
				if got := answers.len(); got != 41 {
					t.Errorf("%d answers, want 41", got)
				}
			})
		})
	}
}

// With stop-watch and pencil: many failures at once are one, a good answer ends the
// doubling, and a network that is back ends the wait.
func TestABackOffKnowsOldNewsFromNew(t *testing.T) {
	at := func(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }
	fails := func(why messages.CloudFailure) messages.CloudAnswer { return messages.CloudAnswer{Failure: why} }
	yes := messages.CloudAnswer{Verdict: messages.CloudConfirmed}
	p := pace{interval: time.Millisecond, jitter: func() float64 { return 1 }}
	until := func(when string, want float64) {
		t.Helper()
		if !p.until.Equal(at(want)) {
			t.Errorf("%s: until %v after noon, want %v s", when, p.until.Sub(noon), want)
		}
	}
	p.learn(fails(messages.FailureServer), at(0), at(1))
	until("one failure", 1.5)
	p.learn(fails(messages.FailureServer), at(0.1), at(1.1))
	p.learn(fails(messages.FailureServer), at(1.2), at(1.4))
	until("others of the same moment", 1.5)
	p.learn(fails(messages.FailureServer), at(0.9), at(3))
	until("one from before it", 1.5)
	p.learn(fails(messages.FailureServer), at(2), at(4))
	until("the next", 5)
	p.learn(messages.CloudAnswer{Failure: messages.FailureThrottled, RetryAfter: 10 * time.Second}, at(4.1), at(4.2))
	until("the service wants longer", 14.2)
	p.learn(yes, at(3.9), at(4.5))
	if p.step != time.Second {
		t.Errorf("an old yes ended the doubling: step %v", p.step)
	}
	p.learn(yes, at(4.1), at(4.6))
	until("a yes meanwhile", 14.2)
	p.learn(fails(messages.FailureThrottled), at(14.3), at(14.4))
	until("the first after a yes", 14.9)
	p.resume()
	until("the network is back, but it throttled", 14.9)
	p.learn(fails(messages.FailureUnreachable), at(15), at(16))
	until("the network is away", 17)
	p.resume()
	if !p.until.IsZero() || p.step != 0 {
		t.Errorf("the network is back: until %v, step %v", p.until, p.step)
	}
}

// Whatever comes in whatever order: never longer than five minutes from now, and shortened
// by nothing.
func TestABackOffIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jitter := rapid.Float64Range(0, 0.999)
		p := pace{interval: time.Millisecond, jitter: func() float64 { return jitter.Draw(t, "jitter") }}
		seconds := rapid.Int64Range(0, 600)
		now := noon
		for range 50 {
			now = now.Add(time.Duration(seconds.Draw(t, "later")) * time.Second)
			began := now.Add(-time.Duration(seconds.Draw(t, "took")) * time.Second)
			a := messages.CloudAnswer{
				Verdict:    rapid.SampledFrom([]messages.CloudVerdict{messages.CloudSilent, messages.CloudSilent, messages.CloudConfirmed}).Draw(t, "verdict"),
				Failure:    messages.CloudFailure(rapid.IntRange(0, int(messages.FailureNotAsked)).Draw(t, "failure")),
				RetryAfter: time.Duration(rapid.Int64Range(0, 3600).Draw(t, "retry after")) * time.Second,
			}
			before := p.until
			p.learn(a, began, now)
			if wait := p.until.Sub(now); wait > backoffMax || p.step > backoffMax {
				t.Fatalf("waits %v, step %v", wait, p.step)
			}
			if before.After(now) && p.until.Before(before) {
				t.Fatalf("%+v shortened the wait from %v to %v", a, before.Sub(now), p.until.Sub(now))
			}
		}
	})
}

func TestTheNetworkThatComesBackEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(0), &box{}
		s.says(messages.CloudAnswer{Failure: messages.FailureUnreachable})
		q := s.queue(t, QueueConfig{RefreshRate: 1000})
		defer q.Close()
		for i := range 20 {
			submit(t, q, answers, behind(fmt.Sprint("b", i), 1))
		}
		time.Sleep(40 * time.Second)
		if got := q.Waiting(); got.Paused <= 0 || got.Background != 13 {
			t.Errorf("load %+v, want a pause with 13 waiting", got)
		}
		s.says(messages.CloudAnswer{Verdict: messages.CloudConfirmed})
		q.Resume()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := q.Waiting(); got != (Load{}) || answers.len() != 20 {
			t.Errorf("load %+v, %d answers, want all 20", got, answers.len())
		}
	})
}

func TestABackgroundQuestionIsGivenUpInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(0), &box{}
		s.says(messages.CloudAnswer{Failure: messages.FailureThrottled, RetryAfter: time.Hour})
		q := s.queue(t, QueueConfig{})
		defer q.Close()
		for i := range 20 {
			submit(t, q, answers, behind(fmt.Sprintf("b%02d", i), int64(i)+1))
		}
		time.Sleep(backgroundWaitMax + 6*time.Minute)
		wantAsked(t, s, "b00@0.0", "b01@300.0", "b02@600.0")
		if got := answers.len(); got != 20 {
			t.Fatalf("%d answers, want 20", got)
		}
		if last := answers.got[19]; last.Verdict != messages.CloudSilent || last.Failure != messages.FailureNotAsked || !strings.Contains(last.Detail, "10m") {
			t.Errorf("got %+v", last)
		}
	})
}

func TestCloseAnswersTheBackgroundToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, answers := newService(time.Hour), &box{}
		q := s.queue(t, QueueConfig{Workers: 2})
		for i := range 10 {
			submit(t, q, answers, behind(fmt.Sprint("b", i), 1))
		}
		synctest.Wait()
		submit(t, q, answers, ours("d0"), ours("d1"))
		time.Sleep(time.Second)
		q.Close()
		if got := answers.len(); got != 12 || q.Waiting() != (Load{}) {
			t.Errorf("%d answers, load %+v, want 12 and none", got, q.Waiting())
		}
		time.Sleep(time.Hour) // no alarm rings, or it does nothing
		wantAsked(t, s, "b0@0.0", "d0@0.0")
	})
}
