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

// A request is what worker w sends as its i-th in a round.
type requests func(w, i int) (subject string, body []byte)

// fly keeps inFlight requests under way on conn for d. Each worker sends its next when
// the last is answered. check, if set, judges each answer.
func fly(ctx context.Context, conn *nats.Conn, d time.Duration, next requests, check func(w, i int, body []byte) error) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([][]time.Duration, inFlight)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range inFlight {
		wg.Go(func() {
			took := make([]time.Duration, 0, 1<<12)
			for i := 0; ctx.Err() == nil; i++ {
				at := time.Now()
				if at.Sub(start) >= d {
					break
				}
				subject, body := next(w, i)
				m, err := conn.Request(subject, body, patience)
				if err == nil {
					took = append(took, time.Since(at))
					err = judged(m, w, i, check)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", subject, err))
				}
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

func judged(m *nats.Msg, w, i int, check func(w, i int, body []byte) error) error {
	if name, micro := m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode); name != "" || micro != "" {
		return errors.Join(authapi.ReadError(name, micro, m.Data), fmt.Errorf("refused: %s", m.Data))
	}
	if check == nil {
		return nil
	}
	return check(w, i, m.Data)
}
