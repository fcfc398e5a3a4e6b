package eventlogtest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func testFollow(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	defer l.Close()
	const before, after = 150, 250
	for i := range before {
		MustAppend(t, l, Device(i), 0, 1)
	}
	var wg sync.WaitGroup
	for _, from := range []uint64{0, 1, 77, before, before + 1, before + 40} {
		wg.Go(func() {
			next := max(from, 1)
			for rec, err := range l.Follow(context.Background(), from) {
				if err != nil || rec.Seq != next {
					t.Errorf("follow from %d: got %d, want %d; error %v", from, rec.Seq, next, err)
					return
				}
				if next++; next > before+after {
					return
				}
			}
			t.Errorf("follow from %d ended at %d without a word", from, next)
		})
	}
	for i := range after {
		MustAppend(t, l, Device(before+i), 0, 1)
	}
	wg.Wait()
}

func testFollowEnds(t *testing.T, open Open) {
	l := open(t, eventlog.Options{})
	MustAppend(t, l, Device(1), 0, 3)
	end := func(ctx context.Context, from uint64, seen chan<- messages.Record) error {
		for rec, err := range l.Follow(ctx, from) {
			if err != nil {
				return err
			}
			seen <- rec
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen, ended := make(chan messages.Record), make(chan error)
	go func() { ended <- end(ctx, 2, seen) }()
	<-seen
	<-seen
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("follow after cancel: got %v, want context.Canceled", err)
	}
	go func() { ended <- end(t.Context(), 1, seen) }()
	for range 3 {
		<-seen
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("follow after Close: got %v, want ErrClosed", err)
	}
}
