package actors_test

import (
	"context"
	"encoding/pem"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
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

// waiting is a cloud that takes one authority, and never two.
type waiting struct{ begun, ended chan []byte }

func (w waiting) Upload(ctx context.Context, text []byte, taken func([]byte) error) error {
	w.begun <- text
	if first, rest := pem.Decode(text); len(rest) == 0 {
		return taken(first.Bytes)
	}
	<-ctx.Done()
	w.ended <- text
	return ctx.Err()
}

// TestUploadIsGivenUp: what waits for the cloud is broken off when there is nothing left to
// tell, since authorities are what the cloud has again.
func TestUploadIsGivenUp(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	w := waiting{make(chan []byte, 10), make(chan []byte, 10)}
	c.config.Uploader, c.config.Custom = w, newOperator(t)
	b := c.mustStart(t)
	first := string(<-w.begun)
	eventually(t, "the upload is on record", func() bool { return b.authority.Describe().Authorities[0].Uploaded })
	for _, uris := range []keys.URIs{{Certificate: "file:///c", PrivateKey: "file:///k"}, {}} { // there and back
		c.change(func(s *actors.AuthoritySettings) { s.Custom = uris })
		c.clock.Advance(time.Minute)
		if pem := string(<-w.begun); len(pem) <= len(first) {
			t.Errorf("uploaded %s", pem)
		}
	}
	<-w.ended
	for range 15 * 24 { // until what the custom one signed has ended
		c.clock.Advance(time.Hour)
	}
	if string(b.PEM()) != first {
		t.Fatalf("authorities %s", b.PEM())
	}
	select {
	case <-w.ended:
	case <-time.After(10 * time.Second):
		t.Error("an upload goes on of what there is no more")
	}
	b.authority.Close()
	if len(w.begun) != 0 {
		t.Errorf("uploaded what the cloud has: %s", <-w.begun)
	}
}

// TestEachUploadIsRecorded: a successor that the cloud has issues ten minutes later, though
// the cloud refuses the one before it.
func TestEachUploadIsRecorded(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	c.config.Uploader = picky{}
	b := c.mustStart(t)
	c.change(func(s *actors.AuthoritySettings) { s.Type = ca.TypeRSA2048 })
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
