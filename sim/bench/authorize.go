package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// deviceCount is how many devices connect through the broker.
const deviceCount = 1000

// authorize measures decisions over NATS beside an echo.
func authorize(ctx context.Context, b *bench) (rows []Row, err error) {
	h, err := openHouse(ctx, b, deviceCount, statementCount, kindCloud{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	asked, err := h.authorizations(ctx)
	if err != nil {
		return nil, err
	}
	subject := authapi.Subject(brokerName, authapi.OpAuthorize)
	ours := side{name: "authorize", run: func(ctx context.Context, d time.Duration) (sample, error) {
		return fly(ctx, h.core.broker, d,
			func(w, i int) (string, []byte) { return subject, asked[nth(w, i, len(asked))].body },
			func(w, i int, body []byte) error { return asked[nth(w, i, len(asked))].check(body) })
	}}
	echo := h.echo(func(i int) []byte { return asked[i].body })
	got, err := b.turns(ctx, ours, echo)
	if err != nil {
		return nil, err
	}
	return []Row{
		throughput("authorize", got[0], got[1], atLeast(0.90), atLeast(0.98)),
		latency("authorize/p99", got[0], got[1], atMost(1.3), nil),
	}, nil
}

// nth spreads the workers' requests over n things, each worker through all of them.
func nth(w, i, n int) int { return (w*(n/inFlight+1) + i) % n }

// asked is an authorization as it is sent, and how the right answer begins: reading all
// of it would be work that the echo's asker does not have.
type asked struct {
	body   []byte
	answer []byte
}

func (a *asked) check(body []byte) error {
	if !bytes.HasPrefix(body, a.answer) {
		return fmt.Errorf("%s was answered with %s", a.body, body)
	}
	return nil
}

// echo is the side that sends bodies, one a device, to the echo and compares what comes
// back.
func (h *house) echo(body func(i int) []byte) side {
	n := len(h.devices)
	return side{name: "echo", run: func(ctx context.Context, d time.Duration) (sample, error) {
		return fly(ctx, h.core.asker, d,
			func(w, i int) (string, []byte) { return echoSubject, body(nth(w, i, n)) },
			func(w, i int, got []byte) error {
				if !bytes.Equal(got, body(nth(w, i, n))) {
					return fmt.Errorf("the echo of %s was %s", body(nth(w, i, n)), got)
				}
				return nil
			})
	}}
}

// authorizations opens a session for every device and makes one question for each, which
// is asked once before anything is measured.
func (h *house) authorizations(ctx context.Context) ([]asked, error) {
	tokens, err := h.openAll(ctx)
	if err != nil {
		return nil, err
	}
	list := statements(statementCount)
	all := make([]asked, len(h.devices))
	for i, d := range h.devices {
		q := questions(list, d.thing)[i%len(list)]
		all[i] = asked{
			authapi.AppendAuthorizeRequest(nil, tokens[i], q.operation, q.resource),
			fmt.Appendf(nil, `{"isAuthorized":%t,`, q.allowed),
		}
	}
	return all, h.each(ctx, len(all), authapi.Subject(brokerName, authapi.OpAuthorize), func(i int) []byte { return all[i].body },
		func(i int, body []byte) error {
			reply, err := authapi.ParseAuthorizeReply(body)
			if err == nil && (reply.PolicyRevision == 0 || reply.AsOf == 0) {
				err = fmt.Errorf("%s was answered with %s", all[i].body, body)
			}
			return errors.Join(err, all[i].check(body))
		})
}
