package actors_test

import (
	"context"
	"encoding/pem"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// picky is a cloud that takes the newest authority only, and never the first.
type picky struct{}

func (picky) Upload(ctx context.Context, text []byte, taken func([]byte) error) error {
	first, rest := pem.Decode(text)
	newest := first
	for len(rest) > 0 {
		newest, rest = pem.Decode(rest)
	}
	if newest != first {
		if err := taken(newest.Bytes); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestEachUploadIsRecorded: a successor that the cloud has issues ten minutes later, though
// the cloud refuses the one before it.
func TestEachUploadIsRecorded(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	c.config.Uploader = picky{}
	b := c.mustStart(t)
	c.settings.Type = ca.TypeRSA2048
	c.clock.Advance(time.Minute)
	eventually(t, "the successor's upload is on record", func() bool {
		list := b.authority.Describe().Authorities
		return len(list) == 2 && list[1].Uploaded
	})
	c.clock.Advance(11 * time.Minute)
	if list := b.authority.Describe().Authorities; list[0].Uploaded || !list[1].Issues {
		t.Errorf("authorities %+v", list)
	}
}
