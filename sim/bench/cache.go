package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// cacheDecision measures what a broker's client costs for each message, while its copy of
// the permissions is good. For information: design.md holds nothing about it.
func cacheDecision(ctx context.Context, b *bench) (rows []Row, err error) {
	h, err := openHouse(ctx, b, 1, grantStatements, kindCloud{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	c, err := client.Connect(ctx, client.Config{Broker: brokerName, URL: h.core.server.URL(), Credentials: h.core.creds})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Ready(ctx); err != nil {
		return nil, err
	}
	session, err := c.Authenticate(ctx, string(h.devices[0].thing), h.devices[0].der)
	if err != nil {
		return nil, err
	}
	if _, err := session.Await(ctx); err != nil {
		return nil, err
	}
	list := statements(grantStatements)
	asked := topics(list, questions(list, h.devices[0].thing))
	engine, err := gatehouseEngine(list, h.devices[0].thing, asked)
	if err != nil {
		return nil, err
	}
	got, err := b.turns(ctx,
		side{name: "client", run: func(ctx context.Context, d time.Duration) (sample, error) { return publishes(ctx, d, session, asked) }},
		side{name: "policy", run: func(ctx context.Context, d time.Duration) (sample, error) { return spin(ctx, d, engine, asked) }})
	if err != nil {
		return nil, err
	}
	return []Row{
		speedup("cache", got[0], got[1], nil, nil),
		alone("cache/allocations", "", got[0], sample.allocations, nil, nil),
	}, nil
}

const topicPrefix = "mqtt:topic:"

// topics keeps the questions that are about publishing.
func topics(list []statement, asked []question) []question {
	var kept []question
	for i, q := range asked {
		if list[i].operation == publish && q.operation == publish {
			kept = append(kept, q)
		}
	}
	return kept
}

// publishes asks the session about the topics in turn for d.
func publishes(ctx context.Context, d time.Duration, s *client.Session, asked []question) (sample, error) {
	names := make([]string, len(asked))
	for i, q := range asked {
		names[i] = q.resource[len(topicPrefix):]
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ops, start := 0, time.Now()
	for took := time.Duration(0); took < d && ctx.Err() == nil; took = time.Since(start) {
		for range 64 / len(asked) {
			for i := range asked {
				if got := s.Publish(names[i]); (got == client.Allowed) != asked[i].allowed || got != client.Allowed && got != client.Denied {
					return sample{}, fmt.Errorf("publish to %s: %s", names[i], got)
				}
				ops++
			}
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return sample{ops: ops, took: took, allocs: float64((after.Mallocs - before.Mallocs) / uint64(max(ops, 1)))}, ctx.Err()
}
