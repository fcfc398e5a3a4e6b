package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// inFlight is how many requests, or writers, are under way at once.
const inFlight = 64

// work has inFlight workers call step, each again when it returns, for d. step gets the
// worker's number and how many it has done in this round; it says when what is measured
// was done. The first error ends the round.
func work(ctx context.Context, d time.Duration, step func(w, i int) (done time.Time, err error)) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([][]time.Duration, inFlight)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range inFlight {
		wg.Go(func() {
			took := make([]time.Duration, 0, 1<<14)
			for i := 0; ctx.Err() == nil; i++ {
				at := time.Now()
				if at.Sub(start) >= d {
					break
				}
				done, err := step(w, i)
				if err != nil {
					cancel(err)
					break
				}
				took = append(took, done.Sub(at))
			}
			latencies[w] = took
		})
	}
	wg.Wait()
	s := sample{took: time.Since(start)}
	for _, took := range latencies {
		s.latencies = append(s.latencies, took...)
	}
	s.ops = len(s.latencies)
	return s, context.Cause(ctx)
}

// requests says what worker w sends as its i-th in a round.
type requests func(w, i int) (subject string, body []byte)

// fly keeps inFlight requests under way on conn for d. check, if set, judges each answer
// after its latency was taken.
func fly(ctx context.Context, conn *nats.Conn, d time.Duration, next requests, check func(w, i int, body []byte) error) (sample, error) {
	return work(ctx, d, func(w, i int) (time.Time, error) {
		subject, body := next(w, i)
		m, err := conn.Request(subject, body, patience)
		done := time.Now()
		if err == nil {
			err = judged(m, w, i, check)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", subject, err)
		}
		return done, err
	})
}

func judged(m *nats.Msg, w, i int, check func(w, i int, body []byte) error) error {
	if name, micro := m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode); name != "" || micro != "" {
		return errors.Join(authapi.ReadError(name, micro, m.Data), fmt.Errorf("refused: %s", m.Data))
	}
	if check == nil {
		return nil
	}
	return check(w, i, m.Data)
}
