package actors_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestReadersBesideAcknowledgements: who looks at the authorities reads a state that nobody
// changes, while many holders acknowledge. It is the race detector's to judge.
func TestReadersBesideAcknowledgements(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	var acknowledge []func()
	for i := range 40 {
		w := newSubscriber(t).want(fmt.Sprintf("b%d", i), ca.Server)
		w.Deliver = func(d actors.Delivery) { acknowledge = append(acknowledge, d.Acknowledge) }
		if _, err := b.authority.Subscribe(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		done := make(chan struct{})
		var writers, reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					b.authority.PEM()
				}
			}
		})
		for _, a := range acknowledge {
			writers.Go(a)
		}
		writers.Wait()
		close(done)
		reader.Wait()
		acknowledge = nil
		if err := b.authority.Rotate(t.Context(), "again"); err != nil {
			t.Fatal(err)
		}
	}
	for _, info := range b.authority.Describe().Certificates[1:] { // the first is the embedded broker's
		if info.Delivered {
			t.Errorf("%s: the last is delivered, though nobody said so", info.Subscriber)
		}
	}
}

// TestViewWaitsForNoRead: a disk that does not answer holds up the plan, and nobody who
// looks.
func TestViewWaitsForNoRead(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	reads, gate := make(chan struct{}, 1), make(chan struct{})
	c.log.OnRead(func(stream messages.StreamID) {
		if stream == messages.StreamCA {
			reads <- struct{}{}
			<-gate
		}
	})
	b.authority.Wake()
	<-reads
	seen := make(chan actors.AuthorityStatus, 1)
	go func() { seen <- b.authority.Describe() }()
	select {
	case s := <-seen:
		if len(s.Authorities) != 1 || !s.Authorities[0].Issues {
			t.Errorf("%+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the log")
	}
	c.log.OnRead(nil)
	close(gate)
}
