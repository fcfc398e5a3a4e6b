package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// An engine decides the questions it was made for, by their number.
type engine struct {
	name   string
	decide func(i int) (bool, error)
}

// decision measures the policy engine in process beside other policy engines.
func decision(ctx context.Context, b *bench) ([]Row, error) {
	const thing messages.ThingName = "pump-0007"
	list := statements(statementCount)
	asked := questions(list, thing)
	ours, err := gatehouseEngine(list, thing, asked)
	if err != nil {
		return nil, err
	}
	engines := []engine{ours}
	for _, make := range []func(context.Context, []statement, messages.ThingName, []question) (engine, error){cedarEngine, casbinEngine, opaEngine} {
		e, err := make(ctx, list, thing, asked)
		if err != nil {
			return nil, err
		}
		engines = append(engines, e)
	}
	if err := agree(engines, asked); err != nil {
		return nil, err
	}
	sides := make([]side, len(engines))
	for i, e := range engines {
		sides[i] = side{name: e.name, run: func(ctx context.Context, d time.Duration) (sample, error) { return spin(ctx, d, e, asked) }}
	}
	got, err := b.turns(ctx, sides...)
	if err != nil {
		return nil, err
	}
	var rows []Row
	fastest := 1
	for i := range engines[1:] {
		rows = append(rows, speedup("decision/"+engines[i+1].name, got[0], got[i+1], nil, nil))
		if median(each(got[i+1], sample.each)) < median(each(got[fastest], sample.each)) {
			fastest = i + 1
		}
	}
	held := speedup("decision/fastest-peer", got[0], got[fastest], atLeast(5), atLeast(20))
	held.Note = "the fastest is " + engines[fastest].name
	return append(rows, held,
		alone("decision/time", "ns", got[0], sample.each, atMost(1000), atMost(200)),
		alone("decision/allocations", "", got[0], sample.allocations, atMost(0), atMost(0))), nil
}

// agree asks every engine every question: what is compared must do the same.
func agree(engines []engine, asked []question) error {
	var errs []error
	for _, e := range engines {
		for i, q := range asked {
			if allowed, err := e.decide(i); err != nil || allowed != q.allowed {
				errs = append(errs, fmt.Errorf("%s: %s %s: allowed is %t, want %t (error: %v)", e.name, q.operation, q.resource, allowed, q.allowed, err))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// spin asks the questions in turn for d, on this goroutine.
func spin(ctx context.Context, d time.Duration, e engine, asked []question) (sample, error) {
	const stride = 31 // no two in a row are neighbours; prime to the number of questions
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ops, at, start := 0, 0, time.Now()
	for took := time.Duration(0); took < d && ctx.Err() == nil; took = time.Since(start) {
		for range 64 { // the clock costs a part of a decision
			if at += stride; at >= len(asked) {
				at %= len(asked)
			}
			if allowed, err := e.decide(at); err != nil || allowed != asked[at].allowed {
				return sample{}, fmt.Errorf("%s: allowed is %t, %w", asked[at].resource, allowed, err)
			}
			ops++
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	// What the runtime itself allocates in a round is not the engine's: whole numbers count.
	return sample{ops: ops, took: took, allocs: float64((after.Mallocs - before.Mallocs) / uint64(ops))}, ctx.Err()
}

// gatehouseEngine is ours: what applies to a thing is worked out once for each session.
func gatehouseEngine(list []statement, thing messages.ThingName, asked []question) (engine, error) {
	text, err := policyDocument(list)
	if err != nil {
		return engine{}, err
	}
	doc, err := policy.Parse(text, policy.Options{File: "bench"})
	if err != nil {
		return engine{}, err
	}
	applies := policy.Compile(doc).For(thing)
	operations, resources := make([][]byte, len(asked)), make([][]byte, len(asked))
	for i, q := range asked {
		operations[i], resources[i] = []byte(q.operation), []byte(q.resource)
	}
	return engine{"gatehouse", func(i int) (bool, error) {
		d := applies.EvaluateBytes(operations[i], resources[i])
		return d.Allowed, d.Err
	}}, nil
}
