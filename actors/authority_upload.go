package actors

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Waits between tries to tell the cloud (client-device-auth spec 6.6).
const (
	uploadWaitMin = 3 * time.Second
	uploadWaitMax = time.Minute
	uploadTimeout = time.Minute
)

// upload tells the cloud which authorities there are: at each start, and when they change.
// It runs beside everything else, and waits for nothing.
type upload struct {
	of *Authority

	mu   sync.Mutex
	done []byte        // what the cloud has; guarded by mu, as all below
	runs bool          // a try is under way
	wait time.Duration // before the next try; 0: at once
	stop func() bool   // the next try
}

// look starts a try if there is something new, and none waits or runs.
func (u *upload) look() {
	if u.of.cfg.Uploader == nil {
		return
	}
	book := u.of.book.Load()
	pem := book.Tops()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.runs || u.stop != nil || len(pem) == 0 || bytes.Equal(pem, u.done) {
		return
	}
	ids := make([]messages.CertificateID, len(book.Authorities))
	for i, entry := range book.Authorities {
		ids[i] = entry.ID
	}
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	if u.of.closed {
		return
	}
	u.runs = true
	u.of.work.Go(func() { u.try(pem, ids) })
}

func (u *upload) try(pem []byte, ids []messages.CertificateID) {
	ctx, cancel := context.WithTimeout(u.of.ctx, uploadTimeout)
	defer cancel()
	err := u.of.cfg.Uploader.Upload(ctx, pem)
	if err == nil {
		err = u.record(ctx, ids)
	}
	u.mu.Lock()
	u.runs = false
	if err == nil {
		u.done, u.wait = pem, 0
		u.mu.Unlock()
		u.of.cfg.Logger.Info("authorities uploaded", "authorities", len(ids))
		u.of.look() // a successor may issue from now on
		return
	}
	u.wait = min(max(2*u.wait, uploadWaitMin), uploadWaitMax)
	wait := u.wait
	if u.of.ctx.Err() == nil {
		u.stop = u.of.cfg.Clock.AfterFunc(wait, u.again)
	}
	u.mu.Unlock()
	u.of.cfg.Logger.Warn("authorities not uploaded; trying again", "error", err, "wait_ms", wait.Milliseconds())
}

// record notes what the cloud has.
func (u *upload) record(ctx context.Context, ids []messages.CertificateID) error {
	for _, id := range ids {
		if _, ok := u.of.book.Load().Entry(id); !ok {
			continue // retired meanwhile
		}
		if err := u.of.note(ctx, &messages.AuthorityUploaded{AuthorityId: string(id)}); err != nil {
			return err
		}
	}
	return nil
}

// again makes the next try: its time has come, or the network is back.
func (u *upload) again() {
	u.mu.Lock()
	if u.stop != nil {
		u.stop()
	}
	u.stop = nil
	u.mu.Unlock()
	u.look()
}
