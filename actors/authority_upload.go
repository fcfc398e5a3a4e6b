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
	case len(pem) == 0 || bytes.Equal(pem, u.done) || bytes.Equal(pem, u.under):
		return
	case u.under != nil:
		u.giveUp() // its end begins the next
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
	ctx, cancel := context.WithCancel(u.of.ctx)
	u.under, u.giveUp = pem, cancel
	u.of.work.Go(func() {
		defer cancel()
		u.run(ctx, pem, ids)
	})
}

func (u *upload) run(ctx context.Context, pem []byte, ids []messages.CertificateID) {
	err := u.of.cfg.Uploader.Upload(ctx, pem)
	if err == nil {
		err = u.record(ids)
	}
	u.mu.Lock()
	u.under = nil
	if err == nil {
		u.done = pem
	}
	u.mu.Unlock()
	switch {
	case err == nil:
		u.of.cfg.Logger.Info("authorities uploaded", "authorities", len(ids))
		u.of.look() // a successor may issue from now on
	case u.of.ctx.Err() != nil:
	case ctx.Err() != nil:
		u.look()
	default:
		u.of.cfg.Logger.Warn("authorities not uploaded; trying again at the next look", "error", err)
	}
}

// record notes what the cloud has.
func (u *upload) record(ids []messages.CertificateID) error {
	ctx, cancel := context.WithTimeout(u.of.ctx, authorityRetry)
	defer cancel()
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
