package cloudsync

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// chooser is a cloud that answers each certificate in its own way.
type chooser struct {
	names   map[string][]byte // PEM
	answers map[string]func() error
	start   time.Time

	mu    sync.Mutex
	tries []string // name and time of each
	taken []string // name of each, as it was told
}

func (c *chooser) name(text []byte) string {
	for name, known := range c.names {
		if bytes.Equal(text, known) {
			return name
		}
	}
	return "unknown"
}

func (c *chooser) put(_ context.Context, text []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.name(text)
	c.tries = append(c.tries, fmt.Sprint(name, " ", time.Since(c.start)))
	if answer := c.answers[name]; answer != nil {
		return answer()
	}
	return nil
}

func (c *chooser) told(der []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = append(c.taken, c.name(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return nil
}

// choosing uploads old and new to c in the background while test runs.
func choosing(t *testing.T, c *chooser, test func(t *testing.T, u *Uploader, ended chan error)) {
	t.Helper()
	c.names = map[string][]byte{"old": authorityPEM(t), "new": authorityPEM(t)}
	synctest.Test(t, func(t *testing.T) {
		c.start = time.Now()
		u, err := NewUploader(UploaderConfig{Put: c.put, NetworkUp: func() bool { return true }, Jitter: func() float64 { return 1 }})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- u.Upload(t.Context(), slices.Concat(c.names["old"], c.names["new"]), c.told) }()
		synctest.Wait()
		test(t, u, ended)
	})
}

// One that is not taken, whatever the reason, keeps the others from nothing, is told as long
// as it is missing, and when it is taken the newest comes last again.
func TestUploadGoesPastWhatIsNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		answer messages.CloudAnswer
		again  time.Duration
	}{
		"refused for good":  {messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: "no"}, time.Hour},
		"failing":           {silence(messages.FailureServer), 3 * time.Second},
		"refusing the core": {silence(messages.FailureRefused), 3 * time.Second},
		"not answering":     {silence(messages.FailureUnreachable), 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			refusals := 0
			c := &chooser{answers: map[string]func() error{"old": func() error {
				if refusals++; refusals > 2 {
					return nil
				}
				return &PutError{test.answer}
			}}}
			second := 2 * test.again // its waits double …
			if test.again == time.Hour {
				second = time.Hour // … unless it is refused
			}
			choosing(t, c, func(t *testing.T, u *Uploader, ended chan error) {
				c.mu.Lock()
				if s := u.State(); s.Err == nil || !s.Since.Equal(c.start) || s.Failed != 1 || !slices.Equal(c.taken, []string{"new"}) {
					t.Errorf("after one round: %+v, taken %v", s, c.taken)
				}
				c.mu.Unlock()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if s := u.State(); s.Err != nil || !s.Since.IsZero() || s.Failed != 2 {
					t.Errorf("at the end: %+v", s)
				}
			})
			end := (test.again + second).String()
			if want := []string{"old 0s", "new 0s", "old " + test.again.String(), "old " + end, "new " + end}; !slices.Equal(c.tries, want) {
				t.Errorf("tried %v, want %v", c.tries, want)
			}
			if want := []string{"new", "old", "new"}; !slices.Equal(c.taken, want) {
				t.Errorf("taken %v, want %v", c.taken, want)
			}
		})
	}
}

// A service that asks to be left alone is, for all certificates, also when the network returns.
func TestUploadLeavesTheServiceAlone(t *testing.T) {
	for _, failure := range []messages.CloudFailure{messages.FailureThrottled, messages.FailureServer} {
		first := true
		c := &chooser{answers: map[string]func() error{"old": func() error {
			if !first {
				return nil
			}
			first = false
			return &PutError{messages.CloudAnswer{Failure: failure, RetryAfter: time.Minute}}
		}}}
		choosing(t, c, func(t *testing.T, u *Uploader, ended chan error) {
			time.Sleep(30 * time.Second)
			u.NetworkChanged(true)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		if want := []string{"old 0s", "old 1m0s", "new 1m0s"}; !slices.Equal(c.tries, want) {
			t.Errorf("tried %v, want %v", c.tries, want)
		}
	}
}

// Who cannot record what the cloud took has it uploaded again.
func TestUploadEndsWithWhoHears(t *testing.T) {
	full := errors.New("disk full")
	p := &putter{}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		if err := u.Upload(t.Context(), slices.Concat(authorityPEM(t), authorityPEM(t)), func([]byte) error { return full }); !errors.Is(err, full) || len(p.pems) != 1 {
			t.Errorf("%v after %d tries", err, len(p.pems))
		}
	})
}
