package actors

import (
	"bytes"
	"context"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// upload tells the cloud which authorities there are: at each start, and when they change.
// It runs beside everything else, and nothing waits for it.
type upload struct {
	of *Authority

	mu     sync.Mutex
	done   []byte // what the cloud has; guarded by mu, as all below
	under  []byte // what is under way; nil: nothing is
	giveUp func() // ends it
}

// look has uploaded what is new, in place of what is under way.
func (u *upload) look() {
	if u.of.cfg.Uploader == nil {
		return
	}
	book := u.of.book.Load()
	pem := book.Tops()
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.under != nil:
		if !bytes.Equal(pem, u.under) {
			u.giveUp() // its end begins the next, if the cloud does not have that
		}
		return
	case len(pem) == 0 || bytes.Equal(pem, u.done):
		return
	}
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	if u.of.closed {
		return
	}
	ctx, cancel := context.WithCancel(u.of.ctx)
	u.under, u.giveUp = pem, cancel
	u.of.beside(func() {
		defer cancel()
		u.run(ctx, pem)
	})
}

func (u *upload) run(ctx context.Context, pem []byte) {
	err := u.of.cfg.Uploader.Upload(ctx, pem, u.record)
	u.mu.Lock()
	u.under = nil
	if err == nil {
		u.done = pem
	}
	u.mu.Unlock()
	switch {
	case err == nil:
		u.of.cfg.Logger.Info("authorities uploaded")
		u.look() // they may have changed again
	case u.of.ctx.Err() != nil:
	case ctx.Err() != nil:
		u.look()
	default:
		u.of.cfg.Logger.Warn("authorities not uploaded; trying again at the next look", "error", err)
	}
}

// record notes that the cloud has a topmost certificate, which several authorities may have
// in common. What it had before is, from then on, no longer all it has.
func (u *upload) record(der []byte) error {
	u.mu.Lock()
	u.done = nil
	u.mu.Unlock()
	ctx, cancel := u.of.cfg.System.within(u.of.ctx, authorityRetry, context.DeadlineExceeded)
	defer cancel()
	for _, entry := range u.of.book.Load().Authorities {
		if entry.UploadedMs != 0 || !bytes.Equal(entry.Chain[len(entry.Chain)-1], der) {
			continue
		}
		if err := u.of.note(ctx, &messages.AuthorityUploaded{AuthorityId: string(entry.ID)}); err != nil {
			return err
		}
		u.of.Wake() // a successor may issue from now on
	}
	return nil
}
