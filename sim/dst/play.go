package dst

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// Defaults of Options.
const (
	keepTraceDefault = 40
	samplesDefault   = 240
)

// Run makes up a plan and plays it.
func Run(ctx context.Context, c Config, o Options) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return Play(ctx, PlanOf(c), o)
}

// Play plays a plan, until it is over or an invariant does not hold. An error is the
// simulator's own, or ctx's; what came of the plan until then comes with ctx's.
func Play(ctx context.Context, p *Plan, o Options) (r *Result, err error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if o.KeepTrace == 0 {
		o.KeepTrace = keepTraceDefault
	}
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("seed %d: the simulator failed: %v\n%s", p.Seed, x, debug.Stack())
		}
	}()
	play := func(keep int) (*Result, error) {
		return playOn(ctx, p, o, func(w Witness) Stage {
			m := NewSim(p, w, keep)
			m.store.far = o.Far
			return m
		})
	}
	if r, err = play(0); err != nil || r.Violation == nil || o.KeepTrace < 0 {
		return r, err
	}
	// To tell every step in words takes as long as the steps do: only what went wrong is told,
	// in a second play, which is the same.
	o.Progress = nil
	return play(o.KeepTrace)
}

// playOn plays a plan on a stage.
func playOn(ctx context.Context, p *Plan, o Options, build func(Witness) Stage) (*Result, error) {
	obs := newObserver(p)
	early := &prologue{obs: obs}
	obs.stage = early
	stage := build(obs)
	early.stage, obs.stage = stage, stage
	defer stage.Close()
	x := &player{ctx: ctx, plan: p, o: o, stage: stage, obs: obs, whole: p.Duration + livenessMax(p)}
	if o.Samples >= 0 {
		n := o.Samples
		if n == 0 {
			n = samplesDefault
		}
		x.every = max(x.whole/time.Duration(n), time.Second)
	}
	x.play()
	obs.stage = stage
	r := x.result()
	if log := stage.Log(); obs.apart != nil && !x.stop {
		stage.Close()
		obs.core = nil
		obs.foldedApart(log)
		r.Violation, r.Counts = obs.violation, obs.counted()
	}
	return r, ctx.Err()
}

// prologue stands for the stage while that is being built, and things happen already.
type prologue struct {
	Stage
	stage Stage
	obs   *observer
}

// Now implements Stage.
func (*prologue) Now() time.Duration { return 0 }

// Steps implements Stage.
func (*prologue) Steps() uint64 { return 0 }

// Last implements Stage.
func (*prologue) Last() []string { return nil }

// player plays one plan.
type player struct {
	ctx   context.Context
	plan  *Plan
	o     Options
	stage Stage
	obs   *observer
	whole time.Duration

	every  time.Duration // between samples; 0: none
	sample time.Duration // the next
	steps  uint64
	stop   bool
	series []Sample
	extra  int // actions that are not the plan's
	talker int // the device that said something last, while all are to stay
}

// lookEvery is how many steps there are between two looks at the context.
const lookEvery = 1 << 12

// to lets the world go on until at. It reports false when the run is over: an invariant
// does not hold, or nobody wants to know any more.
func (x *player) to(at time.Duration) bool {
	for !x.stop && x.stage.Step(at) {
		x.obs.stepped()
		if x.obs.violation != nil {
			x.stop = true
		}
		if x.steps++; x.steps%lookEvery == 0 {
			x.look()
		}
		if x.every > 0 && x.stage.Now() >= x.sample {
			x.sampled()
		}
	}
	return !x.stop
}

// look looks up from the work.
func (x *player) look() {
	if x.ctx.Err() != nil {
		x.stop = true
	}
	if x.o.Progress != nil {
		x.obs.counts.Checks = nil
		x.o.Progress(Progress{Virtual: x.stage.Now(), Whole: x.whole, Steps: x.stage.Steps(), Counts: &x.obs.counts})
	}
}

// do has an action happen now.
func (x *player) do(a *Action) {
	x.obs.acted(a)
	x.stage.Do(a)
	x.stop = x.stop || x.obs.violation != nil
}

func (x *player) play() {
	src := newSource(x.plan, x.obs.isIn)
	for at, more := src.when(); more; at, more = src.when() {
		if !x.to(at) {
			return
		}
		a := *src.next()
		x.do(&a)
	}
	if !x.to(x.plan.Duration) {
		return
	}
	if x.plan.Mode != Safety {
		x.demand()
	}
	if !x.stop {
		x.obs.verified()
	}
}

func (x *player) result() *Result {
	if x.every > 0 {
		x.sampled()
	}
	return &Result{
		Plan: x.plan, Trace: x.stage.Trace(), Steps: x.stage.Steps(), Events: x.obs.log.seq, Virtual: x.stage.Now(),
		Violation: x.obs.violation, Counts: x.obs.counted(), Series: x.series,
	}
}
