package cloudsync

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// putter is a cloud whose answers are a script; beyond its end it takes everything.
type putter struct {
	mu     sync.Mutex
	script []messages.CloudAnswer
	at     []time.Duration // of each try, since the start
	pems   [][]byte
	up     atomic.Bool
	start  time.Time
}

func (p *putter) put(_ context.Context, pem []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.pems = append(p.at, time.Since(p.start)), append(p.pems, pem)
	if len(p.script) == 0 {
		return nil
	}
	answer := p.script[0]
	p.script = p.script[1:]
	return &PutError{answer}
}

// untold hears nothing.
func untold([]byte) error { return nil }

func silence(why messages.CloudFailure) messages.CloudAnswer {
	return messages.CloudAnswer{Failure: why, Detail: "silence"}
}

// uploading runs test with an uploader over p, whose jitter is none.
func uploading(t *testing.T, p *putter, test func(t *testing.T, u *Uploader)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.start = time.Now()
		u, err := NewUploader(UploaderConfig{Put: p.put, NetworkUp: p.up.Load, Jitter: func() float64 { return 1 }})
		if err != nil {
			t.Fatal(err)
		}
		test(t, u)
	})
}

// begin uploads in the background.
func begin(t *testing.T, u *Uploader, pem []byte) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- u.Upload(t.Context(), pem, untold) }()
	synctest.Wait()
	return ended
}

func authorityPEM(t testing.TB) []byte {
	t.Helper()
	return cloudsynctest.NewAuthority(t).PEM()
}

// Throttling, failures and a refused core are tried again from 3 s to 1 min, without end.
func TestUploadIsTriedWithoutEnd(t *testing.T) {
	ca := authorityPEM(t)
	kinds := []messages.CloudFailure{messages.FailureThrottled, messages.FailureServer, messages.FailureRefused}
	p := &putter{}
	for i := range 8 {
		p.script = append(p.script, silence(kinds[i%3]))
	}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		ended := begin(t, u, ca)
		time.Sleep(5 * time.Second)
		u.NetworkChanged(true) // does not hasten what the service holds back
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	want := []time.Duration{0, 3, 9, 21, 45, 93, 153, 213, 273}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
}

func TestUploadHonoursRetryAfterAndJitter(t *testing.T) {
	p := &putter{script: []messages.CloudAnswer{{Failure: messages.FailureThrottled, RetryAfter: 20 * time.Second}, {Failure: messages.FailureServer, RetryAfter: 10 * time.Hour}}}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		u.cfg.Jitter = func() float64 { return 0 }
		if err := u.Upload(t.Context(), authorityPEM(t), untold); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 20 * time.Second, 20*time.Second + time.Hour}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
	p = &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 2)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		u.cfg.Jitter = func() float64 { return 0 }
		if err := u.Upload(t.Context(), authorityPEM(t), untold); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 1500 * time.Millisecond, 4500 * time.Millisecond}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want half of each wait %v", p.at, want)
	}
}

