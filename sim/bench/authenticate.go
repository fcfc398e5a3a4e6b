package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// grantStatements is how many statements apply to a device that connects: the answer
// spells them all, for the broker to decide by itself.
const grantStatements = 10

// fleetCount is how many devices connect: enough that in a round of measuring none opens
// more sessions than a device may hold, which would measure evictions.
const fleetCount = 4096

// house is a core with devices that it knows: each was verified while the cloud could be
// asked, and the cloud is away now.
type house struct {
	core    *core
	devices []device
	bodies  [][]byte // each device's authenticate request
}

// openHouse starts a core on disk, with a policy of so many statements for every device,
// and makes n devices known to it.
func openHouse(ctx context.Context, b *bench, n, statementsMax int, cloud actors.Cloud) (*house, error) {
	dir, err := b.folder("house")
	if err != nil {
		return nil, err
	}
	policy, err := policyDocument(statements(statementsMax))
	if err != nil {
		return nil, err
	}
	h := &house{}
	if h.devices, err = makeDevices(n); err != nil {
		return nil, err
	}
	for _, d := range h.devices {
		body, err := authapi.Encode(authapi.AuthenticateRequest{ClientID: string(d.thing), CertificatePEM: d.base64})
		if err != nil {
			return nil, err
		}
		h.bodies = append(h.bodies, body)
	}
	if h.core, err = startCore(ctx, dir, policy, cloud); err != nil {
		return nil, err
	}
	tokens, err := h.openAll(ctx)
	if err == nil {
		h.core.sys.SetNetwork(false)
		err = h.closeAll(ctx, tokens)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make devices known: %w", err), h.core.close())
	}
	return h, nil
}

func (h *house) close() error { return h.core.close() }

// each asks for all i below n, inFlight at a time.
func (h *house) each(ctx context.Context, n int, subject string, body func(i int) []byte, answer func(i int, body []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for w := range inFlight {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += inFlight {
				m, err := h.core.broker.Request(subject, body(i), patience)
				if err == nil {
					err = judged(m, w, i, func(_, i int, body []byte) error { return answer(i, body) })
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", subject, err))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// openAll opens a session for each device and returns the tokens.
func (h *house) openAll(ctx context.Context) ([]string, error) {
	tokens := make([]string, len(h.devices))
	err := h.each(ctx, len(tokens), authapi.Subject(brokerName, authapi.OpAuthenticate), func(i int) []byte { return h.bodies[i] },
		func(i int, body []byte) (err error) {
			tokens[i], err = h.admitted(i, body)
			return err
		})
	return tokens, err
}

// admitted reads the answer to device i's authenticate request.
func (h *house) admitted(i int, body []byte) (token string, err error) {
	reply, err := authapi.ParseGrantReply(body)
	if err != nil {
		return "", err
	}
	if !reply.IsConnectAuthorized || reply.ClientDeviceAuthToken == "" || reply.ThingName != string(h.devices[i].thing) {
		return "", fmt.Errorf("%s was answered with %s", h.devices[i].thing, body)
	}
	return reply.ClientDeviceAuthToken, nil
}

func (h *house) closeAll(ctx context.Context, tokens []string) error {
	bodies := make([][]byte, len(tokens))
	for i, token := range tokens {
		var err error
		if bodies[i], err = authapi.Encode(authapi.TokenOnlyRequest{ClientDeviceAuthToken: token}); err != nil {
			return err
		}
	}
	return h.each(ctx, len(bodies), authapi.Subject(brokerName, authapi.OpClose), func(i int) []byte { return bodies[i] },
		func(int, []byte) error { return nil })
}

// authenticate measures connecting known devices beside an echo.
func authenticate(ctx context.Context, b *bench) (rows []Row, err error) {
	h, err := openHouse(ctx, b, fleetCount, grantStatements, kindCloud{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	got, err := b.turns(ctx, h.connecting(), h.echo(func(i int) []byte { return h.bodies[i] }))
	if err != nil {
		return nil, err
	}
	return []Row{
		throughput("authenticate", got[0], got[1], atLeast(0.30), atLeast(0.6)),
		latency("authenticate/p99", got[0], got[1], nil, nil),
	}, nil
}

// connecting is the side that authenticates devices. The answers are kept as they came
// and judged when the clock stands, since the echo's are not read either.
func (h *house) connecting() side {
	var answers [inFlight][][]byte
	var before uint64
	return side{
		name: "authenticate",
		run: func(ctx context.Context, d time.Duration) (sample, error) {
			for w := range answers {
				answers[w] = answers[w][:0]
			}
			before = h.core.log.Head().Seq
			subject := authapi.Subject(brokerName, authapi.OpAuthenticate)
			return fly(ctx, h.core.broker, d,
				func(w, i int) (string, []byte) { return subject, h.bodies[nth(w, i, len(h.bodies))] },
				func(w, _ int, body []byte) error {
					answers[w] = append(answers[w], body)
					return nil
				})
		},
		settle: func(ctx context.Context) error {
			tokens, err := h.opened(&answers)
			if err != nil {
				return err
			}
			if n := h.core.log.Head().Seq - before; n < uint64(len(tokens)) {
				return fmt.Errorf("%d sessions were opened, the log grew by %d", len(tokens), n)
			}
			if err := h.closeAll(ctx, tokens); err != nil {
				return err
			}
			return drained(ctx, h.core.log)
		},
	}
}

// opened reads the tokens of all sessions of a round.
func (h *house) opened(answers *[inFlight][][]byte) ([]string, error) {
	var tokens []string
	for w := range answers {
		for i, body := range answers[w] {
			token, err := h.admitted(nth(w, i, len(h.bodies)), body)
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, token)
		}
	}
	return tokens, nil
}
