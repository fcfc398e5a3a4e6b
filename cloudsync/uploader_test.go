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

func silence(why messages.CloudFailure) messages.CloudAnswer {
	return messages.CloudAnswer{Failure: why, Detail: "silence"}
}

// uploading runs test with an uploader over p, whose jitter is none.
func uploading(t *testing.T, p *putter, test func(t *testing.T, u *Uploader, uploaded *atomic.Int32)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.start = time.Now()
		var uploaded atomic.Int32
		u, err := NewUploader(UploaderConfig{
			Put: p.put, NetworkUp: p.up.Load, Jitter: func() float64 { return 1 }, Uploaded: func([]byte) { uploaded.Add(1) },
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, u, &uploaded)
		u.Close()
	})
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
	uploading(t, p, func(t *testing.T, u *Uploader, uploaded *atomic.Int32) {
		if err := u.Offer(ca); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if s := u.State(); s.Done || s.Tries != 2 || s.Err == nil || !bytes.Equal(s.PEM, ca) {
			t.Errorf("after 5 s: %+v", s)
		}
		u.NetworkChanged(true) // does not hasten what the service holds back
		time.Sleep(time.Hour)
		if s := u.State(); !s.Done || s.Tries != 9 || s.Err != nil || uploaded.Load() != 1 {
			t.Errorf("in the end: %+v, uploaded %d", s, uploaded.Load())
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
	uploading(t, p, func(t *testing.T, u *Uploader, _ *atomic.Int32) {
		u.cfg.Jitter = func() float64 { return 0 }
		if err := u.Upload(t.Context(), authorityPEM(t)); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 20 * time.Second, 20*time.Second + time.Hour}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
	p = &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 2)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader, _ *atomic.Int32) {
		u.cfg.Jitter = func() float64 { return 0 }
		if err := u.Upload(t.Context(), authorityPEM(t)); err != nil {
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
	uploading(t, p, func(t *testing.T, u *Uploader, _ *atomic.Int32) {
		if err := u.Offer(authorityPEM(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		u.NetworkChanged(false)
		synctest.Wait()
		if len(p.at) > 0 {
			t.Errorf("tried at %v without a network", p.at)
		}
		p.up.Store(true)
		u.NetworkChanged(true)
		time.Sleep(time.Second)
		u.NetworkChanged(true) // hastens what the network held back
		synctest.Wait()
		if s := u.State(); !s.Done || s.Tries != 2 {
			t.Errorf("after the network returned twice: %+v", s)
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
	uploading(t, p, func(t *testing.T, u *Uploader, _ *atomic.Int32) {
		if err := u.Upload(t.Context(), authorityPEM(t)); err != nil {
			t.Error(err)
		}
	})
	if want := []time.Duration{0, 3 * time.Second, 9 * time.Second}; !slices.Equal(p.at, want) {
		t.Errorf("tried at %v, want %v", p.at, want)
	}
}

func TestRefusedUploadIsTriedAgainWhenTheNetworkReturns(t *testing.T) {
	no := messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: "no"}
	p := &putter{script: []messages.CloudAnswer{no, no, no}}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader, uploaded *atomic.Int32) {
		if put, ok := errors.AsType[*PutError](u.Upload(t.Context(), authorityPEM(t))); !ok || put.Error() != "no" {
			t.Errorf("refused: %v", put)
		}
		if err := u.Offer(authorityPEM(t)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s := u.State(); s.Tries != 1 || s.Err == nil {
			t.Errorf("refused: %+v", s)
		}
		p.up.Store(false)
		u.NetworkChanged(false)
		time.Sleep(time.Hour)
		p.up.Store(true)
		u.NetworkChanged(true)
		time.Sleep(time.Hour)
		if s := u.State(); s.Tries != 2 {
			t.Errorf("after the network returned: %+v", s)
		}
		u.NetworkChanged(true)
		synctest.Wait()
		if uploaded.Load() != 1 {
			t.Errorf("uploaded %d, want 1", uploaded.Load())
		}
	})
}

// A newer authority takes the place of one that waits, and of one under way.
func TestNewestOfferWins(t *testing.T) {
	first, second, third := authorityPEM(t), authorityPEM(t), authorityPEM(t)
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureThrottled)}, 2)}
	uploading(t, p, func(t *testing.T, u *Uploader, uploaded *atomic.Int32) {
		if err := errors.Join(u.Offer(first), u.Offer(second)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		p.up.Store(true)
		u.NetworkChanged(true)
		time.Sleep(10 * time.Second) // two tries
		if err := u.Offer(third); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := u.State(); !s.Done || s.Tries != 1 || !bytes.Equal(s.PEM, third) || uploaded.Load() < 1 {
			t.Errorf("%+v, uploaded %d", s, uploaded.Load())
		}
	})
	if len(p.pems) < 3 || !bytes.Equal(p.pems[0], second) || !bytes.Equal(p.pems[len(p.pems)-1], third) {
		t.Errorf("%d tries", len(p.pems))
	}
}

func TestUploaderEnds(t *testing.T) {
	p := &putter{script: slices.Repeat([]messages.CloudAnswer{silence(messages.FailureServer)}, 100)}
	p.up.Store(true)
	uploading(t, p, func(t *testing.T, u *Uploader, _ *atomic.Int32) {
		if err := u.Offer(authorityPEM(t)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := u.Upload(ctx, authorityPEM(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		ended := make(chan error)
		go func() { ended <- u.Upload(t.Context(), authorityPEM(t)) }()
		synctest.Wait()
		u.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
	if _, err := NewUploader(UploaderConfig{}); err == nil {
		t.Error("an uploader without a cloud was made")
	}
}