// Who starts without a network publishes when it comes: the reference does not.
func TestUploadWaitsForTheNetwork(t *testing.T) {
	p := &putter{script: []messages.CloudAnswer{silence(messages.FailureUnreachable)}}
	uploading(t, p, func(t *testing.T, u *Uploader) {
		ended := begin(t, u, authorityPEM(t))
		time.Sleep(24 * time.Hour)
		u.NetworkChanged(false)
		synctest.Wait()
		if len(p.at) > 0 {
			t.Errorf("tried at %v without a network", p.at)
		}
		p.up.Store(true)
		u.NetworkChanged(true)
		time.Sleep(time.Second / 2)
		u.NetworkChanged(false) // hastens nothing
		time.Sleep(time.Second / 2)
		u.NetworkChanged(true) // hastens what the network held back
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{24 * time.Hour, 24*time.Hour + time.Second}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
}

// A network that fails for a moment, unnoticed by the monitor, is not waited for.
func TestUploadDoesNotTrustTheMonitorAlone(t *testing.T) {
	p := &putter{script: []messages.CloudAnswer{silence(messages.FailureUnreachable), silence(messages.FailureNotService)}}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		if err := u.Upload(t.Context(), authorityPEM(t), untold); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 3 * time.Second, 9 * time.Second}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
}

// A refusal is not for ever: what is missing in the cloud can be made there.
func TestRefusedUploadIsTriedAgain(t *testing.T) {
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{{Verdict: messages.CloudDenied, Detail: "no"}}, 3)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		ended := begin(t, u, authorityPEM(t))
		time.Sleep(90 * time.Minute)
		p.up.Store(false)
		u.NetworkChanged(false)
		time.Sleep(10 * time.Hour)
		p.up.Store(true)
		u.NetworkChanged(true)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, time.Hour, 690 * time.Minute, 750 * time.Minute}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
}

// Old and new go one by one, the newest last; what the cloud has is not sent again.
func TestSeveralAuthoritiesAreUploaded(t *testing.T) {
	first, second := authorityPEM(t), authorityPEM(t)
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureThrottled)}, 1)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		if err := u.Upload(t.Context(), slices.Concat(first, []byte("\n"), second), untold); err != nil {
			t.Error(err)
		}
	})
	if want := [][]byte{first, first, second}; !slices.EqualFunc(p.pems, want, bytes.Equal) {
		t.Errorf("%d tries", len(p.pems))
	}
	p = &putter{}
	uploading(t, p, func(t *testing.T, u *Uploader) {
		for name, text := range map[string][]byte{
			"nothing": nil, "no PEM": []byte("x"), "half of it": slices.Concat(first, second[:len(second)/2]), "text behind": append(authorityPEM(t), 'x'),
			"too many": bytes.Repeat(first, authoritiesMax+1),
			"too long": bytes.Repeat(append(make([]byte, authorityBytesMax), first...), authoritiesMax),
		} {
			if err := u.Upload(t.Context(), text, untold); err == nil {
				t.Errorf("%s: uploaded", name)
			}
		}
	})
	if len(p.pems) > 0 {
		t.Errorf("%d tries", len(p.pems))
	}
}

func TestUploadEnds(t *testing.T) {
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 100)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		for _, up := range []bool{true, false} {
			p.up.Store(up)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := u.Upload(ctx, authorityPEM(t), untold); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			cancel()
		}
	})
	if _, err := NewUploader(UploaderConfig{}); err == nil {
		t.Error("an uploader without a cloud was made")
	}
}

// What was broken off is no failure that goes on.
func TestUploadBrokenOffIsNoFailure(t *testing.T) {
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 100)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Upload(ctx, authorityPEM(t), untold) }()
		synctest.Wait()
		if s := u.State(); s.Err == nil || s.Since.IsZero() {
			t.Errorf("while it fails: %+v", s)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if s := u.State(); s.Err != nil || !s.Since.IsZero() || s.Failed != 1 {
			t.Errorf("broken off: %+v", s)
		}
	})
}

// What people see of it: since when it fails and why, and that it waits for the network.
func TestUploadStateIsShown(t *testing.T) {
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 3)}
	uploading(t, p, func(t *testing.T, u *Uploader) {
		ended := begin(t, u, authorityPEM(t))
		if s := u.State(); !s.Waiting || s.Failed != 0 || s.Err != nil {
			t.Errorf("without a network: %+v", s)
		}
		p.up.Store(true)
		u.NetworkChanged(true)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s := u.State(); s.Waiting || s.Failed != 2 || !s.Since.Equal(p.start) || s.Err == nil {
			t.Errorf("while it fails: %+v", s)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := u.State(); s.Failed != 3 || !s.Since.IsZero() || s.Err != nil {
			t.Errorf("when it is done: %+v", s)
		}
	})
}
